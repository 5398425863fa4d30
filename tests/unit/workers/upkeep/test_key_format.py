"""A worker and the format of the keys in Redis."""

from __future__ import annotations

import logging
from typing import Any

import fakeredis
import pytest
import redis

from postback.wire import formats, keys
from workers.upkeep.key_format import NewerKeyFormat, format_step, record_key_format


@pytest.fixture
def client() -> redis.Redis:
    return fakeredis.FakeRedis()


def recorded(client: redis.Redis) -> Any:
    return client.zscore(keys.FORMAT, formats.KEY_FORMAT_MEMBER)


class Consumer:
    """Celery's consumer, as far as its queues go."""

    def __init__(self) -> None:
        self.consuming = True
        self.task_consumer = self

    def cancel(self) -> None:
        self.consuming = False


def start(client: redis.Redis) -> Consumer:
    """Start the worker's step, as Celery does with each connection."""
    consumer = Consumer()
    format_step(client).start(None, consumer)  # type: ignore[arg-type]
    return consumer


def test_first_worker(client: redis.Redis) -> None:
    """Where no format is recorded, a worker records its own."""
    record_key_format(client)
    assert recorded(client) == formats.KEY_FORMAT


def test_older_record(client: redis.Redis) -> None:
    """A worker raises the number of an older one."""
    client.zadd(keys.FORMAT, {formats.KEY_FORMAT_MEMBER: formats.KEY_FORMAT - 1})
    record_key_format(client)
    assert recorded(client) == formats.KEY_FORMAT


def test_newer_record(client: redis.Redis) -> None:
    """A newer format is an error that says both numbers, and stays recorded."""
    newer = formats.KEY_FORMAT + 1
    client.zadd(keys.FORMAT, {formats.KEY_FORMAT_MEMBER: newer})
    with pytest.raises(NewerKeyFormat, match=f"format {newer}, and this worker reads format {formats.KEY_FORMAT}"):
        record_key_format(client)
    assert recorded(client) == newer


def test_the_worker_ends(client: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    """Then the worker's start ends it with 1 and one sentence, and it consumes no queue any
    more.
    """
    client.zadd(keys.FORMAT, {formats.KEY_FORMAT_MEMBER: formats.KEY_FORMAT + 1})
    consumer = Consumer()
    with pytest.raises(SystemExit) as ended:
        format_step(client).start(None, consumer)  # type: ignore[arg-type]
    assert ended.value.code == 1
    assert not consumer.consuming
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]


def test_a_user_that_may_not(client: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    """Where Redis does not allow the key to be read, a worker warns and goes on."""
    client.set(keys.FORMAT, "of another type, so that Redis refuses")
    with caplog.at_level(logging.WARNING):
        assert start(client).consuming
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert keys.FORMAT in caplog.text


def test_redis_away(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost connection is raised: Celery connects again, and the step starts again."""

    def away(*_: Any, **__: Any) -> None:
        raise redis.ConnectionError

    monkeypatch.setattr(client, "zadd", away)
    with pytest.raises(redis.ConnectionError):
        start(client)
