# /// script
# dependencies = ["rq>=2,<4", "redis>=5", "hiredis>=3", "requests>=2.32,<3"]
# ///
"""RQ: a pool of worker processes, one event at a time in each.

Every job runs in a fork of its own, as RQ recommends.

Documents: Workers, "Running Multiple Workers: worker-pool".
"""

from __future__ import annotations

from typing import Any

import requests
from redis import Redis
from rq import Queue

from benchmarks.rivals import AT_ONCE, REDIS_URL, URL, event

WORKER = ("rq.cli", "worker-pool", "-u", REDIS_URL, "-n", AT_ONCE, "--logging-level", "WARNING")
queue = Queue(connection=Redis.from_url(REDIS_URL))


def post(fields: dict[str, Any]) -> None:
    """POST one event; a fork has no session to keep."""
    requests.post(URL, json=fields, timeout=10).raise_for_status()


def send(number: int) -> None:
    """Enqueue."""
    queue.enqueue(post, event(number), result_ttl=0)
