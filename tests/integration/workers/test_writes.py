"""Clients of a worker against a Redis at its `maxmemory`: what kombu, Celery and the worker write
is not refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from postback.wire import keys
from postback.wire.broker import connect
from workers.devkit import RedisServer
from workers.writes import REFUSABLE, Client

#: A call of each command -> its reply, as bytes have it.
COMMANDS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "HSET": (("key", "field", "value"), 1),
    "INCRBY": (("key", 1), 1),
    "LPUSH": (("key", "one", "two"), 2),
    "RPUSH": (("key", "one"), 1),
    "SADD": (("key", "member"), 1),
    "SET": (("key", "value", "PX", 60_000, "NX"), b"OK"),
    "SETEX": (("key", 60, "value"), b"OK"),
    "ZADD": (("key", 1.5, "member"), 1),
}


@pytest.fixture
def full(redis_server: RedisServer, redis_client: redis.Redis) -> Iterator[redis.Redis]:
    """A plain client of a full server; it holds no heartbeat."""
    redis_client.config_set("maxmemory", "1")
    yield redis_client
    redis_client.config_set("maxmemory", "0")


@pytest.fixture
def worker(redis_server: RedisServer, full: redis.Redis) -> Iterator[redis.Redis]:
    """A worker's client of the same server."""
    client = connect(redis_server.url, client_class=Client)
    yield client
    client.close()


def test_every_command_is_tried() -> None:
    """The table above leaves none out."""
    assert COMMANDS.keys() == REFUSABLE


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_plain_client_is_refused(full: redis.Redis, name: str) -> None:
    """Otherwise these tests would prove nothing."""
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        full.execute_command(name, *COMMANDS[name][0])


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command(worker: redis.Redis, name: str) -> None:
    """It is carried out, with its usual reply."""
    arguments, reply = COMMANDS[name]
    assert worker.execute_command(name, *arguments) == reply
    assert worker.exists("key")


@pytest.mark.parametrize("transaction", [False, True])
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_pipeline(worker: redis.Redis, name: str, transaction: bool) -> None:
    """The same in a pipeline, with and without a transaction, among other commands."""
    arguments, reply = COMMANDS[name]
    pipeline = worker.pipeline(transaction=transaction)
    pipeline.ping()
    pipeline.execute_command(name, *arguments)
    pipeline.exists("key")
    # In a transaction redis-py's own reading of "OK" holds.
    assert pipeline.execute() == [True, True if transaction and reply == b"OK" else reply, 1]
    assert pipeline.execute() == []


def test_replies_of_a_transaction(worker: redis.Redis) -> None:
    """Missing values, scores, hashes and numbers are read as redis-py reads them; the pipeline
    serves again.
    """
    pipeline = worker.pipeline()
    for _ in range(2):
        pipeline.delete("z", "h").zadd("z", {b"a": 1.5}).zrange("z", 0, -1, withscores=True)
        pipeline.hset("h", mapping={"x": 1}).hgetall("h").get("none").publish("channel", "x").expire("h", 60)
        assert pipeline.execute()[1:] == [1, [(b"a", 1.5)], 1, {b"x": b"1"}, None, 0, True]


def test_a_transaction_is_not_cut_short(worker: redis.Redis) -> None:
    """One command of a transaction fails: the others are carried out, and the error is told."""
    pipeline = worker.pipeline().lpush("list", "x").sadd("list", "member").set("key", "value")
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        pipeline.execute()
    assert worker.get("key") == b"value"
    replies = worker.pipeline().sadd("list", "member").exists("key").execute(raise_on_error=False)
    assert isinstance(replies[0], redis.exceptions.ResponseError)
    assert replies[1] == 1


def test_a_transaction_is_one_step(worker: redis.Redis, redis_server: RedisServer) -> None:
    """Of 8 threads that add one and count, each sees another number: what a chord counts on."""
    clients = [connect(redis_server.url, client_class=Client) for _ in range(8)]

    def counted(client: redis.Redis) -> list[int]:
        return [client.pipeline().rpush("parts", "x").llen("parts").execute()[1] for _ in range(50)]

    with ThreadPoolExecutor(8) as threads:
        seen = [number for numbers in threads.map(counted, clients) for number in numbers]
    for client in clients:
        client.close()
    assert sorted(seen) == list(range(1, 401))


def test_scripts_in_a_transaction(worker: redis.Redis) -> None:
    """As kombu refreshes its bindings: registered scripts in one pipeline."""
    script = worker.register_script("return redis.call('SADD', KEYS[1], ARGV[1])")
    pipeline = worker.pipeline()
    for member in ("one", "two"):
        script(keys=["key"], args=[member], client=pipeline)
    assert pipeline.execute() == [1, 1]


def test_a_lock(worker: redis.Redis) -> None:
    """The restore lock of kombu is taken, held against others, and released."""
    lock = worker.lock("lock", timeout=10)
    assert lock.acquire(blocking=False)
    assert not worker.lock("lock", timeout=10).acquire(blocking=False)
    lock.release()
    assert not worker.exists("lock")


def test_a_script_of_others(worker: redis.Redis) -> None:
    """A script that kombu or Celery registers writes, and its arguments reach it."""
    script = worker.register_script("return redis.call('SADD', KEYS[1], ARGV[1])")
    assert script(keys=["key"], args=["member"]) == 1
    assert worker.smembers("key") == {b"member"}


def test_bytes_arrive_as_they_are(worker: redis.Redis) -> None:
    """A value of any bytes is stored unchanged."""
    value = bytes(range(256)) * 50
    worker.lpush("key", value)
    assert worker.lindex("key", 0) == value


def test_an_error_is_the_commands_own(worker: redis.Redis, full: redis.Redis) -> None:
    """What Redis refuses for another reason is refused as before."""
    worker.lpush("key", "x")
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        worker.sadd("key", "member")


def test_nothing_else_is_touched(worker: redis.Redis, redis_server: RedisServer) -> None:
    """The write that comes first leaves the hash of heartbeats as it is."""
    worker.hset(keys.WORKERS, "node", "beat")
    before = worker.hgetall(keys.WORKERS)
    worker.incr("key")
    assert worker.hgetall(keys.WORKERS) == before == {b"node": b"beat"}


def test_without_a_limit_it_is_the_same(worker: redis.Redis, full: redis.Redis) -> None:
    """With room the replies do not differ."""
    full.config_set("maxmemory", "0")
    assert worker.set("key", "value", nx=True, px=1000)
    assert not worker.set("key", "value", nx=True, px=1000)
