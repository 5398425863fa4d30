"""Lines that post: single events, slow answers, batches, and what they cost Redis."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from benchmarks.arena import Arena, Drained
from benchmarks.contestants import (
    ARQ,
    CELERY,
    CELERY_BATCHES,
    CURL,
    DRAMATIQ,
    HUEY,
    POSTBACK,
    REQUESTS,
    REQUESTS_BATCHES,
    RQ,
    TASKIQ,
    Contestant,
)
from benchmarks.table import CPU, MEMORY, RATE, REDIS, SCRIPTS, Goal, Line, Quantity, Sample
from config.settings import MAX_CONCURRENCY

QUOTA_KB: Final = Quantity("KB of Redis for an account whose 5,000 a day are spent", False)
DAILY: Final = 5_000
FLOWER: Final = replace(POSTBACK, name="Postback, Flower listens")
JOURNAL: Final = replace(POSTBACK, name="Postback, the journal is moved to SQLite")
NO_JOURNAL: Final = replace(POSTBACK, name="Postback, no journal", env={"POSTBACK_JOURNAL_BACKLOG": "0"})
DEFAULT: Final = replace(POSTBACK, name="Postback, default")
BATCHING: Final = replace(POSTBACK, events=100_000, env={"BENCH_PROVIDER": "mytracker"})
BATCHING_JOURNAL: Final = replace(BATCHING, name=JOURNAL.name)
BATCHING_NO_JOURNAL: Final = replace(BATCHING, name=NO_JOURNAL.name, env={**BATCHING.env, **NO_JOURNAL.env})
ONE_CORE: Final = replace(BATCHING, name="Postback, on one core", core=0)
WINDOWED: Final = replace(POSTBACK, name="Postback, 300 accounts, 3 windows each")
WINDOWED_8: Final = replace(WINDOWED, name="Postback, 300 accounts, 3 windows each, 8 at once")
#: Requests at once where answers are slow: the most that a worker takes, up to what 3,000 a second
#: need.
MOST: Final = min(MAX_CONCURRENCY, 1_000)


def drained(arena: Arena, contestant: Contestant, events: float) -> Drained:
    """One contestant's turn."""
    arena.clear()
    count = max(200, int(events / 20) * 20)
    if contestant.queue:
        arena.enqueue(contestant, count)
    return arena.drain(contestant, count)


def singles(scale: float) -> Iterator[Sample]:
    """One POST per event, 8 at once, answered at once."""
    contestants = (POSTBACK, FLOWER, JOURNAL, NO_JOURNAL, CELERY, DRAMATIQ, HUEY, RQ, ARQ, TASKIQ, REQUESTS, CURL)
    results: dict[str, Drained] = {}
    with Arena() as arena:
        for contestant in random.sample(contestants, len(contestants)):
            beside = {FLOWER.name: arena.flower, JOURNAL.name: arena.journal}
            with beside.get(contestant.name, contextlib.nullcontext)():
                results[contestant.name] = drained(arena, contestant, contestant.events * scale)
    for contestant in contestants:
        yield Sample(RATE, contestant.name, results[contestant.name].events_per_s)
    for contestant in contestants:
        yield Sample(CPU, contestant.name, results[contestant.name].cpu_us)
    for contestant in contestants:
        if contestant.queue:
            yield Sample(REDIS, contestant.name, results[contestant.name].redis_us)


def slow(scale: float) -> Iterator[Sample]:
    """Answers after 200 ms, 300 accounts, one process."""
    plans: Sequence[tuple[Contestant, int | None, int]] = (
        (POSTBACK, MOST, 16 * MOST),
        (DEFAULT, None, 48 * 256),
        (CELERY, MOST, 12 * MOST),
        (DRAMATIQ, MOST, 12 * MOST),
        (TASKIQ, MOST, 24 * MOST),
        (CURL, MOST, 24 * MOST),
    )
    results = {}
    for contestant, at_once, events in plans:
        with Arena(delay_s=0.2, at_once=at_once, accounts=300) as arena:
            results[contestant.name] = drained(arena, contestant, events * scale)
    for name, result in results.items():
        yield Sample(RATE, name, result.events_per_s)
    for name, result in results.items():
        yield Sample(MEMORY, name, result.rss_mb)


def batches(scale: float) -> Iterator[Sample]:
    """Batches of 20, as many requests at once as each does by default."""
    with Arena(at_once=None) as arena:
        contestants = (BATCHING, BATCHING_JOURNAL, BATCHING_NO_JOURNAL, ONE_CORE, CELERY_BATCHES, REQUESTS_BATCHES)
        results: dict[str, Drained] = {}
        for contestant in random.sample(contestants, len(contestants)):
            with arena.journal() if contestant is BATCHING_JOURNAL else contextlib.nullcontext():
                results[contestant.name] = drained(arena, contestant, contestant.events * scale)
    for contestant in contestants:
        yield Sample(RATE, contestant.name, results[contestant.name].events_per_s)


def redis_time(scale: float) -> Iterator[Sample]:
    """Redis' time per single event, with one account and with many, and the state of a quota."""
    windows = {"limits": "100000/second, 100000/hour, 100000/day"}
    for contestant, accounts, at_once, settings in (
        (POSTBACK, 1, None, {}),
        (WINDOWED, 300, None, windows),
        (WINDOWED_8, 300, 8, windows),
    ):
        with Arena(accounts=accounts, at_once=at_once, **settings) as arena:
            yield Sample(SCRIPTS, contestant.name, drained(arena, contestant, contestant.events * scale).script_us)
    with Arena(limits=f"{DAILY}/day") as arena:
        drained(arena, POSTBACK, DAILY)
        names = [*arena.client.keys("tgtrack.a0.*"), *arena.client.keys("postback.quota.*")]
        sizes = [arena.client.memory_usage(name) for name in names]
        yield Sample(QUOTA_KB, POSTBACK.name, sum(map(int, sizes)) / 1024)


LINES: Final = (
    Line(
        "singles",
        "one POST per event, 8 at once",
        singles,
        (
            Goal(RATE, 8, against=CELERY.name),
            Goal(RATE, 2, against=TASKIQ.name),
            Goal(RATE, 1, against=REQUESTS.name),
            Goal(CPU, 170),
            Goal(CPU, 220, FLOWER.name),
            Goal(RATE, 0.9, JOURNAL.name, against=NO_JOURNAL.name),
        ),
    ),
    Line(
        "slow",
        f"answers after 200 ms, 300 accounts, one process, {MOST} at once unless it says default",
        slow,
        (Goal(RATE, 3_000), Goal(RATE, 1_200, DEFAULT.name), Goal(MEMORY, 200), Goal(MEMORY, 200, DEFAULT.name)),
    ),
    Line(
        "batches",
        "batches of 20",
        batches,
        (Goal(RATE, 0.8, against=REQUESTS_BATCHES.name), Goal(RATE, 0.9, JOURNAL.name, against=NO_JOURNAL.name)),
    ),
    Line(
        "redis",
        "Redis' time per single event",
        redis_time,
        [Goal(SCRIPTS, 60, who.name) for who in (POSTBACK, WINDOWED)],
    ),
)
