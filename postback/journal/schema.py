"""The journal's tables, as SQLAlchemy Core. ``postback/journal/migrations`` makes them.

Every name begins with ``postback_journal``: the database may be an application's own. A row of
:data:`entries` is what one request meant for one event. Rows are inserted and pruned, never
changed.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, String, Table, Text, text

from postback.journal.records import MAX_INDEXED

__all__ = [
    "METADATA",
    "RARE_END",
    "REVISION",
    "VERSIONS",
    "WITH_KEY",
    "actions",
    "entries",
    "gaps",
    "people",
    "writers",
]

#: The migration that makes these tables: the newest.
REVISION: Final = "0001"
#: The table that holds the database's revision: another program may use Alembic's usual one.
VERSIONS: Final = "postback_journal_version"
METADATA: Final = MetaData()

#: The condition of a partial index, word for word: a planner uses it for queries that have it too.
WITH_KEY: Final = text("key_hash <> ''")
#: Ends that are few among many: a search for dead letters need not read what was delivered.
RARE_END: Final = text("\"end\" NOT IN ('', 'delivered')")


def _word(name: str, *, primary_key: bool = False) -> Column[str]:
    return Column(name, String(MAX_INDEXED), primary_key=primary_key, nullable=False)


def _time(name: str, *, primary_key: bool = False) -> Column[int]:
    return Column(name, BigInteger, primary_key=primary_key, autoincrement=False, nullable=False)


#: What each request meant for each event: the fields of ``records.Entry`` without ``also``.
entries: Final = Table(
    "postback_journal_entries",
    METADATA,
    _word("grant", primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False, nullable=False),
    _time("at_ms"),
    _word("queue"),
    _word("id"),
    _word("task"),
    _word("user"),
    Column("key", Text, nullable=False),
    Column("key_hash", String(64), nullable=False),
    _word("outcome"),
    Column("status", Integer),
    Column("detail", Text, nullable=False),
    Column("ms", Double),
    _word("worker"),
    Column("batch", Integer, nullable=False),
    _word("end"),
    _word("reason"),
    Column("possible_duplicate", Boolean, nullable=False),
    _time("enqueued_ms"),
    _time("first_ms"),
    Index("postback_journal_entries_id", "id"),
    Index("postback_journal_entries_user", "user", "at_ms"),
    Index("postback_journal_entries_key", "key_hash", sqlite_where=WITH_KEY, postgresql_where=WITH_KEY),
    Index("postback_journal_entries_queue", "queue", "at_ms"),
    # A list of the latest reads only as many rows of it as it shows, unless what it looks for is
    # rare. Then the index, which has what is asked for, spares it the rows.
    Index("postback_journal_entries_at", "at_ms", "queue", "task", "end"),
    Index("postback_journal_entries_rare", "end", "at_ms", sqlite_where=RARE_END, postgresql_where=RARE_END),
)

#: Further people of an entry (``records.Entry.also``), in their order.
people: Final = Table(
    "postback_journal_people",
    METADATA,
    _word("grant", primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False, nullable=False),
    Column("number", Integer, primary_key=True, autoincrement=False, nullable=False),
    _time("at_ms"),
    _word("person"),
    Index("postback_journal_people_person", "person"),
    Index("postback_journal_people_at", "at_ms"),
)

#: What operators did.
actions: Final = Table(
    "postback_journal_actions",
    METADATA,
    _word("grant", primary_key=True),
    _time("at_ms"),
    _word("action"),
    Column("who", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Index("postback_journal_actions_at", "at_ms"),
)

#: Records that are missing, for each Redis (its journal id).
gaps: Final = Table(
    "postback_journal_gaps",
    METADATA,
    _word("journal", primary_key=True),
    _word("provider", primary_key=True),
    _time("since_ms", primary_key=True),
    _time("until_ms"),
    Column("lost", BigInteger, nullable=False),
    Index("postback_journal_gaps_until", "until_ms"),
)

#: When a process last wrote for a Redis (its journal id).
writers: Final = Table(
    "postback_journal_writers",
    METADATA,
    _word("journal", primary_key=True),
    _word("provider", primary_key=True),
    _time("at_ms"),
)
