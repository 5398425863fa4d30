# /// script
# dependencies = ["celery[redis]>=5.6,<6", "hiredis>=3", "requests>=2.32,<3"]
# ///
"""Celery: threads, ``acks_late`` (what an event that must not be lost needs), one POST per task.

Documents: userguide/optimizing.html, "Prefetch Limits": many short tasks want a large multiplier,
64 or 128.
"""

from __future__ import annotations

import threading
from typing import Any

import requests
from celery import Celery

from benchmarks.rivals import AT_ONCE, REDIS_URL, URL, event

WORKER = ("celery", "-A", "benchmarks.rivals.celery_threads", "worker", "-P", "threads", "-c", AT_ONCE, "-l", "WARNING")
WORKER += ("--without-gossip", "--without-mingle", "--without-heartbeat")
app = Celery("celery_threads", broker=REDIS_URL)
app.conf.update(task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=64)
local = threading.local()


@app.task(name="post")
def post(fields: dict[str, Any]) -> None:
    """POST one event; one session per thread."""
    session = getattr(local, "session", None) or requests.Session()
    local.session = session
    session.post(URL, json=fields, timeout=10).raise_for_status()


def send(number: int) -> None:
    """Enqueue."""
    post.delay(event(number))
