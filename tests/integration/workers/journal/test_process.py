"""``python -m workers.journal`` as a process: killed, in two, without Redis or its database."""

from __future__ import annotations

import os
import re
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from postback.errors import NoJournal
from postback.journal.location import VARIABLE, file_of, journal_url
from postback.journal.query import Query
from postback.journal.records import Gap
from postback.journal.store import Store
from postback.wire import keys
from tests.shared.journal import record
from tests.shared.postgres import PostgresServer
from workers.devkit import Process, RedisServer, Stack, until

STREAM, GAP = keys.journal("tgtrack"), keys.journal_gap("tgtrack")
#: The process, which is killed where it would remove what it has committed.
KILLED: Final = """
import os, signal
from workers.journal import mover
moved = mover._moved
def killed(client, names, arguments):
    os.kill(os.getpid(), signal.SIGKILL) if arguments[0] else moved(client, names, arguments)
mover._moved = killed
from workers.journal.__main__ import main
main()
"""
PASSWORD: Final = "s3cret%2FW0rd%40"


def now_ms() -> int:
    """Old records would be pruned."""
    return int(time.time() * 1000)


class Bench:
    """A stack without workers, whose journal is in one database."""

    def __init__(self, stack: Stack, url: str) -> None:
        self.stack, self.url, self.client = stack, url, stack.client()
        #: Records that were put into the stream.
        self.count = 0

    def put(self, count: int) -> None:
        """Put records of delivered events into the stream."""
        with self.client.pipeline() as pipeline:
            for number in range(self.count, self.count + count):
                pipeline.xadd(STREAM, {"record": record(number, now_ms())})
            pipeline.execute()
        self.count += count

    def lose(self, count: int) -> int:
        """Lose records as a full stream does; returns when."""
        since = now_ms()
        self.client.hset(GAP, mapping={"since": since, "until": since + 1, "lost": count})
        return since

    def start(self, **env: str) -> Process:
        return self.stack.start_journal(**{VARIABLE: self.url, **env})

    def until_moved(self, timeout_s: float = 30.0) -> None:
        def moved() -> bool:
            return not (self.client.xlen(STREAM) or self.client.exists(GAP))

        until(moved, timeout_s, "all records moved")

    def ids(self) -> list[str]:
        """Events in the database, once for each entry."""
        with Store.reading(self.url) as store:
            return sorted(entry.id for entry in store.entries(Query()))

    @property
    def expected(self) -> list[str]:
        return sorted(f"e{number}" for number in range(self.count))

    def gaps(self) -> list[Gap]:
        with Store.reading(self.url) as store:
            return store.gaps(str(self.client.hget(keys.JOURNAL, "id")))


@pytest.fixture
def stack() -> Iterator[Stack]:
    with Stack(appendonly=True) as stack:
        yield stack


@pytest.fixture
def bench(stack: Stack, database: str) -> Bench:
    """On each database."""
    return Bench(stack, database)


@pytest.fixture
def sqlite(stack: Stack) -> Bench:
    """On SQLite."""
    return Bench(stack, stack.settings()[VARIABLE])


def warnings(process: Process) -> list[str]:
    return [line for line in process.text().splitlines() if " WARNING " in line]


# Killed


def test_killed_between_commit_and_removal(bench: Bench) -> None:
    """A process that is killed after its commit leaves all records in Redis; the next one moves
    them, and each is in the database once, the gap too.
    """
    bench.put(50)
    since = bench.lose(7)
    killed = bench.stack.launch("journal", "-c", KILLED, **{VARIABLE: bench.url})
    assert until(lambda: not killed.alive, 60)
    assert killed.process.returncode == -signal.SIGKILL
    assert bench.client.xlen(STREAM) == 50
    assert bench.ids() == bench.expected
    bench.put(5)
    bench.start()
    bench.until_moved()
    assert bench.ids() == bench.expected
    assert bench.gaps() == [Gap("tgtrack", since, since + 1, 7)]


