"""Lines of a worker that waits, starts or dies, and of what waits for it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

import postback
from benchmarks.arena import Arena, Void
from benchmarks.contestants import ARQ, CELERY, DRAMATIQ, HUEY, POSTBACK, TASKIQ, Contestant
from benchmarks.rivals import event
from benchmarks.table import ENQUEUED, MEMORY, RATE, Goal, Line, Quantity, Sample
from postback import tgtrack
from workers.devkit import until

IDLE_CPU: Final = Quantity("% of a core", False)
IDLE_COMMANDS: Final = Quantity("Redis commands/s", False)
IDLE_REDIS: Final = Quantity("% of a core, Redis", False)
MEDIAN_MS: Final = Quantity("ms, median", False)
P99_MS: Final = Quantity("ms, p99", False)
START_S: Final = Quantity("s to the first request", False)
BYTES: Final = Quantity("bytes of Redis per waiting event", False)
BACK_S: Final = Quantity("s after the lease", False)
#: Accounts of a large installation.
MANY: Final = 10_000
LARGE: Final = replace(POSTBACK, name="Postback, 10,000 accounts")
TURN: Final = Quantity("requests ÷ accounts until the last account's first", False)
TURN_S: Final = Quantity("s until then", False)
CHUNK: Final = 10_000
#: Events that wait; ``make bench MILLION=1000000`` for the whole of it.
WAITING: Final = int(os.environ.get("MILLION") or 100_000)
BESIDE: Final = replace(POSTBACK, name=f"Postback, {WAITING:,} in one account beside 99 of 10")
CROWD: Final = replace(POSTBACK, name="Postback, 10,000 accounts of 4, 4 workers")
FEW: Final = replace(POSTBACK, name="Postback, 5,000 waiting")
#: How many of them are delivered, to see at which rate.
DRAINED: Final = 5_000
DELAY: Final = replace(POSTBACK, name="Postback, `.delay()`", enqueue="enqueue")
#: Seconds of idleness that are measured, and those before.
IDLE_S: Final = 10.0
SETTLING_S: Final = 5.0
LEASE_S: Final = 8


def idle(scale: float) -> Iterator[Sample]:
    """A worker with nothing to do."""
    for contestant, accounts in ((POSTBACK, 5), (LARGE, MANY), (CELERY, 1)):
        with Arena(accounts=accounts, at_once=None) as arena, arena.worker(contestant) as worker:
            arena.enqueue(contestant, 1)
            until(lambda arena=arena: arena.provider.count(), 60, "the first event")
            time.sleep(SETTLING_S)
            used, cpu_s, begun = arena.use(), worker.cpu_s(), time.monotonic()
            time.sleep(IDLE_S * scale)
            taken_s = time.monotonic() - begun
            cpu_s, after = worker.cpu_s() - cpu_s, arena.use()
        yield Sample(IDLE_CPU, contestant.name, cpu_s / taken_s * 100)
        yield Sample(IDLE_COMMANDS, contestant.name, (after.commands - used.commands - 2) / taken_s)
        yield Sample(IDLE_REDIS, contestant.name, (after.cpu_s - used.cpu_s) / taken_s * 100)


def latency(scale: float) -> Iterator[Sample]:
    """From the call that enqueues, with an idle worker, to the request's arrival."""
    events = int(200 * scale)
    for contestant in (POSTBACK, CELERY, DRAMATIQ, HUEY, ARQ, TASKIQ):
        with Arena() as arena, arena.worker(contestant):
            arena.enqueue(contestant, 1)
            until(lambda arena=arena: arena.provider.count(), 60, "the first event")
            time.sleep(1)
            arena.provider.reset()
            sent = arena.pace(contestant, events)
            until(lambda arena=arena: arena.provider.count() >= events, 30, "all events")
            arrived = {arrival.number: arrival.at_s for arrival in arena.provider.arrivals}
        if arrived.keys() != sent.keys():
            raise Void(f"{contestant.name}: {len(arrived)} of {len(sent)} events arrived")
        taken_ms = sorted((arrived[number] - at_s) * 1000 for number, at_s in sent.items())
        yield Sample(MEDIAN_MS, contestant.name, taken_ms[len(taken_ms) // 2])
        yield Sample(P99_MS, contestant.name, taken_ms[len(taken_ms) * 99 // 100 - 1])


def start(scale: float) -> Iterator[Sample]:
    """From the start of the process to the request of an event that waits."""
    for contestant, accounts in ((LARGE, MANY), (POSTBACK, 1), (CELERY, 1)):
        with Arena(accounts=accounts, at_once=None) as arena:
            arena.enqueue(contestant, 1)
            begun = time.time()
            with arena.worker(contestant):
                until(lambda arena=arena: arena.provider.count(), 60, "the first event")
            yield Sample(START_S, contestant.name, arena.provider.arrivals[0].at_s - begun)


def enqueueing(scale: float) -> Iterator[Sample]:
    """What a producer's process puts into Redis, construction and validation included."""
    with Arena() as arena:
        contestants: tuple[Contestant, ...] = (POSTBACK, DELAY, CELERY, DRAMATIQ, HUEY, ARQ, TASKIQ)
        for contestant in contestants:
            arena.clear()
            events = int((20_000 if contestant is POSTBACK else 3_000) * scale)
            yield Sample(ENQUEUED, contestant.name, (events - 1) / arena.enqueue(contestant, events))


def million(scale: float) -> Iterator[Sample]:
    """A long queue: how fast it fills, how large it is, and what it does to a worker."""
    for contestant, waiting in ((POSTBACK, max(DRAINED, int(WAITING * scale))), (FEW, DRAINED)):
        with Arena() as arena:
            before = arena.use().memory_bytes
            seconds = arena.enqueue(contestant, waiting)
            bytes_each = (arena.use().memory_bytes - before) / waiting
            result = arena.drain(contestant, DRAINED, of=waiting)
        yield Sample(ENQUEUED, contestant.name, (waiting - 1) / seconds)
        yield Sample(BYTES, contestant.name, bytes_each)
        yield Sample(RATE, contestant.name, result.events_per_s)
        yield Sample(MEMORY, contestant.name, result.rss_mb)


def fairness(scale: float) -> Iterator[Sample]:
    """The longest wait for an account's first turn.

    It stands beside a very long queue, then among thousands of busy ones.
    """
    long = int(WAITING * scale)
    beside = [0] * long + [number for number in range(1, 100) for _ in range(10)]
    crowd = [number % MANY for number in range(4 * MANY)]
    for contestant, accounts, workers, owners in ((BESIDE, 100, 1, beside), (CROWD, MANY, 4, crowd)):
        with Arena(accounts=accounts, at_once=None) as arena, ExitStack() as stack:
            _fill(arena, owners)
            for _ in range(workers):
                stack.enter_context(arena.worker(contestant))
            enough = len(owners) if contestant is CROWD else 4_000
            until(lambda arena=arena, enough=enough: arena.provider.count() >= enough, 300, "enough events")
            first: dict[int, tuple[int, float]] = {}
            for place, arrival in enumerate(arena.provider.arrivals, 1):
                first.setdefault(owners[arrival.number], (place, arrival.at_s))
            if len(first) < accounts:
                raise Void(f"{accounts - len(first)} of {accounts} accounts had no turn")
            place, at_s = max(first.values())
            yield Sample(TURN, contestant.name, place / accounts)
            yield Sample(TURN_S, contestant.name, at_s - min(first.values())[1])


def _fill(arena: Arena, owners: list[int]) -> None:
    """Enqueue events; number ``n`` for account ``owners[n]``."""
    postback.configure(
        broker_url=arena.redis.url, accounts={"tgtrack": [f"a{number}" for number in range(arena.accounts)]}
    )
    for begin in range(0, len(owners), CHUNK):
        part = range(begin, min(begin + CHUNK, len(owners)))
        postback.send_many([tgtrack.AddEvent(**event(number), account=f"a{owners[number]}") for number in part])
    postback.configure()


def crash(scale: float) -> Iterator[Sample]:
    """When the last event of a killed worker is sent again.

    It had requests on the wire; another worker is there.
    """
    events = 100
    with Arena(delay_s=0.2, lease_s=LEASE_S, timeout_s=2) as arena:
        with arena.worker(POSTBACK) as killed, arena.worker(POSTBACK):
            time.sleep(SETTLING_S)
            arena.enqueue(POSTBACK, events)
            until(lambda: arena.provider.count() >= events // 2, 60, "the first events")
            killed.kill()
            at_s = time.time()
            time.sleep(LEASE_S + 4)
            arena.provider.count()
        counted = Counter(arrival.number for arrival in arena.provider.arrivals)
        if set(counted) != set(range(events)) or max(counted.values()) != 2:
            raise Void(f"{len(counted)} of {events} events arrived, one of them {max(counted.values())} times")
        yield Sample(BACK_S, POSTBACK.name, max(arrival.at_s for arrival in arena.provider.arrivals) - at_s - LEASE_S)


LINES: Final = (
    Line(
        "idle",
        "idle worker, 5 accounts unless it says more",
        idle,
        (
            Goal(IDLE_CPU, 2),
            Goal(IDLE_CPU, 5, LARGE.name),
            *(Goal(IDLE_COMMANDS, 20, who) for who in (POSTBACK.name, LARGE.name)),
            *(Goal(IDLE_REDIS, 1, who) for who in (POSTBACK.name, LARGE.name)),
        ),
    ),
    Line("latency", "the producer's call to the wire, idle", latency, (Goal(P99_MS, 10),)),
    Line("start", "start, one account unless it says more", start, (Goal(START_S, 3, LARGE.name),)),
    Line("enqueueing", "enqueueing, `send_many` unless it says otherwise", enqueueing),
    Line(
        "million",
        f"{WAITING:,} waiting",
        million,
        (
            Goal(ENQUEUED, 20_000),
            Goal(BYTES, 1_000),
            Goal(RATE, 0.95, against=FEW.name),
            Goal(MEMORY, 1.1, against=FEW.name),
        ),
    ),
    Line("fairness", "the longest wait for a turn", fairness, (Goal(TURN, 2, BESIDE.name), Goal(TURN, 2, CROWD.name))),
    Line("crash", f"a killed worker's events, lease of {LEASE_S} s", crash, (Goal(BACK_S, 1),)),
)
