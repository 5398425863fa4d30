"""The table of ``postback status``: a line for each account, and notes on some of them below."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from postback.cli.terminal import Terminal, assemble, bar, plain
from postback.cli.wording import counted, duration, listed, megabytes, short_duration, short_number, shortened
from postback.operations.account_status import AccountStatus
from postback.operations.alarms import of_account, of_journal
from postback.operations.quota import Usage
from postback.operations.server import RedisStatus
from postback.operations.status import Snapshot
from postback.operations.totals import Totals, foremost, totals
from postback.wire.windows import Window

#: Longest name of a queue where there is no room for more, and how much of it is its end.
NAME: Final = 22
TAIL: Final = 8
#: Accounts shown, if there are more.
MOST_SHOWN: Final = 100
#: Quota windows shown: the fullest ones, if there are more.
WINDOWS: Final = 3
#: Accounts that are named where one shares something with others.
NAMED: Final = 3
#: Longest piece of another's words on a terminal, in characters.
QUOTED: Final = 200

_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def overview(seen: Snapshot, terminal: Terminal, *, every: bool = False) -> Group:
    """Everything.

    Args:
        seen: What there is.
        terminal: Where it is shown; says how wide.
        every: Each account, however many there are.
    """
    parts: list[RenderableType] = [_head(seen), ""]
    if seen.accounts:
        shown = foremost(seen.accounts, len(seen.accounts) if every else MOST_SHOWN)
        parts += [_fitting(shown, terminal), "", *_notes(shown, terminal)]
        if len(shown) < len(seen.accounts):
            most = f"{len(shown)} of {counted(len(seen.accounts), 'account')}, the most urgent"
            parts += [f"{most}; `postback status --all` shows each"]
            parts += [f"  {provider}: {_together(total)}" for provider, total in totals(seen.accounts).items()]
    else:
        parts.append("No account yet: no worker has announced one, and no queue holds an event.")
    parts += [terminal.hung(plain(text, "yellow")) for text in _leftovers(seen)]
    return Group(*parts)


def _leftovers(seen: Snapshot) -> Iterator[str]:
    """What is to be said of dead letters and the journal beside the accounts."""
    for provider, count in seen.dead.items():
        lost = count - sum(account.dead for account in seen.accounts if account.provider == provider)
        if lost > 0:
            yield f"{provider}.dead: {counted(lost, 'dead letter')} without a readable account"
    for provider, count in seen.notices.items():
        if count:
            yield f"{provider}.dead: POSTBACK_ON_DEAD has not been called yet for {counted(count, 'dead letter')}"
    for alarm in (alarm for journal in seen.journals for alarm in of_journal(journal)):
        yield f"{alarm.place}: {alarm.text}"


def _together(total: Totals) -> str:
    parts = [counted(total.accounts, "account"), f"{_count(total.queued)} queued", f"{_count(total.delayed)} delayed"]
    parts += [f"{_count(total.in_flight)} on the wire", f"{_count(total.dead)} dead"]
    parts += [f"{_count(count)} paused ({reason})" for reason, count in sorted(total.paused.items())]
    parts += [f"{_count(total.unserved)} that no live worker serves"] if total.unserved else []
    return ", ".join(parts)


def _head(seen: Snapshot) -> Group:
    now = datetime.fromtimestamp(seen.at_ms / 1000, UTC)
    alive = counted(len(seen.workers), "worker") + " alive"
    servers = Table.grid(padding=(0, 1, 0, 0))
    for one in seen.redis:
        providers = [f"for {', '.join(one.providers)}"] if len(seen.redis) > 1 else []
        servers.add_row("Redis", plain(one.url), *_memory(one), *providers)
    return Group(
        assemble(("Postback", "bold"), f"  {now:%Y-%m-%d %H:%M:%S} UTC  ", (alive, "green" if seen.workers else "red")),
        servers,
    )


def _memory(one: RedisStatus) -> tuple[RenderableType, str]:
    share = one.memory_share
    if share is None:
        return "", f"{megabytes(one.used_bytes)} used, no limit set"
    color = "red" if share > 0.9 else "yellow" if share > 0.75 else "green"
    used = f"{megabytes(one.used_bytes)} of {megabytes(one.max_bytes)} ({share:.0%})"
    return bar(min(1.0, share), 10, color), used


def _fitting(accounts: Sequence[AccountStatus], terminal: Terminal) -> Table:
    """The richest table that fits.

    With fewer quota windows and shorter bars, then with shorter names, at last with a few columns.
    """
    boundless = terminal.options.update(width=sys.maxsize)
    bars = (4, 3, 2, 0) if len(accounts) <= MOST_SHOWN else (0,)
    for name, windows, cells in [*product((sys.maxsize, NAME), range(WINDOWS, 0, -1), bars), (NAME, 0, 0)]:
        # The foremost ones have the longest numbers; Rich shortens what is longer still.
        first = _table(accounts[:MOST_SHOWN], name, windows, cells)
        if terminal.measure(first, options=boundless).maximum <= terminal.width:
            break
    return _table(accounts, name, windows, cells)


def _table(accounts: Sequence[AccountStatus], name: int, windows: int, cells: int) -> Table:
    """One line an account; a name has at most so many characters.

    Without a window there is no room for more than what waits and what died.
    """
    counts, times = (
        (("QUEUED", "DELAYED", "WIRE", "DEAD"), ("DRAINS", "LAST OK")) if windows else (("QUEUED", "DEAD"), ())
    )
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0, header_style="dim", border_style="dim")
    table.add_column("", min_width=1, no_wrap=True)
    table.add_column("ACCOUNT", no_wrap=True)
    for heading in counts:
        table.add_column(heading, justify="right", min_width=len(heading), no_wrap=True)
    for heading in (" QUOTA LEFT", "", "")[:windows]:
        table.add_column(heading, no_wrap=True)
    for heading in times:
        table.add_column(heading, justify="right", min_width=len(heading), no_wrap=True)
    for account in accounts:
        quota = [_window(usage, cells) for usage in _fullest(account.usage, windows)]
        numbers: dict[str, RenderableType] = {
            "QUEUED": _count(account.queued),
            "DELAYED": _count(account.delayed),
            "WIRE": _count(account.in_flight),
            "DEAD": Text(_count(account.dead), "red" if account.dead else ""),
            "DRAINS": _drains(account),
            "LAST OK": _last_ok(account),
        }
        table.add_row(
            _state(account),
            plain(shortened(account.queue, name, TAIL), "bold"),
            *(numbers[heading] for heading in counts),
            *quota,
            *[""] * (windows - len(quota)),
            *(numbers[heading] for heading in times),
        )
    return table


def _drains(account: AccountStatus) -> str:
    eta_s = account.eta_s()
    if not (account.queued + account.delayed) or not account.served:
        return "-"
    return "paused" if eta_s is None else short_duration(eta_s)


def _last_ok(account: AccountStatus) -> str:
    last = account.last_success_ms
    return "-" if last is None else short_duration(max(0.0, account.log.now_ms - last) / 1000)


def _count(number: int) -> str:
    return f"{number:,}" if number < 1_000_000 else short_number(number)


def _state(account: AccountStatus) -> Text:
    if any(of_account(account)):
        return Text("✗", "bold red")
    if account.paused or account.failures or not account.served:
        return Text("‖", "bold yellow")
    return Text("●", "green")


def _fullest(usages: Sequence[Usage], most: int) -> list[Usage]:
    chosen = sorted(usages, key=lambda usage: usage.remaining / usage.window.limit)[:most]
    return [usage for usage in usages if usage in chosen]


def _window(usage: Usage, cells: int) -> RenderableType:
    share = usage.remaining / usage.window.limit
    color = "red" if not usage.remaining else "yellow" if share < 0.25 else "green"
    limit = f"/{short_number(usage.window.limit)} {unit(usage.window)}"
    text = Text.assemble(" " * (not cells), (short_number(usage.remaining), "" if usage.remaining else color), limit)
    if not cells:
        return text
    both = Table.grid("", Column(no_wrap=True), padding=(0, 1, 0, 0))
    both.add_row(bar(share, cells, color), text)
    return Padding(both, (0, 0, 0, 1), expand=False)


def unit(window: Window) -> str:
    """A window's length in few letters: ``s``, ``h``, ``10s``."""
    for size, name in _UNITS:
        if window.window_s >= size and window.window_s % size == 0:
            return name if window.window_s == size else f"{window.window_s / size:g}{name}"
    return f"{window.window_s:g}s"


