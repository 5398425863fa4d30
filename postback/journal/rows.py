"""What is written into the journal's tables, and what is pruned."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Column, Connection, Insert, Table, delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from postback.journal import schema
from postback.journal.records import Gap, Record, cut

__all__ = ["add", "prune"]

#: Most rows of a table that one step of pruning removes: others write in between.
STEP: Final = 2_000
#: Values of rows in the order of the columns, behind the grant: an index of PostgreSQL takes no
#: longer text than :func:`cut` leaves of it, and anybody may have written it.
_of_entry: Final = attrgetter(*schema.entries.c.keys()[1:])
_of_action: Final = attrgetter(*schema.actions.c.keys()[1:])
#: Tables that are pruned, and the time of their rows.
_PRUNED: Final[tuple[tuple[Table, Column[Any]], ...]] = (
    (schema.entries, schema.entries.c.at_ms),
    (schema.people, schema.people.c.at_ms),
    (schema.actions, schema.actions.c.at_ms),
    (schema.gaps, schema.gaps.c.until_ms),
)


def add(
    connection: Connection, journal: str, provider: str, records: Sequence[Record], gap: Gap | None, now_ms: float
) -> None:
    """Write records and a gap, and that somebody has written. What is there already stays."""
    entries = [entry for record in records for entry in record.entries]
    people = [
        (cut(entry.grant), entry.place, number, entry.at_ms, person)
        for entry in entries
        for number, person in enumerate(entry.also)
    ]
    actions = [(cut(action.grant), *_of_action(action)) for record in records if (action := record.action)]
    _insert_all(connection, schema.entries, [(cut(entry.grant), *_of_entry(entry)) for entry in entries])
    _insert_all(connection, schema.people, people)
    _insert_all(connection, schema.actions, actions)
    here = {"journal": journal, "provider": provider}
    if gap is not None:
        # A gap that is read again has the same beginning, and may have grown.
        _put(connection, schema.gaps, {**here, "since_ms": gap.since_ms, "until_ms": gap.until_ms, "lost": gap.lost})
    _put(connection, schema.writers, {**here, "at_ms": int(now_ms)})


def prune(connection: Connection, before_ms: float) -> int:
    """Remove the oldest rows, at most :data:`STEP` of each table; returns how many."""
    return sum(_prune(connection, table, at_ms, before_ms) for table, at_ms in _PRUNED)


def _insert(connection: Connection, table: Table) -> Any:
    """An INSERT that knows ON CONFLICT: both databases have it, SQLAlchemy has it for each."""
    is_sqlite = connection.dialect.name == "sqlite"
    statement: Insert = sqlite.insert(table) if is_sqlite else postgresql.insert(table)
    return statement


def _insert_all(connection: Connection, table: Table, rows: list[tuple[Any, ...]]) -> None:
    """Insert rows, values in the order of the columns, unless they are there.

    The driver gets them as they are: SQLAlchemy would look at each value and need as long again.
    """
    if rows:
        statement = _insert(connection, table).on_conflict_do_nothing().compile(dialect=connection.dialect)
        connection.exec_driver_sql(str(statement), rows)


def _put(connection: Connection, table: Table, row: dict[str, Any]) -> None:
    """Insert a row, or put it in the place of the one with its primary key."""
    names = [column.name for column in table.primary_key]
    statement = _insert(connection, table)
    changed = {name: statement.excluded[name] for name in row if name not in names}
    connection.execute(statement.on_conflict_do_update(index_elements=names, set_=changed), row)


def _prune(connection: Connection, table: Table, at_ms: Column[Any], before_ms: float) -> int:
    key = tuple(table.primary_key)
    oldest = select(*key).where(at_ms < ceil(before_ms)).order_by(at_ms).limit(STEP)
    return connection.execute(delete(table).where(tuple_(*key).in_(oldest))).rowcount
