"""The table of ``postback status``: one line an account, more where something is wrong; 100 columns at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import product, zip_longest
from typing import Final

from postback.cli.terminal import (
    WIDTH,
    Console,
    clean,
    counted,
    cut,
    duration,
    left,
    listed,
    megabytes,
    right,
    short_duration,
    short_limit,
    short_number,
    width,
)
from postback.operations.alarms import of_account
from postback.operations.quota import Usage
from postback.operations.server import RedisStatus
from postback.operations.status import AccountStatus, Snapshot
from postback.operations.totals import Totals, foremost, totals
from postback.wire.windows import Window

#: Longest account name shown whole.
NAME: Final = 22
#: Accounts shown, if there are more.
MOST_SHOWN: Final = 100
#: Quota windows shown: the fullest ones, if there are more.
WINDOWS: Final = 3
#: Accounts that are named where one shares something with others.
NAMED: Final = 3
#: Columns of the numbers beside the name and the quota.
QUEUED, DELAYED, WIRE, DEAD, DRAINS, LAST = 8, 8, 5, 8, 7, 8

_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def draw(seen: Snapshot, console: Console, *, every: bool = False) -> Iterator[str]:
    """The lines of the table.

    Args:
        seen: What there is.
        console: Where it is shown.
        every: Each account, however many there are.
    """
    yield from _head(seen, console)
    yield ""
    if not seen.accounts:
        yield "No account yet: no worker has announced one, and no queue holds an event."
    else:
        names = min(NAME, max(7, *(len(account.queue) for account in seen.accounts)))
        numbers = right("QUEUED", QUEUED) + right("DELAYED", DELAYED) + right("WIRE", WIRE) + right("DEAD", DEAD)
        quota = WIDTH - 2 - names - QUEUED - DELAYED - WIRE - DEAD - 2 - DRAINS - LAST
        yield console.paint(
            left("  ACCOUNT", names + 2)
            + numbers
            + "  "
            + left("QUOTA LEFT", quota)
            + right("DRAINS", DRAINS)
            + right("LAST OK", LAST),
            "dim",
        )
        shown = foremost(seen.accounts, len(seen.accounts) if every else MOST_SHOWN)
        quotas = _quotas(shown, console, quota)
        for account in shown:
            yield _line(account, console, names, left(quotas[account.queue], quota))
            for text, color in _details(account):
                yield console.paint(cut("    " + clean(text), WIDTH), color)
        if len(shown) < len(seen.accounts):
            yield ""
            yield f"{len(shown)} of {counted(len(seen.accounts), 'account')}, the most urgent; `postback status --all` shows each"
            for provider, total in totals(seen.accounts).items():
                yield f"  {provider}: {_together(total)}"
    for provider, count in seen.dead.items():
        lost = count - sum(account.dead for account in seen.accounts if account.provider == provider)
        if lost > 0:
            yield console.paint(
                f"  {provider}.dead: {counted(lost, 'dead letter')} without a readable account", "yellow"
            )
    for provider, count in seen.notices.items():
        if count:
            text = f"  {provider}.dead: POSTBACK_ON_DEAD is still to be told of {counted(count, 'dead letter')}"
            yield console.paint(text, "yellow")


def _together(total: Totals) -> str:
    parts = [counted(total.accounts, "account"), f"{_count(total.queued)} queued", f"{_count(total.delayed)} delayed"]
    parts += [f"{_count(total.in_flight)} on the wire", f"{_count(total.dead)} dead"]
    parts += [f"{_count(count)} paused ({reason})" for reason, count in sorted(total.paused.items())]
    parts += [f"{_count(total.unserved)} that no live worker serves"] if total.unserved else []
    return ", ".join(parts)


def _head(seen: Snapshot, console: Console) -> Iterator[str]:
    now = datetime.fromtimestamp(seen.at_ms / 1000, UTC)
    alive = counted(len(seen.workers), "worker") + " alive"
    yield (
        f"{console.paint('Postback', 'bold')}  {now:%Y-%m-%d %H:%M:%S} UTC  "
        f"{console.paint(alive, 'green' if seen.workers else 'red')}"
    )
    for one in seen.redis:
        yield f"Redis {cut(one.url, 40)}  {_memory(one, console)}" + (
            f"  for {', '.join(one.providers)}" if len(seen.redis) > 1 else ""
        )


def _memory(one: RedisStatus, console: Console) -> str:
    share = one.memory_share
    if share is None:
        return f"{megabytes(one.used_bytes)} used, no limit set"
    color = "red" if share > 0.9 else "yellow" if share > 0.75 else "green"
    bar = console.bar(min(1.0, share), 10, color)
    return f"{bar} {megabytes(one.used_bytes)} of {megabytes(one.max_bytes)} ({share:.0%})"


def _line(account: AccountStatus, console: Console, names: int, quota: str) -> str:
    eta_s = account.eta_s()
    waiting = account.queued + account.delayed
    drains = "-" if not waiting or not account.served else "paused" if eta_s is None else short_duration(eta_s)
    last = account.last_success_ms
    last_text = "-" if last is None else short_duration(max(0.0, account.log.now_ms - last) / 1000)
    dead = right(_count(account.dead), DEAD)
    return (
        _state(account, console)
        + " "
        + left(console.paint(cut(account.queue, names), "bold"), names)
        + right(_count(account.queued), QUEUED)
        + right(_count(account.delayed), DELAYED)
        + right(_count(account.in_flight), WIRE)
        + (console.paint(dead, "red") if account.dead else dead)
        + "  "
        + quota
        + right(drains, DRAINS)
        + right(last_text, LAST)
    )


def _count(number: int) -> str:
    return f"{number:,}" if number < 1_000_000 else short_number(number)


def _state(account: AccountStatus, console: Console) -> str:
    if any(of_account(account)):
        return console.paint("✗" if console.unicode else "!", "red", "bold")
    if account.paused or account.failures or not account.served:
        return console.paint("‖" if console.unicode else "=", "yellow", "bold")
    return console.paint("●" if console.unicode else "*", "green")


def _quotas(accounts: Sequence[AccountStatus], console: Console, columns: int) -> dict[str, str]:
    """Queue -> what is left of its windows: one column for the shortest of each account, one for the next, and so on."""
    lines: dict[str, str] = {}
    for most, cells in product(range(WINDOWS, 0, -1), (4, 3, 2, 0)):
        rows = [[_window(usage, console, cells) for usage in _fullest(account.usage, most)] for account in accounts]
        places = [max(map(width, place)) for place in zip_longest(*rows, fillvalue="")]
        for account, row in zip(accounts, rows, strict=True):
            lines[account.queue] = " ".join(left(text, place) for text, place in zip(row, places, strict=False))
        if sum(places) + len(places) - 1 <= columns:
            break
    return lines


def _fullest(usages: Sequence[Usage], most: int) -> list[Usage]:
    chosen = sorted(usages, key=lambda usage: usage.remaining / usage.window.limit)[:most]
    return [usage for usage in usages if usage in chosen]


def _window(usage: Usage, console: Console, cells: int) -> str:
    share = usage.remaining / usage.window.limit
    color = "red" if not usage.remaining else "yellow" if share < 0.25 else "green"
    bar = console.bar(share, cells, color) + " " if cells else ""
    left_of = (
        console.paint(short_number(usage.remaining), color) if not usage.remaining else short_number(usage.remaining)
    )
    return f"{bar}{left_of}/{short_limit(usage.window.limit)} {unit(usage.window)}"


def unit(window: Window) -> str:
    """A window's length in few letters: ``s``, ``h``, ``10s``."""
    for size, name in _UNITS:
        if window.window_s >= size and window.window_s % size == 0:
            return name if window.window_s == size else f"{window.window_s / size:g}{name}"
    return f"{window.window_s:g}s"


def _details(account: AccountStatus) -> Iterator[tuple[str, str]]:
    """What else is to be said of an account, with its colour."""
    now_ms = account.log.now_ms
    waiting = account.queued + account.delayed + account.in_flight
    paused = account.paused
    if account.is_orphan and waiting:
        yield "orphaned queue: no worker has ever announced this account, so nobody reads it", "red"
    elif not account.served and account.announced:
        yield f"no live worker serves it: start `python -m workers {account.provider}`", "red" if waiting else "yellow"
    if paused:
        since = f" {_ago(now_ms - paused.since_ms)}" if paused.since_ms else ""
        detail = f", {paused.detail}" if paused.detail else ""
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
        said = f": {account.last_failure}" if account.last_failure else ""
        yield f"{row}last failure {_ago(now_ms - account.last_failure_ms)}{said}", "yellow"
    if account.max_queued:
        held = account.queued + account.delayed
        full = held >= account.max_queued
        yield (
            f"{held:,} of at most {account.max_queued:,} events wait"
            + (": producers get QueueFull until some have gone" if full else ""),
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
