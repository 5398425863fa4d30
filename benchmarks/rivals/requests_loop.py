# /// script
# dependencies = ["requests>=2.32,<3"]
# ///
"""No queue: ``requests.Session.post`` in threads.

For batches it is one thread that posts prepared bodies of 20.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import requests

from benchmarks.rivals import AT_ONCE, BATCH_URL, EVENTS, URL, batch_event, event

local = threading.local()


def post(number: int) -> None:
    """POST one event; one session per thread."""
    session = getattr(local, "session", None) or requests.Session()
    local.session = session
    session.post(URL, json=event(number), timeout=10).raise_for_status()


def batches() -> None:
    """POST bodies that were encoded before, one after another."""
    bodies = [
        json.dumps([batch_event(number) for number in range(first, first + 20)], separators=(",", ":")).encode()
        for first in range(0, EVENTS, 20)
    ]
    headers = {"Authorization": "TOKEN", "Content-Type": "application/json"}
    session = requests.Session()
    for body in bodies:
        session.post(BATCH_URL, data=body, headers=headers, timeout=10).raise_for_status()


def run(what: str = "singles") -> None:
    """POST all events."""
    if what == "batches":
        batches()
        return
    with ThreadPoolExecutor(int(AT_ONCE)) as pool:
        list(pool.map(post, range(EVENTS)))
