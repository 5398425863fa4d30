"""``postback erase``: a person's events, from everything that waits, and the answers about them."""

from __future__ import annotations

import json
from collections.abc import Mapping

import click
from rich.table import Table

from postback.cli.parameters import DRY_RUN, YES, can_ask, example
from postback.cli.terminal import Terminal, plain
from postback.cli.wording import counted
from postback.operations.erasure import Erased
from postback.operations.erasure import erase as erase_person
from postback.operations.sites import sites


def _person(text: str) -> str:
    if not text.strip():
        raise click.BadParameter("it is empty")
    return text


@click.command(epilog=example("postback erase --user 987654321 --dry-run", "postback erase --user 987654321 --yes"))
@click.option(
    "--user",
    metavar="ID",
    required=True,
    type=_person,
    help="The id at the provider: user_id, telegramUserId, customUserId, a wallet's address, a device's id.",
)
@DRY_RUN
@YES
@click.option("--json", "as_json", is_flag=True, help="One JSON document; only with --yes or --dry-run.")
@click.pass_obj
def erase(environ: Mapping[str, str], user: str, dry_run: bool, is_sure: bool, as_json: bool) -> int:
    """Remove a person's events and the results about them.

    Events are removed from the queues, delayed sets and dead letters of all accounts. The command
    shows how many there are and where, then asks.
    """
    terminal = Terminal()
    if not (dry_run or is_sure) and (as_json or not can_ask()):
        raise click.UsageError(
            "this would remove a person's events for good: add --yes, or --dry-run to look", click.get_current_context()
        )
    if not (dry_run or is_sure):
        seen = _search(terminal, environ, user, dry_run=True)
        _show(terminal, seen, "would be erased")
        parts = [counted(seen.total, "event")] * bool(seen.total) + [counted(seen.results, "result")] * bool(
            seen.results
        )
        if not parts:
            return 0
        if not click.confirm(f"Erase {' and '.join(parts)}?"):
            terminal.say("nothing erased")
            return 1
    done = _search(terminal, environ, user, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, **done.as_json()}))
    else:
        _show(terminal, done, "would be erased" if dry_run else "erased")
    return 0


def _search(terminal: Terminal, environ: Mapping[str, str], user: str, *, dry_run: bool) -> Erased:
    """Look through all Redis servers; a terminal shows where it is."""
    total = Erased()
    with terminal.status("", spinner="line") as shown:
        for site in sites(environ):
            with site.asked() as client:
                total += erase_person(
                    client,
                    user,
                    site.providers,
                    dry_run=dry_run,
                    begin=lambda place: shown.update(plain(f"looking through {place}")),
                )
    return total


def _show(terminal: Terminal, erased: Erased, what: str) -> None:
    places = Table.grid("", "", padding=(0, 0, 0, 2))
    for place, count in sorted(erased.by_place.items()):
        places.add_row(plain(place), f"{count:,}")
    if erased.by_place:
        terminal.print(places)
    terminal.say(f"{counted(erased.total, 'event')} {what}, and {counted(erased.results, 'result')}")
    if erased.in_flight:
        terminal.say(
            f"{counted(erased.in_flight, 'event')} on the wire now not included: one that fails is queued again, "
            "so run this once more in a minute"
        )
    else:
        terminal.say("no event of this person is on the wire now")
