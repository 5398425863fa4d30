"""The journal's database: how it is opened, brought up to date, and what its errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    column,
    create_engine,
    event,
    exc,
    func,
    inspect,
    make_url,
    select,
    table,
)

from postback.errors import ConfigurationError, NoJournal
from postback.journal.location import VARIABLE, file_of, masked, shown
from postback.journal.refusals import DatabaseAway, RecordsRefused
from postback.journal.schema import REVISION, VERSIONS

__all__ = ["open_reading", "open_writing", "sentences"]

#: Seconds for which SQLite waits for another process that writes.
BUSY_S: Final = 3
#: Seconds to wait for a connection to PostgreSQL, unless the URL says it.
CONNECT_S: Final = 5
#: KiB of SQLite's cache in the process that writes: its indexes are written in no order.
CACHE_KIB: Final = 65_536
#: PostgreSQL's advisory lock of whoever changes the schema: any number that is always the same.
UPGRADE_LOCK: Final = 0x706F7374_6A726E6C
#: PostgreSQL's classes of errors that lie in the data: values, constraints, sizes.
_IN_THE_DATA: Final = ("22", "23", "54")
#: No error repeats the values of a statement: they are people's data.
_COMMON: Final[dict[str, Any]] = {"hide_parameters": True}


def open_reading(url: str) -> Engine:
    """Open a journal that exists. Nothing is created or changed.

    Raises:
        NoJournal: There is none, it cannot be reached, or its schema is another one.
    """
    path = file_of(url)
    hint = f"start `python -m workers.journal`, or set {VARIABLE} to the database that it writes"
    if path is not None and not path.is_file():
        raise NoJournal(f"there is no journal at {shown(url)}: {hint}")
    engine = _sqlite(url, "ro", "BEGIN") if path is not None else _server(url, postgresql_readonly=True)
    try:
        with sentences(url), engine.connect() as connection:
            revision = _revision(connection)
    except DatabaseAway as away:
        engine.dispose()
        raise NoJournal(str(away)) from away
    if revision is None:
        raise NoJournal(f"{shown(url)} holds no journal: {hint}")
    if revision > REVISION:
        raise NoJournal(_newer(url))
    if revision < REVISION:
        raise NoJournal(
            f"the journal at {shown(url)} is an older Postback's: start this one's `python -m workers.journal`"
        )
    return engine


def open_writing(url: str) -> Engine:
    """Open the journal, and make it or bring it up to date. Several processes may do so at once.

    Raises:
        ConfigurationError: There is no such folder, or a newer Postback has made its schema.
        DatabaseAway: The database cannot be used now.
    """
    path = file_of(url)
    if path is not None and not path.parent.is_dir():
        raise ConfigurationError(f"{VARIABLE}: there is no directory {path.parent}")
    engine = _sqlite(url, "rwc", "BEGIN IMMEDIATE") if path is not None else _server(url)
    with sentences(url), engine.begin() as connection:
        _upgrade(connection, url)
    return engine


@contextmanager
def sentences(url: str) -> Iterator[None]:
    """Turn a database's errors into ours.

    Raises:
        RecordsRefused: The fault lies in what was to be written.
        DatabaseAway: It does not.
    """
    try:
        yield
    except (exc.StatementError, sqlite3.Error, OverflowError, UnicodeError) as error:
        cause = getattr(error, "orig", None) or error
        words = masked(url, str(cause).partition("\n")[0]) or type(cause).__name__
        if _is_in_the_data(error, cause):
            # Its words may repeat what a row holds.
            raise RecordsRefused(f"the journal at {shown(url)} refuses records ({type(cause).__name__})") from None
        raise DatabaseAway(f"the journal at {shown(url)} cannot be used now: {words}") from None


def _is_in_the_data(error: Exception, cause: BaseException) -> bool:
    if isinstance(error, exc.DBAPIError):
        state = str(getattr(cause, "sqlstate", None) or "")
        return isinstance(error, exc.DataError | exc.IntegrityError) or state.startswith(_IN_THE_DATA)
    return not isinstance(error, sqlite3.Error)


def _sqlite(url: str, mode: str, begin: str) -> Engine:
    database = f"file:{quote(str(file_of(url)))}"
    at = URL.create("sqlite", database=database, query={"mode": mode, "uri": "true"})
    engine = create_engine(at, connect_args={"timeout": BUSY_S}, **_COMMON)
    pragmas = ["query_only=ON"]
    if mode != "ro":
        # FULL: what leaves Redis after a commit must outlive a power cut.
        pragmas = ["journal_mode=WAL", "synchronous=FULL", f"cache_size=-{CACHE_KIB}"]

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        # The module must not begin transactions by itself, which it does after the first read.
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _server(url: str, **options: Any) -> Engine:
    timeout = {} if "connect_timeout" in make_url(url).query else {"connect_timeout": CONNECT_S}
    # Values by their places, as SQLite takes them.
    return create_engine(
        url, connect_args=timeout, execution_options=options, pool_pre_ping=True, paramstyle="format", **_COMMON
    )


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSIONS):
        return None
    revision: str | None = connection.scalar(select(column("version_num")).select_from(table(VERSIONS)))
    return revision


def _upgrade(connection: Connection, url: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(UPGRADE_LOCK)))
    revision = _revision(connection)
    if revision == REVISION:
        return
    if revision is not None and revision > REVISION:
        raise ConfigurationError(f"{VARIABLE}: {_newer(url)}")
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "postback.journal:migrations")
    command.upgrade(config, "head")


def _newer(url: str) -> str:
    return f"the journal at {shown(url)} is a newer Postback's: update this one"
