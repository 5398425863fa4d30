"""No call takes Redis longer than 10 ms, whatever is in it. Its slow log says so."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
import redis

from postback.operations import pause, resume, snapshot
from postback.operations.deadletters import Filter, drop, replay
from postback.operations.erasure import erase
from postback.wire import keys
from tasks.rulings import Again, Dead
from tests.integration.workers.governor.bench import message
from tests.integration.workers.governor.crew import LETTER, Worker, answer
from workers.devkit import RedisServer

#: Longest time of one call, microseconds.
MOST_US: Final = 10_000
#: Entries in a queue.
MANY: Final = 100_000
#: A machine that others use may stop Redis in the middle of a call: a call is slow if it is so each
#: time.
TRIES: Final = 3
#: More calls than any test makes.
MOST_CALLS: Final = 100_000

#: Fills an account as only Redis itself can: with packed grants.
FILL: Final = """
for i = 1, tonumber(ARGV[1]) do
  local packed = cmsgpack.pack({ at = i, raws = { ARGV[2], ARGV[2] }, owners = { '', '' }, sibling = { ARGV[2] }, group = i % 2 })
  if KEYS[1] ~= '' then redis.call('ZADD', KEYS[1], i, 'postback:dead.' .. i) redis.call('HSET', KEYS[2], 'postback:dead.' .. i, packed) end
  if KEYS[3] then redis.call('RPUSH', KEYS[3], packed) end
