"""``postback find``: what has become of events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Final

import click

from postback._events.event import EVENTS
from postback.cli.lives import clock, show
from postback.cli.output import say_error
from postback.cli.parameters import Name, age, example, target
from postback.cli.terminal import Terminal, plain
from postback.cli.wording import counted
from postback.journal.life import STATES, Found
from postback.journal.query import Query
from postback.journal.records import Gap
from postback.operations.find import actions as find_actions
from postback.operations.find import find as find_events
from postback.operations.find import journal_of
from postback.operations.sites import sites
from postback.wire.time import iso

#: Events that are shown if no ``--limit`` is given.
SHOWN: Final = 20
#: Width of an action's name, in columns.
ACTION: Final = 6


def _name(text: str) -> str:
    if not text.strip():
        raise click.BadParameter("it is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("it is not UTF-8") from None
    return text


@click.command(
    epilog=example(
        "postback find --id 5c1b3a52-64a5-4cb5-8a4e-9c5f0b7a1e11",
        "postback find --key order-17",
        "postback find --user 987654321 --since 2d",
        "postback find --account tgtrack.main --outcome dead --json",
        "postback find --actions --since 1d",
    )
)
@click.option("--id", "ids", multiple=True, type=_name, metavar="ID", help="This event; may be repeated.")
@click.option("--key", type=_name, metavar="K", help="The idempotency key as its producer wrote it.")
@click.option("--user", type=_name, metavar="ID", help="A person's id at the provider: user_id, telegramUserId …")
@click.option("--account", "place", type=target, metavar="PROVIDER[.ACCOUNT]", help="Only of this account.")
@click.option("--task", type=Name("event", EVENTS), metavar="T", help="Only such events: tgtrack.add_event.")
@click.option(
    "--outcome", type=Name("outcome", STATES), metavar="STATE", help=f"Only in this state: {', '.join(STATES)}."
)
@click.option("--since", type=age, metavar="AGE", help="Only those to which something happened since: 90m, 12h, 2d.")
@click.option(
    "--limit", type=click.IntRange(1), default=SHOWN, metavar="N", help="The latest N events.", show_default=True
)
@click.option(
    "--actions", "of_operators", is_flag=True, help="What operators did (pause, replay, drop …) in place of events."
)
@click.option("--live", is_flag=True, help="Look in Redis alone, without the journal's database.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, with ids of people and keys in full.")
@click.pass_obj
def find(
    environ: Mapping[str, str],
    ids: tuple[str, ...],
    key: str | None,
    user: str | None,
    place: str | None,
    task: str | None,
    outcome: str | None,
    since: float | None,
    limit: int,
    of_operators: bool,
    live: bool,
    as_json: bool,
) -> int:
    """Show what became of events, attempt by attempt.

    Without an option: the latest events. All conditions must hold. It looks in Redis, then in the
    journal. Ids of people and keys are shortened unless you ask for one.
    """
    provider, _, account = (place or "").partition(".")
    now = datetime.now(UTC)
    query = Query(
        frozenset(ids),
        key,
        user,
        provider or None,
        account or None,
        task,
        outcome,
        None if since is None else now.timestamp() * 1000 - since * 1000,
        limit,
    )
    terminal = Terminal()
    if of_operators:
        if query.names_events or task or outcome:
            raise click.UsageError(
                "--actions goes with --account, --since and --limit only", click.get_current_context()
            )
        return _show_actions(terminal, environ, place or "", query, live=live, as_json=as_json)
    found = _search(terminal, environ, query, live=live)
    for record in found:
        if as_json:
            click.echo(json.dumps(record.as_json()))
        else:
            show(record, now, terminal, whole_user=user is not None, whole_key=query.names_events)
    if not as_json:
        _summarize(found, query, terminal)
    return _missing(found, query, live=live)


def _show_actions(
    terminal: Terminal, environ: Mapping[str, str], place: str, query: Query, *, live: bool, as_json: bool
) -> int:
    """What operators did, the latest first."""
    places = sites(environ, None if query.provider is None else [query.provider])
    with nullcontext() if live else journal_of(environ) as journal:
        done, gaps = find_actions(places, journal, place, query.since_ms)
    for action in done[: query.limit]:
        if as_json:
            shown = {"at": iso(action.at_ms), "action": action.action, "who": action.who, "place": action.place}
            click.echo(json.dumps({**shown, "detail": action.detail}))
        else:
            at = clock(datetime.fromtimestamp(action.at_ms / 1000, UTC))
            words = f"{action.action.ljust(ACTION)}  {action.place}  {action.who}"
            terminal.say(at, "  ", words, f"  {action.detail}" if action.detail else "")
    if not as_json:
        if len(done) > (query.limit or 0):
            terminal.say((f"… and more; --limit N shows more than {query.limit}", "dim"))
        elif not done:
            terminal.say("no action of an operator")
        for gap in gaps:
            terminal.say((_gap_sentence(gap), "yellow"))
    return 0


def _search(terminal: Terminal, environ: Mapping[str, str], query: Query, *, live: bool) -> Found:
    """Search; a terminal shows where it is."""
    places = sites(environ, None if query.provider is None else [query.provider])
    with nullcontext() if live else journal_of(environ) as journal, terminal.status("", spinner="line") as shown:
        return find_events(
            places,
            query,
            journal,
            progress=lambda place, count: shown.update(plain(f"looking through {place}: {count:,}")),
        )


def _summarize(found: Found, query: Query, terminal: Terminal) -> None:
    if found.more:
        terminal.say((f"… and more; --limit N shows more than {query.limit}", "dim"))
    elif not found and not query.names_events:
        terminal.say("no such event")
    for gap in found.gaps:
        terminal.say((_gap_sentence(gap), "yellow"))


def _gap_sentence(gap: Gap) -> str:
    when = f"from {iso(gap.since_ms)} to {iso(gap.until_ms)}"
    return f"the journal lacks {counted(gap.lost, 'record')} of {gap.provider} {when}: some of this may be missing here"


def _missing(found: Found, query: Query, *, live: bool) -> int:
    """The exit code; what was asked for by name and not found is an error."""
    where = "in Redis; the journal was not asked" if live else "in Redis or in the journal"
    if found.missing:
        say_error(f"no such event has the id {', '.join(sorted(found.missing))} {where}")
    elif not found and query.names_events:
        say_error(f"no such event {where}")
    return 1 if found.missing or (not found and query.names_events) else 0
