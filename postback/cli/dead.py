"""``postback dead list | replay | drop``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps

import click
import redis
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from postback.cli.groups import Commands
from postback.cli.letters import SHOWN, oldest_first, show, summarize
from postback.cli.output import say_error
from postback.cli.parameters import DRY_RUN, PROVIDER, age, can_ask, example
from postback.cli.terminal import Terminal
from postback.cli.wording import counted, duration, nearest, no_account
from postback.operations import deadletters, status
from postback.operations.dead_counts import count_dead
from postback.operations.deadletters import Moved
from postback.operations.letters import REASONS, Filter
from postback.operations.sites import Site, sites
from postback.operations.targets import known_accounts
from postback.wire import keys

#: A command after its letters are chosen: their Redis servers, their provider (None: all), which.
Chosen = Callable[..., int]


def _choosing(*, required: bool = True) -> Callable[[Chosen], Chosen]:
    """A command with PROVIDER and the options that say which of its dead letters.

    The command takes the sites, the provider and a Filter for them.

    Args:
        required: PROVIDER must be given; else None stands for all providers.
    """

    def choosing(command: Chosen) -> Chosen:
        @click.argument("provider", type=PROVIDER, required=required, metavar="PROVIDER" if required else "[PROVIDER]")
        @click.option("--id", "ids", multiple=True, metavar="ID", help="Only this event; may be repeated.")
        @click.option("--reason", "reasons", multiple=True, metavar="R", help="Only this reason; may be repeated.")
        @click.option("--account", metavar="A", help="Only this account's.")
        @click.option(
            "--older-than", type=age, metavar="AGE", help="Only those dead for longer: 45s, 90m, 12h, 30d, 2w."
        )
        @click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N letters, the oldest first.")
        @click.pass_obj
        @wraps(command)
        def with_filter(
            environ: Mapping[str, str],
            /,
            provider: str | None,
            ids: tuple[str, ...],
            reasons: tuple[str, ...],
            account: str | None,
            older_than: float | None,
            limit: int | None,
            **options: bool,
        ) -> int:
            places = sites(environ, [provider] if provider else None)
            chosen = Filter(frozenset(ids), frozenset(reasons), account, older_than, limit)
            _check(places, provider, chosen)
            return command(places, provider, chosen, **options)

        return with_filter

    return choosing


def _check(places: list[Site], provider: str | None, chosen: Filter) -> None:
    """Refuse what no letter can have: "no letters" would be a wrong answer to a mistyped name.

    Redis is asked only if an account is named, or a reason that workers do not write.
    """
    accounts, reasons = set[str](), set(REASONS)
    unusual = chosen.reasons - REASONS
    for site in places if unusual or chosen.account is not None else ():
        with site.asked() as client:
            accounts |= {queue.partition(".")[2] for queue in known_accounts(client, site.providers)}
            for name in site.providers if unusual else ():
                reasons |= count_dead(client, name).reasons().keys()
    for reason in sorted(chosen.reasons - reasons):
        raise _wrong("--reason", f"{reason[:80]!r} is not a reason; {nearest(reason, sorted(reasons), 'reasons')}")
    if chosen.account is not None and accounts and chosen.account not in accounts:
        raise _wrong("--account", no_account(provider, chosen.account, sorted(accounts)))


def _wrong(option: str, sentence: str) -> click.BadParameter:
    return click.BadParameter(sentence, click.get_current_context(), param_hint=f"'{option}'")


@click.group(
    cls=Commands,
    no_args_is_help=False,
    epilog=example(
        "postback dead list tgtrack --reason rejected", "postback dead replay tgtrack --older-than 1h --dry-run"
    ),
)
def dead() -> None:
    """List, replay or drop dead letters."""


@dead.command("list", epilog=example("postback dead list", "postback dead list tgtrack --account main --json"))
@_choosing(required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, with the whole event.")
def list_letters(places: list[Site], provider: str | None, chosen: Filter, as_json: bool) -> int:
    """Show dead letters, the oldest first.

    Without PROVIDER: of all providers. Personal data is shortened.
    """
    terminal, missing = Terminal(), set(chosen.ids)
    shown = SHOWN if terminal.is_terminal and chosen.limit is None else sys.maxsize
    counts: dict[str, Counter[str]] = {}
    for number, (now_ms, letter) in enumerate(oldest_first(places, chosen)):
        missing.discard(letter.message.id)
        counts.setdefault(letter.provider, Counter())[letter.reason] += 1
        if as_json:
            click.echo(json.dumps(letter.as_json()))
        elif number < shown:
            show(letter, now_ms, terminal)
    if not as_json and not (missing and not counts):
        summarize(counts, shown, terminal)
    return _missing(provider, missing)


@dead.command(epilog=example("postback dead replay tgtrack --reason exhausted --dry-run"))
@_choosing()
@DRY_RUN
def replay(places: list[Site], provider: str, chosen: Filter, dry_run: bool) -> int:
    """Put dead letters back into their queues.

    The oldest go first, within the account's quota.
    """
    terminal, (site,) = Terminal(), places
    with site.asked() as client, _progress(terminal, client, provider) as advance:
        moved = deadletters.replay(client, provider, chosen, dry_run=dry_run, progress=advance)
    terminal.say(f"{counted(moved.total, 'dead letter')} {'would be replayed' if dry_run else 'replayed'}")
    if moved.expired:
        whose = "its" if moved.expired == 1 else "their"
        terminal.say(f"  {moved.expired:,} had expired: {whose} `expires` has passed and is removed")
    for line in _forecast(site, moved, dry_run):
        terminal.say(line)
    return _missing(provider, moved.missing)


@dead.command(epilog=example("postback dead drop tgtrack --older-than 30d"))
@_choosing()
@DRY_RUN
@click.option("--yes", "--all", "is_sure", is_flag=True, help="Do not ask, even to drop everything.")
def drop(places: list[Site], provider: str, chosen: Filter, dry_run: bool, is_sure: bool) -> int:
    """Delete dead letters for good."""
    terminal, (site,) = Terminal(), places
    with site.asked() as client:
        if chosen.is_empty and not is_sure and not dry_run:
            total = min(client.llen(keys.dead(provider)), chosen.limit or sys.maxsize)
            if total and not can_ask():
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


def _missing(provider: str | None, ids: Collection[str]) -> int:
    """The exit code; ids that were asked for and not found are an error."""
    if ids:
        say_error(f"no dead letter{f' of {provider}' if provider else ''} has the id {', '.join(sorted(ids))}")
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
