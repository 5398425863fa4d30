"""The thing to replace: a plain Celery worker, threads, ``acks_late``, one POST per event with ``requests``."""

from __future__ import annotations

import os
import threading
from typing import Any

import requests
from celery import Celery

app = Celery("stock", broker=os.environ["STOCK_BROKER_URL"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    task_default_queue="stock",
)
_local = threading.local()


@app.task(name="stock.add_event")  # type: ignore[untyped-decorator]
def add_event(account: str, event: dict[str, Any]) -> None:
    """POST one event; one session per thread."""
    session = getattr(_local, "session", None) or requests.Session()
    _local.session = session
    session.post(f"{os.environ['STOCK_SINK_URL']}/v1/KEY/add_event", json=event, timeout=10).raise_for_status()
