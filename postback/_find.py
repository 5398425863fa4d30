"""``postback.find``: what has become of events, from Python."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

from postback._events.event import EVENTS
from postback._send.producer import current
from postback._suggestion import suggestion
from postback.journal.life import STATES, Found
from postback.journal.query import Query

__all__ = ["find"]


def find(
    *,
    id: str | Collection[str] | None = None,
    key: str | None = None,
    user: str | int | None = None,
    account: str | None = None,
    task: str | None = None,
    outcome: str | None = None,
    since: datetime | timedelta | None = None,
    limit: int | None = 100,
    live: bool = False,
) -> Found:
    """Find events: where each is or how it ended, and each attempt to deliver it.

    It looks through Redis, then through the journal, so it needs ``python -m workers.journal``
    running and the extra ``[journal]``. All conditions must hold. Without one, it finds the latest
    events.

    Args:
        id: The event's id (``result.id``), or several ids. The limit does not count then.
        key: The idempotency key as the producer wrote it.
        user: A person's id at the provider, such as the Telegram id.
        account: ``"tgtrack.main"``, or ``"tgtrack"`` for all accounts of the provider.
        task: Such as ``"tgtrack.add_event"``.
        outcome: Only events in this state: ``waiting``, ``delayed``, ``in_flight``, ``held``,
            ``delivered``, ``duplicate``, ``dead``, ``cancelled``.
        since: Only events to which something has happened since then: an aware datetime, or how
            long ago.
        limit: At most so many, the latest first; None: all.
        live: Look in Redis alone. It then finds only what waits, is on the wire or is a dead
            letter, and what has not been moved into the journal's database yet.

    Returns:
        A list, the latest event first. Its attribute ``gaps`` says which records are missing that
        may concern these events, ``missing`` which ids are nowhere, ``more`` whether the limit has
        cut the list.

    Raises:
        TypeError, ValueError: An argument is wrong; the sentence names it.
        UnknownAccount: Nothing was found, and Redis knows no such account.
        NoJournal: Nobody writes the journal, or its database cannot be read.
        ConfigurationError: A variable is wrong.
        PostbackError: Redis cannot be asked.
    """
    provider, name = _account(account)
    query = Query(
        ids=_ids(id),
        key=_text("key", key),
        user=_text("user", str(user) if isinstance(user, int) and not isinstance(user, bool) else user),
        provider=provider,
        account=name,
        task=_one_of("task", task, EVENTS),
        outcome=_one_of("outcome", outcome, STATES),
        since_ms=_since_ms(since),
        limit=_limit(limit),
    )
    # Producers that only send do not load these.
    from postback.operations.find import find as find_events
    from postback.operations.find import journal_of
    from postback.operations.sites import sites

    places = sites(wanted=None if provider is None else [provider], where=lambda one: current(one).broker)
    try:
        with nullcontext() if live else journal_of(os.environ) as journal:
            return find_events(places, query, journal)
    finally:
        for place in places:
            place.client.close()


def _ids(value: object) -> frozenset[str]:
    if value is None:
        return frozenset()
    several = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else None
    if not several or not all(isinstance(each, str) for each in several):
        raise TypeError("id must be an event's id, or several of them")
    return frozenset(text for each in several if (text := _text("id", each)))


def _account(value: str | None) -> tuple[str | None, str | None]:
    provider, _, name = (_text("account", value) or "").partition(".")
    return _one_of("account", provider or None, {event.provider for event in EVENTS.values()}), name or None


def _text(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    if value is not None and not value.strip():
        raise ValueError(f"{name} must not be empty")
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds a lone surrogate, which UTF-8 cannot carry") from None
    return value


def _one_of(name: str, value: object, names: Collection[str]) -> str | None:
    text = _text(name, value)
    if text is not None and text not in names:
        raise ValueError(f"{name} {text[:80]!r} is not known; {suggestion(text, names)}")
    return text


def _since_ms(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = datetime.now(UTC) - value
    if not isinstance(value, datetime):
        raise TypeError(f"since must be a datetime or a timedelta, not {type(value).__name__}")
    if value.tzinfo is None:
        raise ValueError("since must be an aware datetime: give it a timezone")
    return value.timestamp() * 1000


def _limit(value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"limit must be a whole number, not {type(value).__name__}")
    if value is not None and value < 1:
        raise ValueError("limit must be 1 or more; None is all")
    return value
