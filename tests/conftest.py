"""Fixtures that all tests share: one real Redis server for the session, a clean database for each
test that asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.shared.wheel import build_wheel, make_environment
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


@pytest.fixture(scope="session")
def wheel_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a clean environment: the wheel, frameworks, nothing of the checkout."""
    return make_environment(build_wheel(tmp_path_factory.mktemp("wheel")), tmp_path_factory.mktemp("environment"))
