"""One account on the shared server, for tests that need no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.integration.workers.governor.bench import Bench
from tests.integration.workers.governor.crew import Memory, Worker
from workers.devkit import RedisServer


@pytest.fixture
def bench(redis_client: redis.Redis) -> Bench:
    """An account without quota whose last answer was healthy."""
    bench = Bench(redis_client)
    bench.healthy()
    return bench


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of one's own, with an append-only file."""
    with RedisServer(appendonly=True) as server:
        yield server


@pytest.fixture
def memory(server: RedisServer, tmp_path: Path) -> Memory:
    """What that server can forget."""
    return Memory(server, tmp_path)


@pytest.fixture
def worker(server: RedisServer) -> Worker:
    """A worker on that server which knows it already; its account is open."""
    worker = Worker(server)
    worker.pump()
    worker.open()
    return worker
