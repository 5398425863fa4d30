"""The journal's migrations, and the plans of its searches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event, text

from postback.journal import schema
from postback.journal.query import Query
from postback.journal.store import Store
from tests.shared.journal import AT_MS, entry, records
from workers.devkit import ROOT

#: Events of the table whose plans are asked for.
MANY: Final = 6_000
#: A search, and the index that it must use.
PLANS: Final = {
    "id": (Query(ids=frozenset({"e77"})), "postback_journal_entries_id"),
    "key": (Query(key="k78"), "postback_journal_entries_key"),
    "user": (Query(user="u77"), "postback_journal_entries_user"),
    "users": (Query(user="u77", limit=20), "postback_journal_entries_user"),
    "person": (Query(user="u77", limit=20), "postback_journal_people_person"),
    "account": (Query(provider="tgtrack", account="a7", limit=2), "postback_journal_entries_queue"),
    "latest": (Query(limit=20), "postback_journal_entries_at"),
    "since": (Query(since_ms=AT_MS + MANY - 5.5), "postback_journal_entries_at"),
    "delivered": (Query(outcome="delivered", limit=20), "postback_journal_entries_at"),
    "dead": (Query(outcome="dead", limit=20), "postback_journal_entries_rare"),
}  # fmt: skip


def described(connection: Connection) -> Any:
    """The journal's tables and indexes, as the database itself describes them."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")).all()
        # Constraints with and without line breaks are the same.
        return {name: re.sub(r"\s+", " ", sql) for name, sql in rows if name != schema.VERSIONS}
    columns = connection.execute(
        text(
            "SELECT table_name, ordinal_position, column_name, data_type, character_maximum_length, is_nullable, column_default "
            "FROM information_schema.columns WHERE table_schema = 'public'"
        )
    ).all()
    indexes = connection.execute(text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")).all()
    kept = {row for row in (*columns, *indexes) if schema.VERSIONS not in row[0]}
    return {tuple(row) for row in kept}


def test_migrations_make_the_schema(database: str) -> None:
    """The migrations give exactly the tables, columns and indexes of schema.py."""
    with Store.writing(database) as store, store._engine.begin() as connection:
        migrated = described(connection)
        schema.METADATA.drop_all(connection)
        schema.METADATA.create_all(connection)
        assert described(connection) == migrated


def test_the_newest_revision() -> None:
    """schema.py names the newest migration; they are in one line, in the order of their names."""
    folder = ScriptDirectory(str(ROOT / "postback" / "journal" / "migrations"))
    revisions = [script.revision for script in folder.walk_revisions()][::-1]
    assert revisions == sorted(revisions)
    assert folder.get_current_head() == schema.REVISION


class Plans:
    """A filled store that explains the statements of its searches."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._statements: list[tuple[str, Any]] = []
        event.listen(store._engine, "before_cursor_execute", self._executed)

    def _executed(self, _connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            self._statements.append((statement, values))

    def of(self, call: Callable[[], object]) -> str:
        """The plan of the first statement that a call executes."""
        self._statements.clear()
        call()
        statement, values = self._statements[0]
        engine: Engine = self.store._engine
        explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
        with engine.connect() as connection:
            rows = connection.exec_driver_sql(explain + statement, values).all()
        return "\n".join(str(row[-1]) for row in rows)


@pytest.fixture
def plans(database: str) -> Iterator[Plans]:
    """Some thousand entries: a few are dead, most have no key, accounts are many."""
    numbers = range(MANY)
    with Store.writing(database) as store:
        rows = (
            entry(
                f"e{n}", AT_MS + n, key=f"k{n}" if n % 13 == 0 else "", user=f"u{n // 3}", queue=f"tgtrack.a{n % 50}",
                also=(f"p{n}",) if n % 7 == 0 else (), end="dead" if n % 500 == 0 else "delivered",
            )
            for n in numbers
        )  # fmt: skip
        store.add("j", "tgtrack", records(*rows), None, AT_MS)
        with store._engine.begin() as connection:
            connection.exec_driver_sql("ANALYZE")
        yield Plans(store)


@pytest.mark.parametrize("name", PLANS)
def test_an_index_is_used(plans: Plans, name: str) -> None:
    """Each search goes through its index and never through the whole table."""
    query, index = PLANS[name]
    plan = plans.of(lambda: plans.store.entries(query))
    assert index in plan, plan
    assert not re.search(r"Seq Scan on postback_journal_entries|SCAN postback_journal_entries$", plan, re.M), plan


def test_pruning_uses_an_index(plans: Plans) -> None:
    """A step of pruning looks only at rows that are old."""
    plan = plans.of(lambda: plans.store.prune(AT_MS + 10))
    assert "postback_journal_entries_at" in plan, plan
    assert "Seq Scan" not in plan, plan
