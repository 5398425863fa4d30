"""The journal's records: written in the step in which something happens, once, within a bound."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from postback.journal.records import Entry, read_record
from postback.wire import keys
from tasks.rulings import Dead
from tests.integration.workers.governor.bench import QUEUE, Bench, message
from tests.integration.workers.governor.crew import LETTER, Memory, Worker, answer
from workers.devkit import RedisServer

LEASE_MS = 30_000
STREAM = keys.journal("tgtrack")
GAP = keys.journal_gap("tgtrack")


def texts(client: Any) -> list[str]:
    return [fields[b"record"].decode() for _, fields in client.xrange(STREAM)]


def entries(client: Any) -> list[Entry]:
    return [entry for text in texts(client) for entry in read_record(text).entries]


def gap(client: Any) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in client.hgetall(GAP).items()}


def meet_again(worker: Worker) -> None:
    """The first call fails, since the connection is gone; then the worker asks who is there."""
    with pytest.raises(redis.ConnectionError):
        worker.taken()
    worker.pump()


class TestSettle:
    def test_as_it_is(self, bench: Bench) -> None:
        """The text reaches the stream byte for byte."""
        bench.push(message("a"))
        bench.record = '{"grant": "g", "odd": "\\u0000 \\" ä"}'
        bench.settle(bench.one())
        assert texts(bench.client) == [bench.record]

    def test_nothing_to_tell(self, bench: Bench) -> None:
        """A grant that was put back has no record."""
        bench.push(message("a"))
        bench.put_back(bench.one())
        assert not bench.client.exists(STREAM)

    def test_once(self, bench: Bench) -> None:
        """A second SETTLE of the grant writes nothing."""
        bench.push(message("a"))
        bench.record = "{}"
        grant = bench.one()
        bench.settle(grant)
        bench.settle(grant)
        assert texts(bench.client) == ["{}"]

    def test_too_late(self, bench: Bench) -> None:
        """An answer after the end of the lease writes nothing: the attempt is `unknown` by then."""
        bench.push(message("a"))
        grant = bench.one()
        bench.advance(LEASE_MS)
        bench.take()
        bench.record = '{"grant": "late"}'
        bench.settle(grant)
        assert [entry.outcome for entry in entries(bench.client)] == ["unknown"]

    def test_a_key_of_another_type(self, bench: Bench) -> None:
        """The delivery goes on without its record."""
        bench.client.set(STREAM, "mine")
        bench.push(message("a"))
        bench.record = "{}"
        bench.settle(bench.one())
        assert bench.everything() == {}
        assert bench.meta()["delivered"] == "1"


class TestBound:
    def fill(self, bench: Bench, count: int) -> None:
        bench.record = "{}"
        for number in range(count):
            bench.push(message(f"e{number}"))
            bench.settle(bench.one())

    def test_it_holds(self, bench: Bench) -> None:
        """Above it the oldest records go, and are counted with their time."""
        bench.journal = 10
        self.fill(bench, 10)
        assert gap(bench.client) == {}
        first = int(bench.client.xrange(STREAM)[0][0].split(b"-")[0])
        self.fill(bench, 15)
        assert bench.client.xlen(STREAM) <= 10
        lost = gap(bench.client)
        assert lost["lost"] + bench.client.xlen(STREAM) == 25
        assert lost["since"] == first
        assert first <= lost["until"] <= int(bench.client.xrange(STREAM)[0][0].split(b"-")[0])

    def test_a_gap_of_another_type(self, bench: Bench) -> None:
        """The bound and the deliveries go on."""
        bench.client.set(GAP, "mine")
        bench.journal = 5
        self.fill(bench, 12)
        assert bench.client.xlen(STREAM) <= 5
        assert bench.everything() == {}

    def test_of_recovery(self, bench: Bench) -> None:
        """Dead workers' attempts are within it, too."""
        bench.journal = 3
        bench.push(*(message(f"e{number}") for number in range(8)))
        bench.take(8)
        bench.advance(LEASE_MS)
        bench.take()
        assert bench.client.xlen(STREAM) <= 3
        assert gap(bench.client)["lost"] + bench.client.xlen(STREAM) == 8


