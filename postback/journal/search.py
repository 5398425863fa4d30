"""What is looked up in the journal's tables.

A search first finds events, then reads all entries of those. It finds them in the order of time,
the latest first, and stops at its limit: a long list costs no more than it shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from math import ceil
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select, union_all
from sqlalchemy.sql.selectable import CompoundSelect

from postback._events.event import EVENTS
from postback.journal import schema
from postback.journal.query import Query
from postback.journal.records import Action, Entry, Gap, cut, key_hash
from postback.journal.schema import RARE_END, WITH_KEY

__all__ = ["actions_since", "entries_of", "gaps_since", "last_written_ms"]

#: Values in one statement: databases have limits.
PART: Final = 500
#: Rows that are read at first for each event of a limit. Most events have fewer.
ROWS_PER_EVENT: Final = 4
#: What an event can have ended in, that is, all that the journal knows of a state.
ENDS: Final = frozenset({"delivered", "duplicate", "dead", "cancelled"})

_entries: Final = schema.entries.c
_people: Final = schema.people.c

#: What makes an entry's event: its id, or the entry's own key where a message had no id.
_Event = str | tuple[str, int]


def entries_of(connection: Connection, query: Query, ids: Collection[str]) -> list[Entry]:
    """All entries of the events that match the query or have one of the ids; the latest first."""
    events: dict[_Event, list[Entry]] = defaultdict(list)
    chosen = dict.fromkeys([*_matching(connection, query), *filter(None, map(cut, ids))])
    rows = list(_rows(connection, chosen))
    also = _also(connection, {row.grant for row in rows})
    for row in rows:
        entry = Entry(**row._mapping, also=tuple(also[row.grant, row.place]))
        events[_event(row)].append(entry)
    for entries in events.values():
        entries.sort(key=lambda entry: (entry.at_ms, entry.grant, entry.place))
    latest_first = sorted(events.values(), key=lambda entries: entries[-1].at_ms, reverse=True)
    return [entry for entries in latest_first for entry in entries]


def actions_since(
    connection: Connection, since_ms: float | None, places: Collection[str] | None, limit: int | None
) -> list[Action]:
    """What operators did, the latest first."""
    actions = schema.actions.c
    statement = select(schema.actions).order_by(actions.at_ms.desc(), actions.grant).limit(limit)
    if since_ms is not None:
        statement = statement.where(actions.at_ms >= ceil(since_ms))
    if places is not None:
        statement = statement.where(actions.place.in_(sorted(places)))
    return [Action(**row._mapping) for row in connection.execute(statement)]


def gaps_since(connection: Connection, journal: str, since_ms: float | None) -> list[Gap]:
    """Records that a Redis has lost, the oldest first."""
    gaps = schema.gaps.c
    statement = select(gaps.provider, gaps.since_ms, gaps.until_ms, gaps.lost).where(gaps.journal == journal)
    if since_ms is not None:
        statement = statement.where(gaps.until_ms >= ceil(since_ms))
    return [Gap(**row._mapping) for row in connection.execute(statement.order_by(gaps.since_ms, gaps.provider))]


def last_written_ms(connection: Connection, journal: str) -> int | None:
    """When a process last wrote for a Redis; None: never."""
    writers = schema.writers.c
    at_ms: int | None = connection.scalar(select(func.max(writers.at_ms)).where(writers.journal == journal))
    return at_ms


def _matching(connection: Connection, query: Query) -> list[_Event]:
    """The events that match, at most as many as the query wants, the latest first."""
    if query.outcome is not None and query.outcome not in ENDS:
        return []
    statement = _statement(query)
    if query.limit is None:
        return list(dict.fromkeys(map(_event, connection.execute(statement))))
    count = max(1, query.limit * ROWS_PER_EVENT)
    while True:
        rows = connection.execute(statement.limit(count)).all()
        events = list(dict.fromkeys(map(_event, rows)))
        if len(events) >= query.limit or len(rows) < count:
            return events[: query.limit]
        count *= ROWS_PER_EVENT


def _statement(query: Query) -> Select[Any] | CompoundSelect[Any]:
    """The entries that match, the latest first."""
    found = select(_entries.at_ms, _entries.id, _entries.grant, _entries.place).where(*_conditions(query))
    if query.user is None:
        return found.order_by(_entries.at_ms.desc())
    user = cut(query.user)
    named = found.join(schema.people, (_people.grant == _entries.grant) & (_people.place == _entries.place))
    # Not OR, which would keep both databases from their indexes.
    both = union_all(found.where(_entries.user == user), named.where(_people.person == user))
    return both.order_by(both.selected_columns.at_ms.desc())


def _conditions(query: Query) -> Iterator[ColumnElement[bool]]:
    if query.ids:
        yield _entries.id.in_(sorted(map(cut, query.ids)))
    if query.key is not None:
        yield _entries.key_hash == key_hash(query.key)
        yield WITH_KEY  # type: ignore[misc]
    if query.account is not None:
        providers = {event.provider for event in EVENTS.values()} if query.provider is None else {query.provider}
        yield _entries.queue.in_(sorted(f"{provider}.{query.account}" for provider in providers))
    elif query.provider is not None:
        yield _entries.queue.startswith(f"{query.provider}.", autoescape=True)
    if query.task is not None:
        yield _entries.task == cut(query.task)
    if query.outcome is not None:
        yield _entries.end == query.outcome
        if query.outcome != "delivered":
            yield RARE_END  # type: ignore[misc]
    if query.since_ms is not None:
        # A whole number, or PostgreSQL does not use the index.
        yield _entries.at_ms >= ceil(query.since_ms)


def _event(row: Row[Any]) -> _Event:
    return row.id or (row.grant, row.place)


def _rows(connection: Connection, events: Iterable[_Event]) -> Iterator[Row[Any]]:
    ids = [event for event in events if isinstance(event, str)]
    for part in _parts(ids):
        yield from connection.execute(select(schema.entries).where(_entries.id.in_(part)))
    without_id = {event for event in events if not isinstance(event, str)}
    for part in _parts({grant for grant, _ in without_id}):
        rows = connection.execute(select(schema.entries).where(_entries.grant.in_(part), _entries.id == ""))
        yield from (row for row in rows if (row.grant, row.place) in without_id)


def _also(connection: Connection, grants: Collection[str]) -> dict[tuple[str, int], list[str]]:
    also: dict[tuple[str, int], list[str]] = defaultdict(list)
    for part in _parts(grants):
        for row in connection.execute(
            select(schema.people).order_by(*schema.people.primary_key).where(_people.grant.in_(part))
        ):
            also[row.grant, row.place].append(row.person)
    return also


def _parts(values: Collection[str]) -> Iterator[list[str]]:
    every = list(values)
    return (every[begin : begin + PART] for begin in range(0, len(every), PART))
