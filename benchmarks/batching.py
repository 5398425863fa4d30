"""Batches of 20 from one worker: Postback, celery-batches, one POST per event, and a bare loop that posts prepared batches.

``python -m benchmarks.batching [EVENTS] [ROUNDS]``. celery-batches does not allow Celery 5.7: ``pip install --no-deps celery-batches`` first.
All four run in turn on the same Redis and the same local server; the ratios are what counts. Then once more, each on one core: Python runs one
thread of a process at a time, and where the kernel moves them from core to core a third of the time goes there.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any, Final

import requests

import postback
from benchmarks import measure
from postback import mytracker

THREADS: Final = 8
ACCOUNTS: Final = '[mytracker.game]\nid_app = 666\ntoken = "TOKEN"\nbase_url = "{sink}"\n'
EVENT: Final[dict[str, Any]] = {
    "customUserId": "1234567",
    "customEventName": "levelUp",
    "customEventParams": {"level": "2", "world": "forest"},
    "eventTimestamp": 1795000000,
}


def bare_loop(sink: str, events: int) -> float:
    """Events a second of the least that can be done: one session, prepared bodies of 20, one after another."""
    body = json.dumps([EVENT] * 20, separators=(",", ":")).encode()
    session = requests.Session()
    url, headers = (
        f"{sink}/v1/customEventBatch/?idApp=666",
        {"Authorization": "TOKEN", "Content-Type": "application/json"},
    )
    begun = time.monotonic()
    for _ in range(events // 20):
        session.post(url, data=body, headers=headers, timeout=10).raise_for_status()
    return events / (time.monotonic() - begun)


def compared(sink: str, env: dict[str, str], events: int, core: int | None) -> dict[str, float]:
    """Events a second of each, one after another."""
    from benchmarks.batch_stock import batch, single

    kwargs = {"account": "game", "event": EVENT}
    few = events // 5  # the slow ones get fewer, so that a round stays short
    rates = {}
    postback.send_many([mytracker.CustomEvent.load(EVENT) for _ in range(events)])
    rates["postback"] = measure.drained(sink, events, measure.ours("mytracker"), env, core)
    for name, task in (("celery-batches", batch), ("single", single)):
        for _ in range(few):
            task.apply_async(kwargs=kwargs)
        rates[name] = measure.drained(sink, few, measure.stock("benchmarks.batch_stock", THREADS), env, core)
    with measure.on_core(core):
        rates["bare"] = bare_loop(sink, events * 2)
    return rates


def main(events: int = 20_000, rounds: int = 3) -> None:
    """Print the rates of each round and the ratios of the medians."""
    with measure.arena(ACCOUNTS) as (broker, sink, env):
        postback.configure(broker_url=broker.url, accounts={"mytracker": ["game"]})
        for core, where in ((None, "on any core"), (max(os.sched_getaffinity(0)), "each worker on one core")):
            print(f"{where}:")
            measured = []
            for number in range(rounds):
                measured.append(compared(sink, env, events, core))
                told = ", ".join(f"{name} {rate:.0f}/s" for name, rate in measured[-1].items())
                print(f"  round {number + 1}: {told}", flush=True)
            median = {name: statistics.median(rates[name] for rates in measured) for name in measured[0]}
            for rival, words in (
                ("celery-batches", "celery-batches"),
                ("single", "one POST per event (stock Celery)"),
                ("bare", "the bare loop"),
            ):
                print(f"  postback is {median['postback'] / median[rival]:.2f} x {words}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
