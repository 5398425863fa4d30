"""``postback sandbox``: the five providers on this machine. Imported only when it is asked for."""

from __future__ import annotations

import argparse

from postback.cli.arguments import Commands, command
from postback.cli.terminal import Console


def add(commands: Commands, given: list[str]) -> None:
    """Declare the command; its options are the sandbox's own."""
    parser = command(
        commands,
        "sandbox",
        "Serve the five providers locally, as their documents describe them.",
        "postback sandbox --port 8900 --latency-ms 20-300",
        run,
    )
    if given[:1] == ["sandbox"]:
        from postback.sandbox.cli import add_arguments

        add_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Serve until Ctrl-C."""
    from postback.sandbox.cli import run as serve

    return serve(args)
