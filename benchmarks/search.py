"""How long ``postback find`` looks through a long queue, and what others notice of it.

``python -m benchmarks.search [--events 1000000]`` fills an account's queue, then looks for one
event by its id, by its person and for the latest ones. Meanwhile a client in a process of its own
asks Redis something every 2 ms.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Final

import redis

import postback
from postback import tgtrack
from postback.journal.query import Query
from postback.operations.find import find
from postback.operations.sites import sites
from workers.devkit import RedisServer

#: Events in one ``send_many``.
PART: Final = 10_000
#: The first event's person; the next ones count up.
FIRST: Final = 7_000_000_000
#: Seconds between two questions of the other client.
PAUSE_S: Final = 0.002


def other(url: str, stop: Connection) -> None:
    """A client that measures how long Redis takes to answer, in ms, until it is told to stop."""
    client, times = redis.Redis.from_url(url), list[float]()
    while not stop.poll():
        begun = time.perf_counter()
        client.hget("postback.format", "keys")
        times.append((time.perf_counter() - begun) * 1000)
        time.sleep(PAUSE_S)
    stop.send(times)


@contextmanager
def watched(url: str, times: list[float]) -> Iterator[None]:
    """Let the other client ask, and collect how long it waited."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=other, args=(url, theirs))
    process.start()
    time.sleep(1.0)  # its start is not measured
    try:
        yield
    finally:
        ours.send("stop")
        times += ours.recv()
        process.join()


def fill(events: int) -> str:
    """Send so many events; the id of the one in the middle."""
    middle = ""
    for start in range(0, events, PART):
        numbers = range(start, min(start + PART, events))
        sent = postback.send_many(
            [tgtrack.AddEvent(user_id=FIRST + each, event_type="sale", amount=1500) for each in numbers]
        )
        if events // 2 in numbers:
            middle = sent[events // 2 - start].id
    return middle


def main() -> None:
    """Measure, and print a line for each question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    events = parser.parse_args().events
    with RedisServer() as server:
        postback.configure(broker_url=server.url, accounts={"tgtrack": ["main"]})
        middle, client = fill(events), server.client()
        places = sites({"POSTBACK_BROKER_URL": server.url})
        client.config_set("slowlog-log-slower-than", 1000)
        client.config_set("slowlog-max-len", 100_000)
        questions = {
            "by id": Query(frozenset({middle})),
            "by person": Query(user=str(FIRST + events // 2)),
            "by key, not there": Query(key="nothing"),
            "the latest 20": Query(limit=20),
        }
        for name, query in questions.items():
            client.slowlog_reset()
            times: list[float] = []
            with watched(server.url, times):
                begun = time.perf_counter()
                found = find(places, query)
                seconds = time.perf_counter() - begun
            slowest = max((entry["duration"] for entry in client.slowlog_get(100_000)), default=0) / 1000
            p99 = statistics.quantiles(times, n=100)[98]
            print(
                f"{name}: {len(found)} of {events:,} events in {seconds:.1f} s; longest command {slowest:.1f} ms; "
                f"another client waits {statistics.median(times):.2f} ms, p99 {p99:.1f} ms, most {max(times):.1f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
