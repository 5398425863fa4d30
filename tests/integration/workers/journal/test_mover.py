"""Records on their way from Redis into the database: none lost, none twice, whatever dies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis
import sqlalchemy as sa

from postback.journal.query import Query
from postback.journal.records import Entry, Gap
from postback.journal.refusals import DatabaseAway, RecordsRefused
from postback.journal.store import Store
from postback.operations.sites import Site, sites
from postback.wire import keys
from workers.devkit import RedisServer
from workers.journal import mover as mover_module
from workers.journal.mover import DAY_MS, STANDBY_S, Mover

STREAM: Final = keys.journal("tgtrack")
GAP: Final = keys.journal_gap("tgtrack")


def write(client: Any, number: int, **values: Any) -> None:
    """A worker's record of the event of that number."""
    record = {
        "grant": f"postback:t.{number}.1", "at": int(time.time() * 1000), "queue": "tgtrack.main", "outcome": "delivered", "status": 200,
        "task": "tgtrack.add_event", "batch": 1, "worker": "w", "events": [{"id": f"e{number}", "user": "u1", "end": "delivered"}], **values,
    }  # fmt: skip
    client.xadd(STREAM, {"record": json.dumps(record)})


def stored(database: str) -> list[Entry]:
    store = Store.reading(database)
    try:
        return store.entries(Query(limit=None))
    finally:
        store.close()


def gaps(database: str, client: Any) -> list[Gap]:
    store = Store.reading(database)
    try:
        return store.gaps(client.hget(keys.JOURNAL, "id").decode(), 0)
    finally:
        store.close()


@pytest.fixture
def site(redis_server: RedisServer, redis_client: redis.Redis) -> Site:
    """The shared Redis, empty."""
    (site,) = sites({"POSTBACK_BROKER_URL": redis_server.url})
    return site


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle stream is not waited for."""
    monkeypatch.setattr(mover_module, "BLOCK_MS", 1)


@pytest.fixture
def make(site: Site, database: str) -> Iterator[Callable[..., Mover]]:
    """Movers of that Redis and that database; they let go of both at the end."""
    movers: list[Mover] = []

    def make(open_store: Callable[[], Store] | None = None, days: int = 30) -> Mover:
        movers.append(Mover(site, open_store or (lambda: Store.writing(database)), days))
        return movers[-1]

    yield make
    for mover in movers:
        mover.close()
        mover.end()


class TestMoving:
    def test_everything_is_moved(self, make: Any, database: str, redis_client: Any) -> None:
        """What was in the stream is in the database, and no longer in the stream."""
        for number in range(2500):
            write(redis_client, number)
        mover = make()
        while redis_client.xlen(STREAM):
            mover.turn()
        assert {entry.id for entry in stored(database)} == {f"e{number}" for number in range(2500)}

    def test_it_is_heard(self, make: Any, database: str, redis_client: Any) -> None:
        """An idle one says in both places that it is there."""
        make().turn()
        at_ms = int(redis_client.hget(keys.JOURNAL, "at"))
        store = Store.reading(database)
        store.check_written(redis_client.hget(keys.JOURNAL, "id").decode(), at_ms + 1)
        store.close()

    def test_the_name_stays(self, make: Any, redis_client: Any) -> None:
        """Another process goes on under the name of this Redis."""
        first = make()
        first.turn()
        name = redis_client.hget(keys.JOURNAL, "id")
        first.end()
        make().turn()
        assert redis_client.hget(keys.JOURNAL, "id") == name

    def test_an_action(self, make: Any, database: str, redis_client: Any) -> None:
        """What an operator did is kept."""
        write(redis_client, 1, action="pause", who="ann@ops1", events=[])
        make().turn()
        store = Store.reading(database)
        (action,) = store.actions(0, ["tgtrack.main"], 10)
        store.close()
        assert (action.action, action.who) == ("pause", "ann@ops1")


class TestDeaths:
    def test_between_the_commit_and_the_removal(
        self, make: Any, database: str, redis_client: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another process reads the records once more; each is one row."""
        for number in range(10):
            write(redis_client, number)
        since = int(time.time() * 1000)
        redis_client.hset(GAP, mapping={"since": since, "until": since + 4, "lost": 3})

        def killed(*_: Any) -> None:
            raise redis.ConnectionError("killed here")

        with monkeypatch.context() as patch:
            patch.setattr(mover_module, "_moved", killed)
            first = make()
            with pytest.raises(redis.ConnectionError):
                first.turn()
        first.end()
        assert redis_client.xlen(STREAM) == 10
        make().turn()
        assert redis_client.xlen(STREAM) == 0
        assert len(stored(database)) == 10
        assert [gap.lost for gap in gaps(database, redis_client)] == [3]

    def test_a_second_one_stands_by(self, make: Any, redis_client: Any) -> None:
        """It writes nothing while the first one holds the right, and goes on after its end."""
        first, second = make(), make()
        first.turn()
        write(redis_client, 1)
        assert second.turn() == STANDBY_S
        assert redis_client.xlen(STREAM) == 1
        first.end()
        second.turn()
        assert redis_client.xlen(STREAM) == 0

    def test_the_right_ends_by_itself(self, make: Any, redis_client: Any) -> None:
        """A killed one holds it for some seconds only."""
        make().turn()
        assert 0 < redis_client.pttl(keys.JOURNAL_WRITER) <= mover_module.LOCK_S * 1000

    def test_the_database_is_away(self, make: Any, database: str, redis_client: Any) -> None:
        """Records wait in Redis, and are moved once it is back."""
        write(redis_client, 1)
        away = [True]

        def open_store() -> Store:
            if away:
                raise DatabaseAway("the database is away")
            return Store.writing(database)

        mover = make(open_store)
        with pytest.raises(DatabaseAway):
            mover.turn()
        assert redis_client.xlen(STREAM) == 1
        away.clear()
        mover.turn()
        assert [entry.id for entry in stored(database)] == ["e1"]


