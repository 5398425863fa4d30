"""The first form of the journal's tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "postback_journal_actions",
        sa.Column("grant", sa.String(length=255), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("action", sa.String(length=255), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("grant"),
    )
    op.create_index("postback_journal_actions_at", "postback_journal_actions", ["at_ms"], unique=False)
    op.create_table(
        "postback_journal_entries",
        sa.Column("grant", sa.String(length=255), nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("queue", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("task", sa.String(length=255), nullable=False),
        sa.Column("user", sa.String(length=255), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=255), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("ms", sa.Double(), nullable=True),
        sa.Column("worker", sa.String(length=255), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("end", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("possible_duplicate", sa.Boolean(), nullable=False),
        sa.Column("enqueued_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("grant", "place"),
    )
    op.create_index(
        "postback_journal_entries_at", "postback_journal_entries", ["at_ms", "queue", "task", "end"], unique=False
    )
    op.create_index("postback_journal_entries_id", "postback_journal_entries", ["id"], unique=False)
    op.create_index(
        "postback_journal_entries_key",
        "postback_journal_entries",
        ["key_hash"],
        unique=False,
        sqlite_where=sa.text("key_hash <> ''"),
        postgresql_where=sa.text("key_hash <> ''"),
    )
    op.create_index("postback_journal_entries_queue", "postback_journal_entries", ["queue", "at_ms"], unique=False)
    op.create_index(
        "postback_journal_entries_rare",
        "postback_journal_entries",
        ["end", "at_ms"],
        unique=False,
        sqlite_where=sa.text("\"end\" NOT IN ('', 'delivered')"),
        postgresql_where=sa.text("\"end\" NOT IN ('', 'delivered')"),
    )
    op.create_index("postback_journal_entries_user", "postback_journal_entries", ["user", "at_ms"], unique=False)
    op.create_table(
        "postback_journal_gaps",
        sa.Column("journal", sa.String(length=255), nullable=False),
        sa.Column("provider", sa.String(length=255), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("until_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lost", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("journal", "provider", "since_ms"),
    )
    op.create_index("postback_journal_gaps_until", "postback_journal_gaps", ["until_ms"], unique=False)
    op.create_table(
        "postback_journal_people",
        sa.Column("grant", sa.String(length=255), nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("person", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("grant", "place", "number"),
    )
    op.create_index("postback_journal_people_at", "postback_journal_people", ["at_ms"], unique=False)
    op.create_index("postback_journal_people_person", "postback_journal_people", ["person"], unique=False)
    op.create_table(
        "postback_journal_writers",
        sa.Column("journal", sa.String(length=255), nullable=False),
        sa.Column("provider", sa.String(length=255), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("journal", "provider"),
    )


def downgrade() -> None:
    """Remove them."""
    for name in ("writers", "people", "gaps", "entries", "actions"):
        op.drop_table(f"postback_journal_{name}")
