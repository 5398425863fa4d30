"""``postback dead list | replay | drop``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Final

import click
import redis
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from postback._events.event import EVENTS
from postback.cli.groups import Commands
from postback.cli.output import clean, say_error
from postback.cli.parameters import age, example
from postback.cli.terminal import WIDTH, Terminal, assemble, plain
from postback.cli.wording import counted, duration, short_duration
from postback.operations import deadletters, status
from postback.operations.deadletters import Moved
from postback.operations.letters import Filter, Letter
from postback.operations.queues import providers
from postback.operations.sites import Site, site_of
from postback.wire import keys
from postback.wire.time import moment, redis_now_ms

#: Letters that are shown if no ``--limit`` is given.
SHOWN: Final = 50
#: Longest text about a letter, in characters.
ABOUT: Final = 300

_DRY_RUN: Final = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


def _choosing(command: Callable[..., int]) -> Callable[..., int]:
    """A command with PROVIDER and the options that say which of its dead letters.

    It takes a Filter for them.
    """

    @click.argument("provider", type=click.Choice(providers()), metavar="PROVIDER")
    @click.option("--id", "ids", multiple=True, metavar="ID", help="This event; may be repeated.")
    @click.option("--reason", "reasons", multiple=True, metavar="R", help="This reason; may be repeated.")
    @click.option("--account", metavar="A", help="Of this account.")
    @click.option("--older-than", type=age, metavar="AGE", help="Dead for longer than 45s, 90m, 12h, 30d, 2w.")
    @click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many, the oldest first.")
    @click.pass_obj
    @wraps(command)
    def with_filter(
        environ: Mapping[str, str],
        /,
        provider: str,
        ids: tuple[str, ...],
        reasons: tuple[str, ...],
        account: str | None,
        older_than: float | None,
        limit: int | None,
        **options: bool,
    ) -> int:
        chosen = Filter(frozenset(ids), frozenset(reasons), account, older_than, limit)
        return command(environ, provider, chosen, **options)

    return with_filter


@click.group(
    cls=Commands,
    no_args_is_help=False,
    epilog=example(
        "postback dead list tgtrack --reason rejected", "postback dead replay tgtrack --older-than 1h --dry-run"
    ),
)
def dead() -> None:
    """List, replay or drop dead letters."""


@dead.command("list", epilog=example("postback dead list tgtrack --account main --json"))
@_choosing
@click.option("--json", "as_json", is_flag=True, help="One object a line, with the whole event.")
def list_letters(environ: Mapping[str, str], provider: str, chosen: Filter, as_json: bool) -> int:
    """Show dead letters, the oldest first.

    People's data is shortened.
    """
    with site_of(provider, environ).asked() as client:
        if not as_json:
            return _list(client, provider, chosen)
        is_empty = True
        for letter in deadletters.letters(client, provider, chosen):
            click.echo(json.dumps(letter.as_json()))
            is_empty = False
    return _missing(provider, chosen.ids) if is_empty else 0


@dead.command(epilog=example("postback dead replay tgtrack --reason exhausted --dry-run"))
@_choosing
@_DRY_RUN
def replay(environ: Mapping[str, str], provider: str, chosen: Filter, dry_run: bool) -> int:
    """Put dead letters back into their queues.

    The oldest go first. The quota holds for them.
    """
    terminal, site = Terminal(), site_of(provider, environ)
    with site.asked() as client, _progress(terminal, client, provider) as advance:
        moved = deadletters.replay(client, provider, chosen, dry_run=dry_run, progress=advance)
    terminal.say(f"{counted(moved.total, 'dead letter')} {'would be replayed' if dry_run else 'replayed'}")
    if moved.expired:
        whose = "its" if moved.expired == 1 else "their"
        terminal.say(f"  {moved.expired:,} had expired: {whose} `expires` has passed and is taken off")
    for line in _forecast(site, moved, dry_run):
        terminal.say(line)
    return _missing(provider, moved.missing)


@dead.command(epilog=example("postback dead drop tgtrack --older-than 30d"))
@_choosing
@_DRY_RUN
@click.option("--yes", "--all", "is_sure", is_flag=True, help="Do not ask, even if everything is to go.")
def drop(environ: Mapping[str, str], provider: str, chosen: Filter, dry_run: bool, is_sure: bool) -> int:
    """Delete dead letters for good."""
    terminal = Terminal()
    with site_of(provider, environ).asked() as client:
        if chosen.is_empty and not is_sure and not dry_run:
            total = min(client.llen(keys.dead(provider)), chosen.limit or sys.maxsize)
            if total and not sys.stdin.isatty():
                say_error(f"this would drop all dead letters of {provider}: add --yes, or a filter")
                return 2
            if total and not click.confirm(f"Drop {counted(total, 'dead letter')} of {provider} for good?"):
                terminal.say("nothing dropped")
                return 1
        with _progress(terminal, client, provider) as advance:
            moved = deadletters.drop(client, provider, chosen, dry_run=dry_run, progress=advance)
    terminal.say(f"{counted(moved.total, 'dead letter')} {'would be dropped' if dry_run else 'dropped'}")
    return _missing(provider, moved.missing)


@contextmanager
def _progress(terminal: Terminal, client: redis.Redis, provider: str) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal while letters are looked at; nothing in a pipe."""
    if not terminal.is_interactive:
        yield lambda count: None
        return
    shown = (TextColumn("dead letters", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*shown, console=terminal, transient=True) as progress:
        task = progress.add_task("", total=client.llen(keys.dead(provider)))
        yield lambda count: progress.advance(task, count)


def _missing(provider: str, ids: frozenset[str]) -> int:
    """The exit code; ids that were asked for and not found are an error."""
    if ids:
        shown = ", ".join(identity if len(identity) <= 64 else f"{identity[:63]}…" for identity in sorted(ids))
        say_error(f"no dead letter of {provider} has the id {shown}")
    return 1 if ids else 0


def _forecast(site: Site, moved: Moved, dry_run: bool) -> Iterator[str]:
    """How long delivering takes, account by account, with what waits there already."""
    if not moved.total:
        return
    with site.asked() as client:
        seen = status.snapshot(client, site.providers)
    for queue, count in moved.by_queue.items():
        account = seen.of(queue)
        text = f"  {queue}: {counted(count, 'event')}"
        if account is None or not account.announced:
            yield f"{text}; no worker has announced this account, so nobody reads its queue"
            continue
        share_s, eta_s = account.share_s(count), account.eta_s(count if dry_run else 0)
        text += f": {duration(share_s)} of quota" if share_s >= 1 else ""
        if eta_s is None and account.paused:
            text += f"; the account is paused ({account.paused.reason}): they wait until `postback resume {queue}`"
        elif eta_s is not None:
            behind = account.queued + account.delayed - (0 if dry_run else count)
            others = f" behind {counted(behind, 'other')}" if behind > 0 else ""
            text += f"; the last one leaves in {duration(eta_s)}{others}" if eta_s >= 1 else "; they leave at once"
        yield text if account.served else f"{text}; no live worker serves it"


def _list(client: redis.Redis, provider: str, chosen: Filter) -> int:
    terminal, now_ms = Terminal(), redis_now_ms(client)
    reasons = Counter[str]()
    for letter in deadletters.letters(client, provider, chosen):
        if chosen.limit is not None or reasons.total() < SHOWN:
            _show(letter, now_ms, terminal)
        reasons[letter.reason] += 1
    if chosen.ids and not reasons:
        return _missing(provider, chosen.ids)
    if chosen.limit is None and reasons.total() > SHOWN:
        terminal.say((f"… and {reasons.total() - SHOWN:,} more; --limit N or --json shows them", "dim"))
    by_reason = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
    terminal.say(f"{counted(reasons.total(), 'dead letter')}{': ' + by_reason if by_reason else ''}")
    return 0


def _show(letter: Letter, now_ms: float, terminal: Terminal) -> None:
    """What and when; below, why and whose, people's data shortened."""
    failed_s = moment(letter.failed_at)
    what = Table.grid(padding=(0, 1, 0, 0))
    # Below each other where there is room.
    for least in (36, 27, 17, 0) if terminal.width >= WIDTH else (36, 0, 0, 0):
        what.add_column(min_width=least, overflow="fold")
    what.add_row(
        plain(letter.message.id[:64] or "(no id)", "bold"),
        plain(letter.message.task[:64] or "(no task)"),
        plain(f"{letter.provider}.{letter.account or '?'}"),
        "?" if failed_s is None else f"{short_duration(max(1.0, now_ms / 1000 - failed_s))} ago",
    )
    attempts = letter.header.get("attempts")
    event = EVENTS.get(letter.message.task)
    parts = (
        " ".join(str(word) for word in (letter.header.get("status"), letter.header.get("detail")) if word),
        counted(attempts, "attempt") if isinstance(attempts, int) else "",
        (event.summary(letter.kwargs.get("event")) or "") if event else "",
    )
    about = plain(" · ".join(part for part in parts if clean(part).strip()))
    about.truncate(ABOUT, overflow="ellipsis")
    duplicate = " possible duplicate" if letter.possible_duplicate else ""
    why = assemble((letter.reason, "red"), (duplicate, "yellow"), "  ").append_text(about)
    terminal.print(what, Padding(why, (0, 0, 0, 2), expand=False))
