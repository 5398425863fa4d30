"""``postback sandbox``: the providers on this machine. Imported only when it is asked for."""

from __future__ import annotations

import argparse

from postback.cli.arguments import Commands, command
from postback.cli.terminal import Console


def add(commands: Commands, given: list[str]) -> None:
    """Declare the command; its options are the sandbox's own."""
    parser = command(
        commands,
        "sandbox",
        "Serve the providers locally, as their documents describe them.",
        "postback sandbox --port 8900 --latency-ms 20-300",
        run,
    )
    # The sandbox's own command reads what follows, `--help` as well.
    rest = argparse.Namespace(rest=given[1:], run=run)
    parser.parse_known_args = lambda args=None, namespace=None: (rest, [])  # type: ignore[assignment,method-assign]


def run(args: argparse.Namespace, console: Console) -> int:
    """Serve until Ctrl-C."""
    from postback.sandbox.cli import command as sandbox

    code: int = sandbox(args.rest, prog_name="postback sandbox")
    return code
