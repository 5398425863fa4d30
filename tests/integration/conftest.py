"""The journal's databases: an SQLite file, and a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from postback.journal.location import VARIABLE, journal_url
from tests.shared.postgres import PostgresServer


@pytest.fixture(scope="session")
def journal_server() -> Iterator[PostgresServer]:
    """A server for all tests of the session; one that stops it makes its own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return journal_url({VARIABLE: f"sqlite:///{tmp_path / 'journal.sqlite3'}"})
    server: PostgresServer = request.getfixturevalue("journal_server")
    with psycopg.connect(host=str(server.folder), user="postback", dbname="postback") as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return journal_url({VARIABLE: server.url})