def test_killed_at_random(sqlite: Bench) -> None:
    """Whenever it is killed, no record is lost and none is there twice."""
    for left in (2_900, 2_000, 1_500, 1_000, 100):
        process = sqlite.start()
        sqlite.put(3_000)
        until(lambda left=left: sqlite.client.xlen(STREAM) <= left, 30)
        process.kill()
        # Another test waits until the right of a killed process ends.
        sqlite.client.delete(keys.JOURNAL_WRITER)
    sqlite.start()
    sqlite.until_moved()
    assert sqlite.ids() == sqlite.expected


def test_two(sqlite: Bench) -> None:
    """A second process stands by, and takes over within ten seconds after the first was killed."""
    first = sqlite.start()
    second = sqlite.stack.launch_journal()
    second.wait_for("stands by")
    sqlite.put(10)
    sqlite.until_moved()
    assert "writes the journal of" not in second.text()
    first.kill()
    sqlite.put(10)
    begun_s = time.monotonic()
    sqlite.until_moved()
    assert time.monotonic() - begun_s < 10
    assert sqlite.ids() == sqlite.expected
    assert "stands by" not in first.text()


def test_stopped(sqlite: Bench) -> None:
    """Told to stop, it ends with status 0 and another one takes over at once."""
    process = sqlite.start()
    assert process.stop() == 0
    assert not sqlite.client.exists(keys.JOURNAL_WRITER)
    process = sqlite.start()
    process.process.send_signal(signal.SIGINT)
    assert process.process.wait(10) == 0
    assert warnings(process) == []


# Something is away


def test_redis_is_away(sqlite: Bench) -> None:
    """Without Redis it warns once, waits, and goes on by itself."""
    sqlite.stack.redis.kill()
    process = sqlite.stack.launch_journal()
    process.wait_for("is away")
    sqlite.stack.redis.start()
    process.wait_for("again")
    sqlite.put(10)
    sqlite.until_moved()
    sqlite.stack.redis.kill()
    until(lambda: len(warnings(process)) == 2, 30)
    sqlite.stack.redis.start()
    until(lambda: process.text().count("again") == 2, 30)
    sqlite.put(10)
    sqlite.until_moved()
    assert set(sqlite.ids()) <= set(sqlite.expected)
    assert sqlite.expected[-1] in sqlite.ids()
    assert len(warnings(process)) == 2
    assert process.alive


def test_a_redis_that_forgot(sqlite: Bench) -> None:
    """A Redis that comes back empty gets another name, and its records are moved."""
    process = sqlite.start()
    sqlite.put(5)
    sqlite.until_moved()
    name = sqlite.client.hget(keys.JOURNAL, "id")
    sqlite.client.flushall()
    sqlite.put(5)
    sqlite.until_moved()
    assert sqlite.client.hget(keys.JOURNAL, "id") not in (name, None)
    assert sqlite.ids() == sqlite.expected
    assert warnings(process) == []


def test_postgresql_is_away(stack: Stack) -> None:
    """Without its server it warns once, without the password; records wait, and are moved when the
    server is back.
    """
    with PostgresServer() as server:
        url = server.url.replace("postback@", f"postback:{PASSWORD}@")
        bench = Bench(stack, journal_url({VARIABLE: url}))
        server.interrupt()
        process = stack.launch_journal(**{VARIABLE: url})
        bench.put(10)
        process.wait_for("cannot be used now")
        server.start_again()
        bench.until_moved()
        server.interrupt()
        bench.put(10)
        until(lambda: len(warnings(process)) == 2, 30)
        assert bench.client.xlen(STREAM) == 10
        server.start_again()
        bench.until_moved()
        assert bench.ids() == bench.expected
    assert len(warnings(process)) == 2
    assert "records wait in Redis" in warnings(process)[0]
    assert not re.search("s3cret|W0rd", process.text())


def test_new_tables(stack: Stack, database: str) -> None:
    """A database that lost its tables gets them again."""
    bench = Bench(stack, database)
    bench.start()
    bench.put(5)
    bench.until_moved()
    drop = [
        f"DROP TABLE postback_journal_{name}" for name in ("entries", "people", "actions", "gaps", "writers", "version")
    ]
    with Store.writing(database) as store, store._engine.begin() as connection:
        for statement in drop:
            connection.exec_driver_sql(statement)
    bench.put(5)
    bench.until_moved()
    assert bench.ids() == bench.expected[5:]


