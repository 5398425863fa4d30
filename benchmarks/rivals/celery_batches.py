# /// script
# dependencies = [
#     "celery-batches>=0.11,<1", "celery[redis]>=5.5", "hiredis>=3", "requests>=2.32,<3",
# ]
# ///
"""celery-batches: up to 20 events per POST, flushed when full or after a second.

Documents: "Batches", where the prefetch count is zero (no limit) or at least what a flush holds.
"""

from __future__ import annotations

import threading
from typing import Any

import requests
from celery import Celery
from celery_batches import Batches

from benchmarks.rivals import AT_ONCE, BATCH_URL, REDIS_URL, batch_event

WORKER = ("celery", "-A", "benchmarks.rivals.celery_batches", "worker", "-P", "threads", "-c", AT_ONCE, "-l", "WARNING")
WORKER += ("--without-gossip", "--without-mingle", "--without-heartbeat")
app = Celery("celery_batches", broker=REDIS_URL)
app.conf.update(task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=0)
local = threading.local()


@app.task(base=Batches, name="post", flush_every=20, flush_interval=1)
def post(calls: list[Any]) -> None:
    """POST up to 20 events; one session per thread."""
    session = getattr(local, "session", None) or requests.Session()
    local.session = session
    session.post(
        BATCH_URL, json=[call.args[0] for call in calls], headers={"Authorization": "TOKEN"}, timeout=10
    ).raise_for_status()


def send(number: int) -> None:
    """Enqueue."""
    post.delay(batch_event(number))
