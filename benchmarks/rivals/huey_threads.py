# /// script
# dependencies = ["huey>=3,<4", "redis>=5", "hiredis>=3", "requests>=2.32,<3"]
# ///
"""Huey: one consumer of threads. It pops before it works: a crash loses what is on its way.

Documents: consumer.html, threads for tasks that wait for the network; blocking reads are the
default.
"""

from __future__ import annotations

import threading
from typing import Any

import requests
from huey import RedisHuey

from benchmarks.rivals import AT_ONCE, REDIS_URL, URL, event

WORKER = ("huey.bin.huey_consumer", "benchmarks.rivals.huey_threads.huey", "-k", "thread", "-w", AT_ONCE, "-q")
huey = RedisHuey("bench", url=REDIS_URL, results=False)
local = threading.local()


@huey.task()
def post(fields: dict[str, Any]) -> None:
    """POST one event; one session per thread."""
    session = getattr(local, "session", None) or requests.Session()
    local.session = session
    session.post(URL, json=fields, timeout=10).raise_for_status()


def send(number: int) -> None:
    """Enqueue."""
    post(event(number))
