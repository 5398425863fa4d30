"""Batches of 20 from one worker: Postback, celery-batches, one POST per event, and a bare loop that posts prepared batches.

``python -m benchmarks.batching [EVENTS] [ROUNDS]``. celery-batches does not allow Celery 5.7: ``pip install --no-deps celery-batches`` first.
All four run in turn on the same Redis and the same local server; the ratios are what counts.
"""

from __future__ import annotations

import json
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


def main(events: int = 20_000, rounds: int = 3) -> None:
    """Print the rates of each round and the ratios of the medians."""
    rates: dict[str, list[float]] = {"postback": [], "celery-batches": [], "single": [], "bare": []}
    with measure.arena(ACCOUNTS) as (broker, sink, env):
        from benchmarks.batch_stock import batch, single

        postback.configure(broker_url=broker.url, accounts={"mytracker": ["game"]})
        kwargs = {"account": "game", "event": EVENT}
        few = events // 5  # the slow ones get fewer, so that a round stays short
        for number in range(rounds):
            postback.send_many([mytracker.CustomEvent.load(EVENT) for _ in range(events)])
            rates["postback"].append(measure.drained(sink, events, measure.ours("mytracker"), env))
            for _ in range(few):
                batch.apply_async(kwargs=kwargs)
            rates["celery-batches"].append(
                measure.drained(sink, few, measure.stock("benchmarks.batch_stock", THREADS), env)
            )
            for _ in range(few):
                single.apply_async(kwargs=kwargs)
            rates["single"].append(measure.drained(sink, few, measure.stock("benchmarks.batch_stock", THREADS), env))
            rates["bare"].append(bare_loop(sink, events * 2))
            print(
                f"round {number + 1}: " + ", ".join(f"{name} {values[-1]:.0f}/s" for name, values in rates.items()),
                flush=True,
            )
    median = {name: statistics.median(values) for name, values in rates.items()}
    for rival, words in (
        ("celery-batches", "celery-batches"),
        ("single", "one POST per event (stock Celery)"),
        ("bare", "the bare loop"),
    ):
        print(f"postback is {median['postback'] / median[rival]:.2f} x {words}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
