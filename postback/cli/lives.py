"""Events' lives as people read them."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Final

from postback._events.shown import shorten
from postback.cli.terminal import Terminal
from postback.cli.wording import duration, shortened
from postback.journal.life import Attempt, Change, EventRecord

#: Longest piece of the provider's words on a terminal, in characters.
DETAIL: Final = 300
#: State -> its words and its colour.
_STATES: Final = {
    "waiting": ("waiting in its queue", "yellow"),
    "delayed": ("delayed", "yellow"),
    "in_flight": ("on the wire", "cyan"),
    "held": ("held aside after failures", "yellow"),
    "delivered": ("delivered", "green"),
    "duplicate": ("duplicate", "green"),
    "dead": ("dead letter", "red"),
    "cancelled": ("cancelled", "yellow"),
    "unknown": ("unknown: it is nowhere in Redis, and its end is not in the journal", "bold red"),
}
#: Widths of the columns of an attempt's status and outcome.
STATUS: Final = 4
OUTCOME: Final = 9


def show(record: EventRecord, now: datetime, terminal: Terminal, *, whole_user: bool, whole_key: bool) -> None:
    """One event: what it is, its state, whose it is, and a line for each thing that happened.

    Args:
        record: The event.
        now: The time, for "2 min ago".
        terminal: Where.
        whole_user: Show the person's id in full.
        whole_key: Show the idempotency key in full.
    """
    place = f"{record.provider}.{record.account or '?'}"
    terminal.say((record.id, "bold"), "  ", record.task or "(no task)", "  ", place)
    words, colour = _STATES[record.state]
    at = record.due_at or record.ended_at
    of = "" if not record.reason else f" of {record.reason}" if record.state == "duplicate" else f": {record.reason}"
    duplicate = "possible duplicate" if record.possible_duplicate else ""
    terminal.say(
        "  ", (words + of, colour), f", {_relative(at, now)}" if at else "", (duplicate and f", {duplicate}", "yellow")
    )
    about = (
        record.user and f"user {record.user if whole_user else shorten(record.user)}",
        record.key and f"key {record.key if whole_key else shorten(record.key)}",
        record.enqueued_at and f"enqueued {clock(record.enqueued_at)} ({_relative(record.enqueued_at, now)})",
    )
    if any(about):
        terminal.say("  ", " · ".join(part for part in about if part))
    happened: list[Attempt | Change] = sorted(
        [*record.attempts, *record.history], key=lambda each: each.at.timestamp() if each.at else 0
    )
    for each in happened:
        line = _attempt(each, terminal) if isinstance(each, Attempt) else _change(each, terminal)
        terminal.say("  ", (clock(each.at), "dim"), "  ", line)


def _attempt(attempt: Attempt, terminal: Terminal) -> str:
    status = "" if attempt.status is None else str(attempt.status)
    parts = (
        _cut(attempt.detail, terminal),
        "" if attempt.ms is None else f"{attempt.ms:,.0f} ms",
        attempt.worker,
        f"batch of {attempt.batch}" if attempt.batch > 1 else "",
    )
    about = " · ".join(part for part in parts if part.strip())
    return f"{status or '-':<{STATUS}} {attempt.outcome:<{OUTCOME}}  {about}".rstrip()


def _change(change: Change, terminal: Terminal) -> str:
    detail = "" if change.who else _cut(change.detail, terminal)
    return f"{change.what}{f' by {change.who}' if change.who else ''}{f'  {detail}' if detail else ''}"


def _cut(text: str, terminal: Terminal) -> str:
    return shortened(text, DETAIL if terminal.is_terminal else sys.maxsize)


def clock(at: datetime | None) -> str:
    """A time as the logs have it: UTC, to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S}Z" if at else "?"


def _relative(at: datetime, now: datetime) -> str:
    """``2 min ago``, ``in 4 min``."""
    seconds = (at - now).total_seconds()
    return f"in {duration(seconds)}" if seconds > 0 else f"{duration(-seconds)} ago"
