"""``postback erase``: a person's events, from everything that waits, and the answers about them."""

from __future__ import annotations

from collections.abc import Mapping

import click
from rich.table import Table

from postback.cli.parameters import example
from postback.cli.terminal import Terminal, plain
from postback.cli.wording import counted
from postback.operations import erasure
from postback.operations.sites import sites


@click.command(epilog=example("postback erase --user 987654321"))
@click.option(
    "--user",
    metavar="ID",
    required=True,
    help="user_id, telegramUserId, customUserId, a wallet's or a device's, as the provider knows it.",
)
@click.pass_obj
def erase(environ: Mapping[str, str], user: str) -> int:
    """Remove a person's events and the results about them.

    Events go from queues, delayed sets and dead letters of all accounts. It says how many they
    were.
    """
    terminal = Terminal()
    total = erasure.Erased()
    with terminal.status("", spinner="line") as shown:
        for site in sites(environ):
            with site.asked() as client:
                total += erasure.erase(
                    client, user, site.providers, begin=lambda place: shown.update(plain(f"looking through {place}"))
                )
    places = Table.grid("", "", padding=(0, 0, 0, 2))
    for place, count in sorted(total.by_place.items()):
        places.add_row(plain(place), f"{count:,}")
    if total.by_place:
        terminal.print(places)
    terminal.say(f"{counted(total.total, 'event')} erased, and {counted(total.results, 'result')}")
    if total.in_flight:
        terminal.say(
            f"{counted(total.in_flight, 'event')} on the wire just now not included: one that fails is queued again, "
            "so run this once more in a minute"
        )
    else:
        terminal.say("Events on the wire are not included; there is none of this person just now")
    return 0
