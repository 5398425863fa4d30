"""The journal's database, on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from postback.errors import ConfigurationError, NoJournal
from postback.journal import schema
from postback.journal.location import VARIABLE, file_of, journal_url
from postback.journal.query import Query
from postback.journal.records import Action, Entry, Gap, Record
from postback.journal.refusals import DatabaseAway, RecordsRefused
from postback.journal.store import WRITTEN_S, Store
from tests.shared.journal import AT_MS, PASSWORD, entry, records
from tests.shared.postgres import PostgresServer

FULL = Entry(
    grant="postback:5f.12.1", place=3, at_ms=AT_MS, queue="tonai.shop", id="a", task="tonai.conversion", user="7000100",
    also=("42", "41"), key="order-17", key_hash="0" * 64, outcome="retry", status=503, detail="“no” 🚫", ms=12.25, worker="w@h",
    batch=2, end="", reason="", possible_duplicate=True, enqueued_ms=AT_MS - 5, first_ms=AT_MS - 1,
)  # fmt: skip


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with Store.writing(database) as store:
        yield store


def add(store: Store, *entries: Entry, gap: Gap | None = None, now_ms: float = AT_MS, journal: str = "j") -> None:
    store.add(journal, "tgtrack", records(*entries), gap, now_ms)


def ids(found: list[Entry]) -> list[str]:
    """Ids of events in the order of their first entries."""
    return list(dict.fromkeys(one.id for one in found))


# What cannot be opened


def test_no_file(tmp_path: Path) -> None:
    """Who reads where there is no file is told so, and makes none."""
    url = f"sqlite:///{tmp_path / 'journal.sqlite3'}"
    with pytest.raises(NoJournal, match=r"there is no journal at .*start `python -m workers.journal`"):
        Store.reading(url)
    assert not list(tmp_path.iterdir())


def test_no_directory(tmp_path: Path) -> None:
    """Who writes into a directory that does not exist has a wrong setting."""
    with pytest.raises(ConfigurationError, match=f"^{VARIABLE}: there is no directory .*nowhere$"):
        Store.writing(f"sqlite:///{tmp_path / 'nowhere' / 'journal.sqlite3'}")


def test_no_sqlite_file(tmp_path: Path) -> None:
    """A file of something else is no journal, and stays as it is."""
    path = tmp_path / "journal.sqlite3"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(NoJournal, match="cannot be used now: file is not a database"):
        Store.reading(f"sqlite:///{path}")
    with pytest.raises(DatabaseAway, match="file is not a database"):
        Store.writing(f"sqlite:///{path}")
    assert path.read_bytes() == b"not a database" * 100


def test_no_tables(database: str) -> None:
    """A database without the journal's tables is none, and reading does not make them."""
    if path := file_of(database):
        path.touch()
    for _ in range(2):
        with pytest.raises(NoJournal, match="holds no journal"):
            Store.reading(database)


@pytest.mark.parametrize(
    ("revision", "words"), [("0000", "an older Postback's"), ("9999", "a newer Postback's: update")]
)
def test_another_schema(database: str, store: Store, revision: str, words: str) -> None:
    """The tables of another version are not read; those of a newer one are not written either."""
    with store._engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {schema.VERSIONS} SET version_num = '{revision}'")
    with pytest.raises(NoJournal, match=words):
        Store.reading(database)
    if revision == "9999":
        with pytest.raises(ConfigurationError, match=f"^{VARIABLE}: .*{words}"):
            Store.writing(database)


def test_no_server(tmp_path: Path) -> None:
    """A server that is away is a sentence without the password, for both."""
    url = journal_url({VARIABLE: f"postgresql://zoe:s3cret%2FW0rd%40@/postback?host={tmp_path}"})
    with pytest.raises(NoJournal, match=r"cannot be used now: .*No such file") as reading:
        Store.reading(url)
    with pytest.raises(DatabaseAway, match=r"cannot be used now: .*No such file") as writing:
        Store.writing(url)
    for caught in (reading, writing):
        assert not any(word in str(caught.value) for word in (PASSWORD, "s3cret", "zoe", "\n"))


def test_no_such_database(journal_server: PostgresServer) -> None:
    """A server without the database says so."""
    with pytest.raises(NoJournal, match='database "nowhere" does not exist'):
        Store.reading(journal_url({VARIABLE: f"postgresql://postback@/nowhere?host={journal_server.folder}"}))


