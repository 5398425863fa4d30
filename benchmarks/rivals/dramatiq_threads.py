# /// script
# dependencies = ["dramatiq[redis]>=2,<3", "hiredis>=3", "requests>=2.32,<3"]
# ///
"""Dramatiq: one process of threads; messages are acknowledged after the work, as always there.

Documents: guide.html, ``dramatiq --processes 1 --threads N``.
"""

from __future__ import annotations

import threading
from typing import Any

import dramatiq
import requests
from dramatiq.brokers.redis import RedisBroker

from benchmarks.rivals import AT_ONCE, REDIS_URL, URL, event

WORKER = ("dramatiq", "benchmarks.rivals.dramatiq_threads", "--processes", "1", "--threads", AT_ONCE)
dramatiq.set_broker(RedisBroker(url=REDIS_URL))
local = threading.local()


@dramatiq.actor
def post(fields: dict[str, Any]) -> None:
    """POST one event; one session per thread."""
    session = getattr(local, "session", None) or requests.Session()
    local.session = session
    session.post(URL, json=fields, timeout=10).raise_for_status()


def send(number: int) -> None:
    """Enqueue."""
    post.send(event(number))