class TestCrash:
    def test_unknown(self, bench: Bench) -> None:
        """A dead worker's attempt: the event, the time of its grant, no answer."""
        bench.push(message("a", postback_key="ab" * 32, postback_at=1_700_000_000_000))
        grant = bench.one()
        bench.advance(LEASE_MS)
        bench.take()
        (entry,) = entries(bench.client)
        assert (entry.grant, entry.place, entry.id, entry.queue) == (grant.id, 0, "a", QUEUE)
        assert (entry.outcome, entry.status, entry.end, entry.batch) == ("unknown", None, "", 1)
        assert (entry.key_hash, entry.enqueued_ms) == ("ab" * 32, 1_700_000_000_000)
        assert entry.at_ms == entry.first_ms == grant.granted_us // 1000
        assert entry.possible_duplicate

    def test_a_batch(self, bench: Bench) -> None:
        """One record for the request, with each of its events."""
        bench.settings.update(batch_max=20, linger_ms=0)
        bench.push(*(message(name) for name in "abc"))
        bench.one()
        bench.advance(LEASE_MS)
        bench.take()
        assert len(texts(bench.client)) == 1
        assert [(entry.place, entry.id, entry.batch) for entry in entries(bench.client)] == [
            (0, "a", 3),
            (1, "b", 3),
            (2, "c", 3),
        ]

    def test_the_last_crash(self, bench: Bench) -> None:
        """The third one ends the event: dead, `crashed`."""
        bench.push(message("a"))
        for _ in range(3):
            bench.one()
            bench.advance(LEASE_MS)
            bench.look()
        assert [(entry.outcome, entry.end, entry.reason) for entry in entries(bench.client)] == [
            ("unknown", "", ""), ("unknown", "", ""), ("unknown", "dead", "crashed"),
        ]  # fmt: skip

    def test_a_duplicate_was_not_sent(self, bench: Bench) -> None:
        """An event whose key another one owns has no attempt."""
        key = {"postback_key": "ab" * 32}
        bench.push(message("a", **key), message("b", **key))
        bench.settle(bench.one())
        bench.one()
        bench.advance(LEASE_MS)
        bench.take()
        assert entries(bench.client) == []

    @pytest.mark.parametrize("id", ['quo"te', "back\\slash", "ümlaut", "☃", "a" * 300, "new\nline"])
    def test_odd_ids(self, bench: Bench, id: str) -> None:
        """The record is readable, whatever an id holds."""
        bench.push(message(id))
        bench.one()
        bench.advance(LEASE_MS)
        bench.take()
        assert [entry.id for entry in entries(bench.client)] == [id[:255]]

    def test_off(self, bench: Bench) -> None:
        """Without a journal a crash writes nothing."""
        bench.journal = 0
        bench.push(message("a"))
        bench.one()
        bench.advance(LEASE_MS)
        assert len(bench.take().grants) == 1
        assert not bench.client.exists(STREAM)


class TestForgetfulRedis:
    """RECONCILE: a Redis that lost its last second gets the records of that second again."""

    def record(self, worker: Worker) -> Any:
        worker.push(message("a"))
        grant = worker.one()
        grant.record = json.dumps({"grant": grant.id, "at": 1, "events": [{"id": "a"}]}).encode()
        return grant

    def test_the_settle_is_forgotten(self, worker: Worker, memory: Memory) -> None:
        """It is applied again, with its record."""
        grant = self.record(worker)
        memory.remember()
        worker.settle(grant)
        assert len(texts(worker.look.client)) == 1
        memory.forget()
        meet_again(worker)
        assert [entry.grant for entry in entries(worker.look.client)] == [grant.id]

    def test_even_its_message_is_forgotten(self, worker: Worker, memory: Memory) -> None:
        """Nothing can be settled; the record is written all the same."""
        memory.remember()
        grant = self.record(worker)
        worker.settle(grant)
        memory.forget()
        meet_again(worker)
        assert worker.look.everything() == {}
        assert [entry.grant for entry in entries(worker.look.client)] == [grant.id]

    def test_nothing_is_forgotten(self, worker: Worker) -> None:
        """A restart that lost nothing may repeat a record: its grant says that it is the same."""
        grant = self.record(worker)
        worker.settle(grant)
        worker.restart()
        meet_again(worker)
        assert {entry.grant for entry in entries(worker.look.client)} == {grant.id}


def test_redis_was_away(server: RedisServer) -> None:
    """A settlement that is kept for later keeps its record."""
    worker = Worker(server)
    worker.push(message("a"))
    grant = worker.one()
    grant.record = b'{"grant": "kept"}'
    worker.client.lose = ["before"]
    worker.settle(grant, answer(Dead("rejected", LETTER)))
    assert texts(worker.look.client) == []
    worker.pump()
    assert texts(worker.look.client) == ['{"grant": "kept"}']
