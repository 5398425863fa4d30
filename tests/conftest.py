"""Fixtures that all tests share: one real Redis server for the session, a clean database for each
test that asks.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from workers.devkit import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real server process on a free port that keeps nothing on disk; has ``url``, ``port`` and
    ``client()``.

    It is shared: a test that kills or restarts its server makes a ``RedisServer`` of its own.
    """
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of :func:`redis_server` with all databases empty."""
    client = redis_server.client()
    client.flushall()
    yield client
    client.close()