def _notes(accounts: Sequence[AccountStatus], terminal: Terminal) -> Iterator[RenderableType]:
    """What is to be said of accounts, under their names."""
    for account in accounts:
        notes = list(_details(account, QUOTED if terminal.is_terminal else sys.maxsize))
        if notes:
            yield plain(account.queue, "bold")
            yield from (terminal.hung(plain(f"  {text}", color)) for text, color in notes)


def _details(account: AccountStatus, quoted: int) -> Iterator[tuple[str, str]]:
    """What else is to be said of an account, with its colour; others' words in so many letters."""
    now_ms = account.log.now_ms
    waiting = account.queued + account.delayed + account.in_flight
    paused = account.paused
    if account.is_orphan and waiting:
        yield "orphaned queue: no worker has ever announced this account, so nobody reads it", "red"
    elif not account.served and account.announced:
        yield f"no live worker serves it: start `python -m workers {account.provider}`", "red" if waiting else "yellow"
    if paused:
        since = f" {_ago(now_ms - paused.since_ms)}" if paused.since_ms else ""
        detail = f", {shortened(paused.detail, quoted)}" if paused.detail else ""
        if paused.until_ms is None:
            color = "yellow" if paused.reason == "operator" else "red"
            yield f"paused{since}: {paused.reason}{detail}; ends with `postback resume {account.queue}`", color
        else:
            until = datetime.fromtimestamp(paused.until_ms / 1000, UTC)
            left_s = (paused.until_ms - now_ms) / 1000
            yield f"paused{since}: {paused.reason}{detail}; until {until:%H:%M:%S} UTC, in {duration(left_s)}", "yellow"
    spent = [usage for usage in account.usage if not usage.remaining and usage.window.window_s >= 10]
    if spent and not (paused and paused.until_ms is None):
        longest = max(spent, key=lambda usage: usage.resets_in_s)
        yield (
            f"quota {longest.window.text} is spent: the next request can go in {duration(longest.resets_in_s)}",
            "yellow",
        )
    if account.quota_with:
        how = "has the same key and quota as" if account.key_with else "shares its quota with"
        yield f"{how} {listed(account.key_with or account.quota_with, NAMED)}", "dim"
    failing = account.failures or (account.last_success_ms or 0) < (account.last_failure_ms or 0)
    if account.last_failure_ms and failing and (paused is None or paused.reason == "operator"):
        row = f"{counted(account.failures, 'failure')} in a row, " if account.failures else ""
        said = f": {shortened(account.last_failure, quoted)}" if account.last_failure else ""
        yield f"{row}last failure {_ago(now_ms - account.last_failure_ms)}{said}", "yellow"
    if account.max_queued:
        held = account.queued + account.delayed
        full = held >= account.max_queued
        yield (
            f"{held:,} of at most {account.max_queued:,} events wait"
            + (": producers get QueueFull until some are sent" if full else ""),
            "red" if full else "dim",
        )
    if account.oldest_ms and now_ms - account.oldest_ms > 600_000:
        yield f"the oldest event has waited {duration((now_ms - account.oldest_ms) / 1000)}", "dim"
    if account.dead:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(account.dead_reasons.items()))
        look = f"postback dead list {account.provider} --account {account.account}"
        yield f"dead: {reasons}; look with `{look}`", "red"


def _ago(ms: float) -> str:
    return f"{duration(max(0.0, ms) / 1000)} ago"