class TestWhatIsNoRecord:
    def test_unreadable(self, make: Any, database: str, redis_client: Any, caplog: pytest.LogCaptureFixture) -> None:
        """It is counted as lost and removed; the others are moved. The log does not quote it."""
        write(redis_client, 1)
        redis_client.xadd(STREAM, {"record": "rubbish of 7000100"})
        redis_client.xadd(STREAM, {"other": "field"})
        write(redis_client, 2)
        make().turn()
        assert redis_client.xlen(STREAM) == 0
        assert sorted(entry.id for entry in stored(database)) == ["e1", "e2"]
        assert sum(gap.lost for gap in gaps(database, redis_client)) == 2
        assert "7000100" not in caplog.text

    def test_refused(self, make: Any, database: str, redis_client: Any) -> None:
        """One record that the database refuses does not stop the others."""
        for number in range(20):
            write(redis_client, number)

        class Refusing(Store):
            def add(self, journal_id: str, provider: str, records: Any, *more: Any) -> None:
                if any(entry.id == "e7" for record in records for entry in record.entries):
                    raise RecordsRefused("no")
                super().add(journal_id, provider, records, *more)

        make(lambda: Refusing.writing(database)).turn()
        assert redis_client.xlen(STREAM) == 0
        assert {entry.id for entry in stored(database)} == {f"e{number}" for number in range(20)} - {"e7"}
        assert sum(gap.lost for gap in gaps(database, redis_client)) == 1

    def test_a_key_of_another_type(self, make: Any, database: str, redis_client: Any) -> None:
        """One provider's broken stream does not stop the others."""
        redis_client.set(keys.journal("tonapi"), "mine")
        redis_client.set(keys.journal_gap("tonapi"), "mine")
        write(redis_client, 1)
        make().turn()
        assert [entry.id for entry in stored(database)] == ["e1"]


class TestGap:
    def test_it_is_kept(self, make: Any, database: str, redis_client: Any) -> None:
        """What the stream has lost becomes a row, and Redis forgets it."""
        since = int(time.time() * 1000)
        redis_client.hset(GAP, mapping={"since": since, "until": since + 9, "lost": 44})
        make().turn()
        assert gaps(database, redis_client) == [Gap("tgtrack", since, since + 9, 44)]
        assert not redis_client.exists(GAP)

    def test_workers_go_on_losing(self, make: Any, redis_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is lost while the row is written is not forgotten."""
        redis_client.hset(GAP, mapping={"since": 5, "until": 9, "lost": 3})
        moved = mover_module._moved

        def with_more(client: Any, names: list[str], arguments: Any) -> None:
            if names[1] == GAP:
                redis_client.hincrby(GAP, "lost", 2)
            moved(client, names, arguments)

        monkeypatch.setattr(mover_module, "_moved", with_more)
        make().turn()
        assert redis_client.hmget(GAP, "lost", "since") == [b"2", b"9"]

    @pytest.mark.parametrize("lost", ["x", "-3", "", "9" * 30])
    def test_a_gap_that_is_none(self, make: Any, redis_client: Any, lost: str) -> None:
        """Anybody may have written it: it is passed over."""
        redis_client.hset(GAP, "lost", lost)
        write(redis_client, 1)
        make().turn()
        assert redis_client.xlen(STREAM) == 0


class TestPruning:
    def test_old_records_go(self, make: Any, database: str, redis_client: Any) -> None:
        """Those beyond the days; the others stay."""
        now_ms = int(time.time() * 1000)
        write(redis_client, 1, at=now_ms - 31 * DAY_MS)
        write(redis_client, 2, at=now_ms - 29 * DAY_MS)
        mover = make()
        mover.turn()
        mover.turn()
        assert [entry.id for entry in stored(database)] == ["e2"]


def test_a_full_redis(make: Any, database: str, site: Site, redis_client: Any) -> None:
    """At ``maxmemory`` records are moved all the same: that frees memory."""
    for number in range(200):
        write(redis_client, number)
    redis_client.config_set("maxmemory", 1)
    try:
        make().turn()
        assert redis_client.xlen(STREAM) == 0
    finally:
        redis_client.config_set("maxmemory", 0)
    assert len(stored(database)) == 200


def test_a_locked_file(site: Site, redis_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody else writes the SQLite file, records wait."""
    monkeypatch.setattr("postback.journal.database.BUSY_S", 0.05)
    url = f"sqlite:///{tmp_path / 'journal.sqlite3'}"
    mover = Mover(site, lambda: Store.writing(url), 30)
    mover.turn()
    write(redis_client, 1)
    engine = sa.create_engine(url)
    with engine.connect() as other:
        other.exec_driver_sql("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseAway):
            mover.turn()
        assert redis_client.xlen(STREAM) == 1
    engine.dispose()
    mover.turn()
    assert redis_client.xlen(STREAM) == 0
    mover.end()
