"""A journal's database of each kind, and the movers that write it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from postback.journal.location import journal_url
from tests.shared.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL."""
    with PostgresServer() as server:
        yield server


def url_of(server: PostgresServer, database: str = "postback") -> str:
    """The URL of a database of the server."""
    url = f"postgresql://postback:Secret-pg-7f2@/{database}?host={server.folder}"
    return journal_url({"POSTBACK_JOURNAL_URL": url})


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'journal.sqlite3'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"journal_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(url_of(server), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url_of(server, name)