end"""


class Depths:
    """One account whose queues are deep."""

    def __init__(self, server: RedisServer, queue: str, **table: Any) -> None:
        self.worker = Worker(server, queue, **table)
        self.queue = queue
        self.client: Any = server.client()
        self.worker.pump()
        self.worker.open()

    def listed(self, *raws: bytes) -> None:
        for first in range(0, len(raws), 5000):
            self.client.lpush(self.queue, *raws[first : first + 5000])

    def sorted(self, key: str, scores: dict[Any, float]) -> None:
        items = list(scores.items())
        for first in range(0, len(items), 5000):
            self.client.zadd(key, dict(items[first : first + 5000]))

    def packed(self, *key_names: str, count: int = 5000) -> None:
        self.client.eval(FILL, len(key_names), *key_names, count, message("packed"))

    def one(self) -> Any:
        """Take one request."""
        for _ in range(1000):
            grants = self.worker.take()
            if grants:
                return grants[0]
        raise AssertionError("nothing to take")

    def fail(self, times: int) -> None:
        for _ in range(times):
            grant = self.one()
            rulings = [Again(0, "")] * len(grant.envelopes)
            self.worker.settle(grant, answer(*rulings, health="fail", detail="503"))

    def takes(self, times: int = 5, count: int = 64) -> None:
        for _ in range(times):
            for grant in self.worker.take(count):
                self.worker.settle(grant)


@pytest.fixture
def fresh() -> Iterator[RedisServer]:
    with RedisServer() as server:
        assert server.pid
        # The slow log counts the time in which others run, too: where we may, they do not run in
        # the middle of a call.
        with contextlib.suppress(AttributeError, PermissionError):
            os.sched_setscheduler(server.pid, os.SCHED_FIFO, os.sched_param(1))
        yield server


def slow_calls(client: Any) -> set[tuple[str, int]]:
    """The slow ones of the logged calls: the command, and which of its calls it was."""
    numbers, slow = Counter[str](), set()
    for entry in reversed(client.slowlog_get(MOST_CALLS)):
        command = b" ".join(entry["command"].split(b" ")[:4]).decode(errors="replace")[:120]
        numbers[command] += 1
        if entry["duration"] > MOST_US:
            slow.add((command, numbers[command]))
    return slow


def nothing_is_slow(server: RedisServer, fill: Callable[[], None], act: Callable[[], None]) -> None:
    """Fill and act up to three times; no call may be slow each time, at the same place among the
    calls of its command.
    """
    client: Any = server.client()
    client.config_set("slowlog-max-len", MOST_CALLS)
    always: set[tuple[str, int]] | None = None
    for _ in range(TRIES):
        client.config_set("slowlog-log-slower-than", -1)
        client.flushall()
        fill()
        client.slowlog_reset()
        client.config_set("slowlog-log-slower-than", 0)
        act()
        slow = slow_calls(client)
        always = slow if always is None else always & slow
        if not always:
            return
    assert not always


def test_equal_messages_with_a_future_eta(fresh: RedisServer) -> None:
    """10,000 copies of one message that is due tomorrow: none is lost, and none costs more than the
    one before.
    """
    depths = Depths(fresh, "tgtrack.main")
    raw = message("same", eta="2100-01-01T00:00:00+00:00")

    def act() -> None:
        while depths.client.llen(depths.queue):
            assert depths.worker.take(64) == []

    nothing_is_slow(fresh, lambda: depths.listed(*[raw] * 10_000), act)
    assert depths.client.zcard(keys.delayed(depths.queue)) == 10_000


@pytest.mark.parametrize("queue", ["tgtrack.main", "mytracker.game"])
def test_everything_is_deep(fresh: RedisServer, queue: str) -> None:
    """A hundred thousand events in each list and set of an account: taking, settling, recovering
    and reading stay short.
    """
    depths = Depths(fresh, queue, limits="1000000/second")
    tasks = ("mytracker.login", "mytracker.registration") if queue.startswith("my") else ("tgtrack.add_event",)

    def fill() -> None:
        depths.listed(*(message(f"l{i}", task=tasks[i % len(tasks)]) for i in range(MANY)))
        depths.sorted(keys.delayed(queue), {message(f"d{i}"): 1 if i < 2000 else 9e12 for i in range(MANY)})
        depths.packed(keys.flight(queue), keys.unacked(queue), keys.groups(queue))
        depths.sorted(keys.idempotency_ends(queue), {f"key{i}": 1 for i in range(MANY)})
        depths.sorted(keys.REVOKED, {f"gone{i}": 1 for i in range(MANY)})
        depths.worker.open()

    def act() -> None:
        depths.takes(80)
        snapshot(depths.client)
        grant = depths.one()
        depths.worker.settle(grant, answer(Dead("", LETTER), health="none"))

    nothing_is_slow(fresh, fill, act)


def test_many_dead_workers_of_many_accounts(fresh: RedisServer) -> None:
    """Of 40 accounts each has requests of dead workers, and due events: one call does not put them
    all in order.
    """
    depths = Depths(fresh, "tgtrack.main", limits="1000000/second")
    queues = [depths.queue, *depths.worker.beside(*(f"a{i}" for i in range(39)), limits="1000000/second")]

    def fill() -> None:
        for queue in queues:
            depths.packed(keys.flight(queue), keys.unacked(queue), keys.groups(queue), count=200)
            depths.sorted(keys.delayed(queue), {message(f"d{i}"): 1 for i in range(1000)})

    def act() -> None:
        for _ in range(100):
            done = depths.worker.governor.round([], [(queue, 1) for queue in queues])
            assert not done.refused
            for grant in depths.worker.governor.grants:
                grant.settlement = answer(*[Again(0, "")] * len(grant.envelopes), health="unknown").to(grant)
            depths.worker.governor.round(list(depths.worker.governor.grants), [])

    nothing_is_slow(fresh, fill, act)


def test_telling_another_redis(fresh: RedisServer) -> None:
    """A Redis that has forgotten hears of 64 requests that it does not know, in front of a deep
    queue.
    """
    depths = Depths(fresh, "tgtrack.main", limits="1000000/second")

    def fill() -> None:
        depths.listed(*(message(f"l{i}") for i in range(MANY)))
        depths.packed("", "", keys.groups(depths.queue), count=2000)
        depths.worker.open()

    def act() -> None:
        grants = depths.worker.take(64)
        depths.client.delete(keys.flight(depths.queue), keys.unacked(depths.queue))
        server = depths.worker.governor.server
        server.run_id, server.suspicious = "another", True
        depths.worker.pump()
        for grant in grants:
            depths.worker.settle(grant)

    nothing_is_slow(fresh, fill, act)


@pytest.mark.parametrize("end", ["healed", "resumed"])
def test_a_long_outage_ends(fresh: RedisServer, end: str) -> None:
    """20,000 events held aside with one and the same first grant: holding one more, and releasing
    all, stay short.
    """
    depths = Depths(fresh, "tgtrack.main", outage_after=3)
    state = "attempts=2 tries=2 first=1700000000000000"

    def fill() -> None:
        depths.listed(*(message(f"l{i}", postback="first=1700000000000000") for i in range(10)))
        depths.sorted(
            keys.held(depths.queue), {message(f"h{i}", postback=state): 1700000000000000 + i for i in range(20_000)}
        )
        depths.worker.open()
        depths.client.hset(keys.meta(depths.queue), mapping={"fails": 1})

    def act() -> None:
        depths.fail(2)
        depths.client.hset(keys.meta(depths.queue), "paused", 0)
        if end == "healed":
            depths.worker.settle(depths.one())
        else:
            resume(depths.client, depths.queue)
        while depths.client.zcard(keys.held(depths.queue)):
            for grant in depths.worker.take():
                depths.worker.settle(grant)

    nothing_is_slow(fresh, fill, act)
    oldest = json.loads(depths.client.lindex(depths.queue, 0))
    assert "attempts" not in oldest["headers"]["postback"]


def test_a_larger_limit(fresh: RedisServer) -> None:
    """A quota log grows from 100,000 to a million entries in one short step."""
    queue = "tgtrack.main"

    def quota() -> str:
        return Depths(fresh, queue).worker.identity.quota

    def fill() -> None:
        client: Any = fresh.client()
        name = quota()
        client.setrange(keys.quota_log("tgtrack", name), 100_000 * 8 - 1, b"\0")
        client.hset(keys.quota("tgtrack", name), mapping={"seq": 150_000, "size": 100_000, "last": 1})

    def act() -> None:
        Depths(fresh, queue, limits="1000000/day").worker.take(1)

    nothing_is_slow(fresh, fill, act)
    assert fresh.client().hget(keys.quota("tgtrack", quota()), "size") == b"1000000"


def test_operators_commands(fresh: RedisServer) -> None:
    """Pausing, erasing a person, replaying and dropping dead letters."""
    depths = Depths(fresh, "tgtrack.main")

    def fill() -> None:
        dead = [message(f"x{i}", postback_dead={"reason": "rejected"}) for i in range(20_000)]
        for first in range(0, len(dead), 5000):
            depths.client.lpush(keys.dead("tgtrack"), *dead[first : first + 5000])
        depths.listed(*(message(f"l{i}") for i in range(20_000)))
        depths.packed("", "", keys.groups(depths.queue), count=2000)

    def act() -> None:
        pause(depths.client, depths.queue)
        erase(depths.client, "l17", ("tgtrack",))
        drop(depths.client, "tgtrack", Filter(ids=frozenset({"x19000"})))
        replay(depths.client, "tgtrack", Filter(limit=2000))
        resume(depths.client, depths.queue)

    nothing_is_slow(fresh, fill, act)


def test_redis_is_what_is_looked_at(fresh: RedisServer) -> None:
    """A script that is long does show in the slow log."""
    client: Any = fresh.client()

    def act() -> None:
        client.eval("local n = 0 for i = 1, 3000000 do n = n + i end return n", 0)

    with pytest.raises(AssertionError):
        nothing_is_slow(fresh, lambda: None, act)


def test_forged_state_stops_nobody(fresh: RedisServer) -> None:
    """A first grant above 2^53, where the next number is the same: two failures settle, and Redis
    answers (found in the first edition).
    """
    depths = Depths(fresh, "tgtrack.main")
    forged = "first=99999999999999999 attempts=99999999999999999 due=99999999999999999 age=-1 crashes=9.9 duplicate=7"
    depths.listed(*(message(f"e{i}", postback=forged) for i in range(2)))
    depths.fail(2)
    client = redis.Redis(port=fresh.port, socket_timeout=5)
    assert client.ping()
    for raw in client.zrange(keys.held(depths.queue), 0, -1):
        words = dict(word.split("=") for word in json.loads(raw)["headers"]["postback"].split())
        assert words["attempts"] == "1"
        assert int(words["first"]) < 9e15
        assert "crashes" not in words