@pytest.mark.parametrize("package", ["sqlalchemy", "psycopg"])
def test_no_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, reading is NoJournal and writing a wrong setting; both name the extra."""

    def missing(name: str, *args: object, **kwargs: object) -> object:
        if name.partition(".")[0] == package or (name == "postback.journal.database" and package == "sqlalchemy"):
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(name, *args, **kwargs)

    real = __import__
    monkeypatch.setattr("builtins.__import__", missing)
    words = rf"the journal needs the package {package}: install Postback with its extra \[journal\]"
    with pytest.raises(NoJournal, match=words):
        Store.reading("postgresql+psycopg://host/db")
    with pytest.raises(ConfigurationError, match=f"^{VARIABLE}: {words}"):
        Store.writing("postgresql+psycopg://host/db")


def test_reading_changes_nothing(database: str, store: Store) -> None:
    """A store that was opened to read refuses to write."""
    with Store.reading(database) as reader, pytest.raises(DatabaseAway, match=r"read-?only"):
        add(reader, entry("a"))
    assert store.entries(Query()) == []


# Who writes


def test_nobody_writes(store: Store) -> None:
    """A database that nobody writes, or for another Redis alone, is no journal of this one."""
    add(store, journal="other")
    with pytest.raises(NoJournal, match=f"nobody has written .* is {VARIABLE} the one"):
        store.check_written("j", AT_MS)


def test_abandoned(store: Store) -> None:
    """It counts as abandoned a minute after the last beat of whichever provider."""
    add(store)
    store.add("j", "tonai", [], None, AT_MS + 10)
    store.check_written("j", AT_MS + 10 + WRITTEN_S * 1000)
    with pytest.raises(NoJournal, match=r"was last written 61 s ago: is `python -m workers.journal` running\?"):
        store.check_written("j", AT_MS + 10 + 61_000)


# Refused records


@pytest.mark.parametrize(
    "bad", [replace(FULL, at_ms=1 << 70), replace(FULL, id=None), replace(FULL, detail="\ud800"), replace(FULL, also=(None,))],
    ids=["number", "none", "surrogate", "person"],
)  # fmt: skip
def test_refused(store: Store, bad: Entry) -> None:
    """A record that the database does not take is refused without its contents, and none of its
    transaction is written.
    """
    with pytest.raises(RecordsRefused) as caught:
        add(store, entry("a"), bad, gap=Gap("tgtrack", 1, 2, 3))
    assert not any(word in str(caught.value) for word in ("7000100", "order-17", "tonai"))
    assert store.entries(Query()) == []
    assert store.gaps("j") == []
    with pytest.raises(NoJournal):
        store.check_written("j", AT_MS)


def test_postgresql_s_own(journal_server: PostgresServer, database: str, store: Store) -> None:
    """What PostgreSQL alone refuses, NUL and a text that is longer than its column, is refused
    too, not taken for a server that is away.
    """
    for bad in (replace(FULL, detail="a\0b"), replace(FULL, queue="q" * 300)):
        if file_of(database) is None:
            with pytest.raises(RecordsRefused):
                add(store, bad)
        else:
            add(store, bad)


def test_longest_texts(store: Store) -> None:
    """The longest texts that a record can have fit, whatever their characters, in every index."""
    word, text = "🚫" * 255, "🚫" * 2000
    long = replace(
        FULL, grant=text, queue=word, id=word, task=word, user=word, also=(word,), key=text, outcome=word,
        detail=text, worker=word, end=word, reason=word,
    )  # fmt: skip
    action = Action(text, AT_MS, "drop", text, text, text)
    store.add("j", "tgtrack", [Record([long], action)], None, AT_MS)
    assert store.entries(Query(user=word)) == [replace(long, grant=word)]
    assert store.actions() == [replace(action, grant=word)]


# What is written


def test_whole(store: Store) -> None:
    """Every field comes back as it was, people in their order."""
    add(store, FULL)
    assert store.entries(Query()) == [FULL]


def test_twice(store: Store) -> None:
    """A record that is read twice is one row, and stays as it was first."""
    add(store, FULL, entry("b"))
    add(store, replace(FULL, detail="other", also=("42", "41", "40")), entry("b"), entry("c"))
    found = {one.id: one for one in store.entries(Query())}
    assert sorted(found) == ["a", "b", "c"]
    assert found["a"].detail == FULL.detail


def test_actions(store: Store) -> None:
    """Actions come the latest first, of the places and since the time that are asked for."""
    done = [Action(f"action:{n}", AT_MS + n, "pause", "ann@ops1", f"tgtrack.{'ab'[n % 2]}", "why") for n in range(4)]
    for _ in range(2):
        store.add("j", "tgtrack", [Record(action=action) for action in done], None, AT_MS)
    assert store.actions() == done[::-1]
    assert store.actions(AT_MS + 1.5, ["tgtrack.b", "tgtrack"], 1) == [done[3]]
    assert store.actions(places=[]) == []


def test_gaps(store: Store) -> None:
    """A gap that is written again replaces itself; each Redis has its own."""
    add(store, gap=Gap("tgtrack", 10, 20, 3))
    add(store, gap=Gap("tgtrack", 10, 25, 5))
    add(store, gap=Gap("tgtrack", 30, 31, 1))
    add(store, gap=Gap("tgtrack", 10, 20, 9), journal="other")
    assert store.gaps("j") == [Gap("tgtrack", 10, 25, 5), Gap("tgtrack", 30, 31, 1)]
    assert store.gaps("j", 25.5) == [Gap("tgtrack", 30, 31, 1)]


def test_prune(database: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old rows of every table go in small steps; newer ones stay."""
    monkeypatch.setattr("postback.journal.rows.STEP", 3)
    old = [replace(entry(f"e{n}", AT_MS + n), also=("9",)) for n in range(8)]
    add(store, *old, gap=Gap("tgtrack", 1, AT_MS, 3))
    store.add("j", "tgtrack", [Record(action=Action("action:1", AT_MS, "pause", "ann", "tgtrack.a"))], None, AT_MS)
    removed = [store.prune(AT_MS + 5.5) for _ in range(4)]
    assert removed == [3 + 3 + 1 + 1, 3 + 3, 0, 0]
    assert ids(store.entries(Query())) == ["e7", "e6"]
    assert (store.actions(), store.gaps("j")) == ([], [])
    assert ids(store.entries(Query(user="9"))) == ["e7", "e6"]