def test_a_locked_file(sqlite: Bench) -> None:
    """A file that somebody else has locked is waited for."""
    process = sqlite.start()
    path = file_of(sqlite.url)
    assert path is not None
    until(path.exists, 30)
    sqlite.put(1)
    sqlite.until_moved()
    with sqlite3.connect(path, isolation_level=None) as locking:
        locking.execute("BEGIN EXCLUSIVE")
        sqlite.put(10)
        process.wait_for("database is locked")
        assert sqlite.client.xlen(STREAM) == 10
        locking.execute("ROLLBACK")
    sqlite.until_moved()
    assert sqlite.ids() == sqlite.expected
    assert len(warnings(process)) == 1


def test_a_full_disk(sqlite: Bench) -> None:
    """A file that cannot grow is waited for; nothing leaves Redis meanwhile."""
    process = sqlite.start()
    sqlite.put(1)
    sqlite.until_moved()
    pid = process.process.pid
    sizes = [path.stat().st_size for path in sqlite.stack.folder.glob("journal.sqlite3*")]
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE, (max(sizes), resource.RLIM_INFINITY))
    sqlite.put(5_000)
    process.wait_for("cannot be used now")
    assert sqlite.client.xlen(STREAM) >= 4_000
    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    sqlite.until_moved()
    assert sqlite.ids() == sqlite.expected
    assert len(warnings(process)) == 1


# What is wrong


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({VARIABLE: f"mysql://u:{PASSWORD}@h/db"}, f"{VARIABLE} must be a URL that begins with"),
        ({VARIABLE: "sqlite:////nowhere/journal.sqlite3"}, f"{VARIABLE}: there is no directory /nowhere"),
        ({"POSTBACK_JOURNAL_DAYS": "0"}, "POSTBACK_JOURNAL_DAYS must be a whole number"),
        ({"POSTBACK_BROKER_URL": f"http://:{PASSWORD}@h"}, "POSTBACK_BROKER_URL must be"),
    ],
)
def test_wrong_settings(stack: Stack, env: dict[str, str], words: str) -> None:
    """A wrong setting ends it with status 2 and one sentence."""
    process = stack.launch_journal(**env)
    assert process.process.wait(60) == 2
    assert process.text().startswith(f"postback: {words}")
    assert process.text().count("\n") == 1
    assert "s3cret" not in process.text()


def test_records_that_cannot_be_read(bench: Bench) -> None:
    """Entries that are no records become a gap; those beside them are moved; the log has none of
    their words.
    """
    bench.put(5)
    for fields in ({"record": "7000100 junk"}, {"other": "7000100"}, {"record": '{"grant": "7000100"}'}):
        bench.client.xadd(STREAM, fields)  # type: ignore[arg-type]
    bench.put(5)
    process = bench.start()
    bench.until_moved()
    assert bench.ids() == bench.expected
    assert [gap.lost for gap in bench.gaps()] == [3]
    assert process.text().count("a record of the journal cannot be read") == 3
    assert "7000100" not in process.text()


def test_records_that_the_database_refuses(bench: Bench) -> None:
    """Of records that are written together only those at fault are left out, and become a gap."""
    with Store.writing(bench.url) as store, store._engine.begin() as connection:
        if file_of(bench.url):
            connection.exec_driver_sql(
                "CREATE TRIGGER no BEFORE INSERT ON postback_journal_entries WHEN NEW.id IN ('e3', 'e40') "
                "BEGIN SELECT RAISE(ABORT, '7000100'); END"
            )
        else:
            connection.exec_driver_sql("ALTER TABLE postback_journal_entries ADD CHECK (id NOT IN ('e3', 'e40'))")
    bench.put(50)
    bench.lose(7)
    process = bench.start()
    bench.until_moved()
    assert bench.ids() == sorted(set(bench.expected) - {"e3", "e40"})
    assert sorted(gap.lost for gap in bench.gaps()) == [2, 7]
    assert process.text().count("the database refuses a record") == 2
    assert "7000100" not in process.text()


