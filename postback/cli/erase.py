"""``postback erase``: a person's events, from everything that waits, and the answers about them."""

from __future__ import annotations

import argparse

from postback.cli.arguments import Commands, command
from postback.cli.connections import sites
from postback.cli.terminal import Console, counted
from postback.operations.erasure import Erased, erase


def add(commands: Commands, given: list[str]) -> None:
    """Declare the command."""
    parser = command(
        commands,
        "erase",
        "Remove a person's events from queues, delayed sets and dead letters of all accounts, and results, and say how many.",
        "postback erase --user 987654321",
        run,
    )
    parser.add_argument(
        "--user",
        metavar="ID",
        required=True,
        help="user_id, telegramUserId, customUserId, a wallet's or a device's, as the provider knows it",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Erase them."""
    total = Erased()
    for site in sites():
        with site.asked() as client:
            total += erase(client, args.user, site.providers)
    for place, count in sorted(total.by_place.items()):
        console.line(f"  {place}  {count:,}")
    console.line(f"{counted(total.total, 'event')} erased, and {counted(total.results, 'result')}")
    if total.in_flight:
        console.line(
            f"{counted(total.in_flight, 'event')} on the wire just now not included: one that fails is queued again, "
            "so run this once more in a minute"
        )
    else:
        console.line("Events on the wire are not included; there is none of this person just now")
    return 0
