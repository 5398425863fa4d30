"""Rivals of a batch: celery-batches (its own flush), and one POST per event."""

from __future__ import annotations

import os
import threading
from typing import Any

import requests
from celery import Celery
from celery_batches import Batches

app = Celery("stock", broker=os.environ["STOCK_BROKER_URL"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    # celery-batches' documentation: 0 (no limit), or at least as many as a flush holds, else it waits for its interval.
    worker_prefetch_multiplier=0,
    worker_hijack_root_logger=False,
    task_default_queue="stock",
)
SINK = os.environ["STOCK_SINK_URL"]
_local = threading.local()


def post(path: str, value: Any) -> None:
    """POST JSON; one session per thread."""
    session = getattr(_local, "session", None) or requests.Session()
    _local.session = session
    session.post(
        f"{SINK}/v1/{path}/?idApp=666", json=value, headers={"Authorization": "T"}, timeout=10
    ).raise_for_status()


@app.task(base=Batches, name="stock.batch", flush_every=20, flush_interval=1)  # type: ignore[untyped-decorator]
def batch(batch_requests: list[Any]) -> None:
    """POST up to 20 events."""
    post("customEventBatch", [request.kwargs["event"] for request in batch_requests])


@app.task(name="stock.single")  # type: ignore[untyped-decorator]
def single(account: str, event: dict[str, Any]) -> None:
    """POST one event."""
    post("customEvent", event)