def test_a_newer_form(sqlite: Bench) -> None:
    """A database that a newer Postback has written is left alone."""
    with Store.writing(sqlite.url) as store, store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE postback_journal_version SET version_num = '9999'")
    process = sqlite.stack.launch_journal()
    assert process.process.wait(60) == 2
    assert "is a newer Postback's" in process.text()


def test_find_shows_no_password(stack: Stack) -> None:
    """What a driver says of a server that it cannot reach has no password in it."""
    done = stack.postback("find", "--id", "x", **{VARIABLE: f"postgresql://ann:{PASSWORD}@127.0.0.1:1/journal"})
    assert done.returncode == 2
    assert "cannot be used now" in done.stderr
    assert not re.search("s3cret|W0rd", done.stderr + done.stdout)


# What goes on by itself


def test_it_says_that_it_is_there(bench: Bench) -> None:
    """The database and Redis know that somebody writes, though nothing happens."""
    bench.start()
    name = until(lambda: bench.client.hget(keys.JOURNAL, "id"), 30)
    first = until(lambda: bench.client.hget(keys.JOURNAL, "at"), 30)
    with Store.reading(bench.url) as store:
        store.check_written(name, now_ms())
        with pytest.raises(NoJournal):
            store.check_written("another", now_ms())
    until(lambda: bench.client.hget(keys.JOURNAL, "at") != first, 10)


def test_an_idle_redis(sqlite: Bench) -> None:
    """Between two beats it sends Redis only some commands a second."""
    sqlite.start()
    first = until(lambda: sqlite.client.hget(keys.JOURNAL, "at"), 30)
    before = sqlite.client.info("commandstats").get("cmdstat_xread", {"calls": 0})["calls"]
    until(lambda: sqlite.client.hget(keys.JOURNAL, "at") != first, 10)
    assert sqlite.client.info("commandstats")["cmdstat_xread"]["calls"] - before <= 6


def test_old_records_go(sqlite: Bench) -> None:
    """Records are kept for POSTBACK_JOURNAL_DAYS, in a database that was longer without a process
    too.
    """
    day_ms = 86_400_000
    for number, age_ms in enumerate((0, day_ms - 600_000, day_ms + 600_000, 40 * day_ms)):
        sqlite.client.xadd(STREAM, {"record": record(number, now_ms() - age_ms)})
    sqlite.start(POSTBACK_JOURNAL_DAYS="3650")
    sqlite.until_moved()
    assert sqlite.ids() == ["e0", "e1", "e2", "e3"]
    assert sqlite.stack.processes[-1].stop() == 0
    sqlite.start(POSTBACK_JOURNAL_DAYS="1")
    until(lambda: sqlite.ids() == ["e0", "e1"], 30)


def test_several_redis(stack: Stack) -> None:
    """Providers with a Redis of their own are moved too, into the same database under another
    name.
    """
    bench = Bench(stack, stack.settings()[VARIABLE])
    with RedisServer() as other, other.client() as client:
        process = bench.start(POSTBACK_TONAI_BROKER_URL=other.url)
        bench.put(3)
        client.xadd(keys.journal("tonai"), {"record": record(99, now_ms())})
        bench.until_moved()
        until(lambda: not client.xlen(keys.journal("tonai")), 30)
        names = {bench.client.hget(keys.JOURNAL, "id"), client.hget(keys.JOURNAL, "id").decode()}  # type: ignore[union-attr]
        assert len(names) == 2
        assert "e99" in bench.ids()
        assert process.text().count("writes the journal of") == 2


def test_deliveries_go_first(sqlite: Bench) -> None:
    """It gives way to other processes of its machine."""
    process = sqlite.start()
    assert os.getpriority(os.PRIO_PROCESS, process.process.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 10


def test_nothing_in_the_checkout(stack: Stack) -> None:
    """A stack's journal is in the stack's folder."""
    path = file_of(stack.settings()[VARIABLE])
    assert path is not None
    assert path.parent == Path(stack.folder)
