"""The journal's first tables: entries, people, actions, gaps, writers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_WORD = sa.String(255)
_WITH_KEY = sa.text("key_hash <> ''")
_RARE_END = sa.text("\"end\" NOT IN ('', 'delivered')")


def _column(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "postback_journal_entries",
        _column("grant", _WORD),
        _column("place", sa.Integer),
        _column("at_ms", sa.BigInteger),
        _column("queue", _WORD),
        _column("id", _WORD),
        _column("task", _WORD),
        _column("user", _WORD),
        _column("key", sa.Text),
        _column("key_hash", sa.String(64)),
        _column("outcome", _WORD),
        sa.Column("status", sa.Integer),
        _column("detail", sa.Text),
        sa.Column("ms", sa.Double),
        _column("worker", _WORD),
        _column("batch", sa.Integer),
        _column("end", _WORD),
        _column("reason", _WORD),
        _column("possible_duplicate", sa.Boolean),
        _column("enqueued_ms", sa.BigInteger),
        _column("first_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("grant", "place"),
    )
    _index("entries", "id", "id")
    _index("entries", "user", "user", "at_ms")
    _index("entries", "key", "key_hash", where=_WITH_KEY)
    _index("entries", "queue", "queue", "at_ms")
    _index("entries", "at", "at_ms", "queue", "task", "end")
    _index("entries", "rare", "end", "at_ms", where=_RARE_END)
    op.create_table(
        "postback_journal_people",
        _column("grant", _WORD),
        _column("place", sa.Integer),
        _column("number", sa.Integer),
        _column("at_ms", sa.BigInteger),
        _column("person", _WORD),
        sa.PrimaryKeyConstraint("grant", "place", "number"),
    )
    _index("people", "person", "person")
    _index("people", "at", "at_ms")
    op.create_table(
        "postback_journal_actions",
        _column("grant", _WORD),
        _column("at_ms", sa.BigInteger),
        _column("action", _WORD),
        _column("who", sa.Text),
        _column("place", sa.Text),
        _column("detail", sa.Text),
        sa.PrimaryKeyConstraint("grant"),
    )
    _index("actions", "at", "at_ms")
    op.create_table(
        "postback_journal_gaps",
        _column("journal", _WORD),
        _column("provider", _WORD),
        _column("since_ms", sa.BigInteger),
        _column("until_ms", sa.BigInteger),
        _column("lost", sa.BigInteger),
        sa.PrimaryKeyConstraint("journal", "provider", "since_ms"),
    )
    _index("gaps", "until", "until_ms")
    op.create_table(
        "postback_journal_writers",
        _column("journal", _WORD),
        _column("provider", _WORD),
        _column("at_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("journal", "provider"),
    )


def _index(table: str, name: str, *columns: str, where: sa.TextClause | None = None) -> None:
    op.create_index(
        f"postback_journal_{table}_{name}",
        f"postback_journal_{table}",
        columns,
        sqlite_where=where,
        postgresql_where=where,
    )