def test_several_writers(database: str) -> None:
    """Processes that start at once on an empty database make one schema, and records that several
    of them write are there once.
    """
    failed: list[BaseException] = []
    together = threading.Barrier(6)

    def write() -> None:
        try:
            together.wait()
            with Store.writing(database) as store:
                for part in range(5):
                    add(store, *(entry(f"e{n}") for n in range(part * 10, part * 10 + 20)))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with Store.reading(database) as store:
        assert len(store.entries(Query())) == 60


def test_beside_an_application(database: str) -> None:
    """The journal may stand in an application's database, beside its tables and its own Alembic."""
    engine = sqlalchemy.create_engine(database)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE entries (id INTEGER)")
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('abcdef')")
    with Store.writing(database) as store:
        add(store, FULL)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "abcdef"
        names = set(sqlalchemy.inspect(connection).get_table_names()) - {"entries", "alembic_version"}
    engine.dispose()
    assert all(name.startswith("postback_journal_") for name in names)


# What is found


@pytest.fixture
def filled(store: Store) -> Store:
    """Seven events: retried, of several people, dead, replayed, without ids."""
    add(
        store,
        entry("a", AT_MS + 1, user="7", key="k1", outcome="retry"),
        entry("a", AT_MS + 50, user="7", key="k1", end="delivered"),
        entry("b", AT_MS + 2, user="8", also=("7", "9"), end="dead", queue="tgtrack.shop"),
        entry("b", AT_MS + 40, user="8", end="replayed", queue="tgtrack.shop", reason="ann@ops1"),
        entry("c", AT_MS + 3, user="7", task="tonai.conversion", queue="tonai.main", end="delivered"),
        entry("", AT_MS + 4, 0, grant="x", user="6", end="delivered"),
        entry("", AT_MS + 4, 1, grant="x", user="5", end="dead"),
        entry("d", AT_MS + 5, user="7_0", queue="tgtrack.shop2", end="cancelled"),
    )
    return store


