"""``postback pause`` and ``postback resume``."""

from __future__ import annotations

import argparse

from postback.cli.arguments import Commands, command
from postback.cli.connections import site_of
from postback.cli.terminal import Console, counted
from postback.operations import pauses
from postback.operations.queues import select


def add(commands: Commands, given: list[str]) -> None:
    """Declare the commands."""
    stop = command(
        commands,
        "pause",
        "Hold an account's events until it is resumed; no quota is spent meanwhile.",
        'postback pause tgtrack.main --detail "new key is on its way"\npostback pause tgtrack',
        run_pause,
    )
    stop.add_argument("--detail", metavar="TEXT", default="", help="a few words that status shows")
    go = command(
        commands,
        "resume",
        "End an account's pause, whatever its reason; one request goes first.",
        "postback resume tgtrack.main",
        run_resume,
    )
    for parser in (stop, go):
        parser.add_argument("target", metavar="PROVIDER[.ACCOUNT]", help="an account, or all accounts of a provider")


def run_pause(args: argparse.Namespace, console: Console) -> int:
    """Pause it."""
    with site_of(args.target.partition(".")[0]).asked() as client:
        for queue in select(client, args.target):
            done = pauses.pause(client, queue, args.detail)
            told = "paused" if done.changed else f"was already paused ({done.reason})"
            console.line(f"{queue} {told}; its events wait until `postback resume {queue}`")
    return 0


def run_resume(args: argparse.Namespace, console: Console) -> int:
    """Resume it."""
    with site_of(args.target.partition(".")[0]).asked() as client:
        for queue in select(client, args.target):
            done = pauses.resume(client, queue)
            told = f"resumed (it was paused: {done.reason})" if done.was_paused else "was not paused"
            released = f"; {counted(done.released, 'event')} held aside go first" if done.released else ""
            console.line(f"{queue} {told}{released}")
    return 0