@pytest.mark.parametrize(
    ("query", "events"),
    [
        (Query(), ["a", "b", "d", "", "c"]),
        (Query(ids=frozenset({"a", "c", "nobody"})), ["a", "c"]),
        (Query(key="k1"), ["a"]),
        (Query(key="k2"), []),
        (Query(key=""), []),
        (Query(user="7"), ["a", "b", "c"]),
        (Query(user="9"), ["b"]),
        (Query(user="7%"), []),
        (Query(user="7", limit=2), ["a", "c"]),
        (Query(provider="tonai"), ["c"]),
        (Query(provider="tg%"), []),
        (Query(provider="ton"), []),
        (Query(account="main"), ["a", "", "c"]),
        (Query(provider="tgtrack", account="shop"), ["b"]),
        (Query(account="nobody"), []),
        (Query(task="tonai.conversion"), ["c"]),
        (Query(outcome="dead"), ["b", ""]),
        (Query(outcome="delivered"), ["a", "", "c"]),
        (Query(outcome="cancelled"), ["d"]),
        (Query(outcome="waiting"), []),
        (Query(outcome="duplicate"), []),
        (Query(since_ms=AT_MS + 5), ["a", "b", "d"]),
        (Query(since_ms=AT_MS + 5.5), ["a", "b"]),
        (Query(user="7", outcome="delivered", since_ms=AT_MS + 4), ["a"]),
        (Query(limit=1), ["a"]),
        (Query(limit=3), ["a", "b", "d"]),
    ],
)
def test_found(filled: Store, query: Query, events: list[str]) -> None:
    """All conditions hold for an event that is found, the latest comes first, and the limit counts
    events, by their latest entry that matches.
    """
    assert ids(filled.entries(query)) == events


def test_all_of_an_event(filled: Store) -> None:
    """Of an event that is found every entry comes, in order of time, side by side."""
    found = filled.entries(Query(user="7", outcome="delivered"))
    assert [(one.id, one.at_ms - AT_MS) for one in found] == [("a", 1), ("a", 50), ("c", 3)]
    (dead, replayed) = filled.entries(Query(user="9"))
    assert (dead.also, replayed.end) == (("7", "9"), "replayed")


def test_without_id(filled: Store) -> None:
    """Events without an id are events of their own."""
    assert [one.user for one in filled.entries(Query(user="5"))] == ["5"]
    assert [one.user for one in filled.entries(Query(account="main", limit=3))] == ["7", "7", "6", "5"]


def test_further_ids(filled: Store) -> None:
    """Events of further ids come too, beside those of the query and its limit."""
    assert ids(filled.entries(Query(outcome="waiting"), ids=["c", "nobody", ""])) == ["c"]
    assert ids(filled.entries(Query(limit=1), ids=["c", "a"])) == ["a", "c"]


def test_limit_over_many_entries(store: Store) -> None:
    """A limit holds where the latest event alone has more entries than are read at first."""
    add(store, *(entry("a", AT_MS + n) for n in range(100)), entry("b", AT_MS - 1), entry("c", AT_MS - 2))
    assert ids(store.entries(Query(limit=2))) == ["a", "b"]
    assert len(store.entries(Query(limit=3))) == 102


def test_many_ids(store: Store) -> None:
    """More events than a statement takes values come in parts."""
    many = [entry(f"e{n}", AT_MS + n, also=("9",)) for n in range(1_200)]
    add(store, *many)
    assert store.entries(Query(), ids=[one.id for one in many]) == many[::-1]


def test_lost_while_reading(tmp_path: Path) -> None:
    """A server that goes away meanwhile is NoJournal, and a DatabaseAway for who writes."""
    with PostgresServer() as server:
        url = journal_url({VARIABLE: server.url})
        with Store.writing(url) as writer, Store.reading(url) as reader:
            server.interrupt()
            with pytest.raises(NoJournal, match="cannot be used now"):
                reader.entries(Query())
            with pytest.raises(DatabaseAway, match="cannot be used now"):
                add(writer, FULL)
            server.start_again()
            add(writer, FULL)
            assert reader.entries(Query()) == [FULL]


def test_a_reader_holds_nobody_up(database: str, store: Store) -> None:
    """Records are written while somebody reads."""
    add(store, FULL)
    with Store.reading(database) as reader, reader._engine.connect() as connection:
        assert connection.scalar(sqlalchemy.select(sqlalchemy.func.count()).select_from(schema.entries)) == 1
        add(store, entry("b"))
        assert len(store.entries(Query())) == 2


def test_permissions(journal_server: PostgresServer) -> None:
    """A reader needs the right to read alone."""
    url = journal_url({VARIABLE: journal_server.url})
    with Store.writing(url) as store:
        add(store, FULL)
    with psycopg.connect(host=str(journal_server.folder), user="postback", dbname="postback") as connection:
        connection.execute("DROP OWNED BY reader") if connection.execute(
            "SELECT 1 FROM pg_roles WHERE rolname = 'reader'"
        ).fetchone() else connection.execute("CREATE ROLE reader LOGIN")
        connection.execute("GRANT USAGE ON SCHEMA public TO reader")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    reading = url.replace("postback@", "reader@")
    with Store.reading(reading) as reader:
        assert FULL in reader.entries(Query())
