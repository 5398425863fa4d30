"""Wakes the rounds when a producer has sent something, and finds what stands in no schedule (ADR 29). A thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import redis

from postback.wire import keys, schedule
from postback.wire.time import redis_now_ms
from workers.worker import Worker
from workers.writes import Client

logger = logging.getLogger(__name__)

#: Seconds between two sweeps, and for how long one of them is nobody else's.
SWEEP_S: Final = 0.9
SWEPT_MS: Final = 800
#: Seconds between two sweeps that look at what waits for later, too.
WHOLE_SWEEP_S: Final = 30.0
#: Queues that one EXISTS asks about.
QUEUES: Final = 2_500
#: Most queues that are put right at once.
MOST_ASTRAY: Final = 500
#: Seconds between two tries while Redis is away.
AWAY_S: Final = 0.2


class Watcher:
    """Listens for wake-ups, and sweeps once a second: one of all workers with the same accounts."""

    def __init__(self, worker: Worker, connect: Callable[[], Client], woken: Callable[[], None]) -> None:
        """Nothing runs yet.

        Args:
            worker: Its accounts are swept.
            connect: Makes a client with a connection of its own.
            woken: Called when there is something to do. Any thread.
        """
        self._worker, self._connect, self._woken = worker, connect, woken
        self._accounts: object = None
        self._sweeps: list[Sweep] = []
        self._whole_at = 0.0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run from now on, if it does not yet."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="postback-watcher", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """End."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._watch()
            except redis.RedisError as error:
                logger.debug("Redis is away (%s)", type(error).__name__)
            except Exception:
                # Without it a worker would still look once a second.
                logger.exception("the watcher failed; it begins anew")
            self._ended.wait(AWAY_S)

    def _watch(self) -> None:
        listener: Any = self._connect().pubsub()  # type: ignore[no-untyped-call]
        try:
            accounts = self._worker.accounts
            listener.subscribe(*map(keys.wake, schedule.by_provider(accounts)))
            # What was sent before we listened.
            self._woken()
            client, sweep_at = self._connect(), 0.0
            while not self._ended.is_set() and self._worker.accounts is accounts:
                if listener.get_message(timeout=max(0.0, sweep_at - time.monotonic())):
                    self._woken()
                if time.monotonic() >= sweep_at:
                    sweep_at = time.monotonic() + SWEEP_S
                    self.sweep(client)
        finally:
            listener.close()

    def sweep(self, client: Client) -> None:
        """Make due what has events and stands in no schedule: a raw client's push, and whatever was forgotten.

        Raises:
            redis.RedisError: Redis is away.
        """
        if self._accounts is not self._worker.accounts:
            self._accounts = self._worker.accounts
            grouped = schedule.by_provider(sorted(self._worker.accounts))
            self._sweeps = [Sweep(provider, queues) for provider, queues in grouped.items()]
            self._whole_at = 0.0
        whole = time.monotonic() >= self._whole_at
        if whole:
            self._whole_at = time.monotonic() + WHOLE_SWEEP_S
        for sweep in self._sweeps:
            if whole or sweep.is_ours(client):
                schedule.due(client, sweep.queued(client), "sent")
            if whole:
                schedule.due(client, sweep.waiting(client), "found")
                schedule.due(client, sweep.astray(client), "ask")


class Sweep:
    """A provider's accounts, and how Redis is asked which of them have events. The questions are packed once."""

    def __init__(self, provider: str, queues: list[str]) -> None:
        """Nothing is asked yet."""
        # Workers with other accounts sweep those.
        lock = f"{keys.sweeper(provider)}.{keys.name_of_set(queues)}"
        self._provider = provider
        self._lock = _packed("SET", lock, "", "NX", "PX", str(SWEPT_MS))
        self._parts = [queues[first : first + QUEUES] for first in range(0, len(queues), QUEUES)]
        self._questions = [
            _exists(name for queue in part for name in keys.priority_lists(queue)) for part in self._parts
        ]

    def is_ours(self, client: Client) -> bool:
        """Whether this worker is the one that sweeps now.

        Raises:
            redis.RedisError: Redis is away.
        """
        (reply,) = client.round_trip([self._lock])
        # A full Redis takes no lock: then each of them sweeps.
        return reply is not None

    def queued(self, client: Client) -> list[str]:
        """Queues with events that may go.

        Raises:
            redis.RedisError: Redis is away.
        """
        found: list[str] = []
        for part, question in zip(self._parts, self._questions, strict=True):
            (any_there,) = client.round_trip([question])
            if any_there:
                found += _with_any(client, part, keys.priority_lists)
        return found

    def waiting(self, client: Client) -> list[str]:
        """Queues with something for later, or on its way.

        Raises:
            redis.RedisError: Redis is away.
        """
        return [queue for part in self._parts for queue in _with_any(client, part, _later)]

    def astray(self, client: Client) -> list[str]:
        """Queues whose time lies further ahead than any plan: the clock went back, or somebody else wrote it.

        Raises:
            redis.RedisError: Redis is away.
        """
        latest_ms = redis_now_ms(client) + schedule.LONGEST_MS + 1000
        found: Any = client.zrangebyscore(keys.schedule(self._provider), latest_ms, "+inf", 0, MOST_ASTRAY)
        return [queue.decode("utf-8", "replace") for queue in found]


def _with_any(client: Client, queues: list[str], places: Callable[[str], list[str]]) -> list[str]:
    replies = client.round_trip([_exists(places(queue)) for queue in queues])
    return [queue for queue, there in zip(queues, replies, strict=True) if there]


def _later(queue: str) -> list[str]:
    return [place(queue) for place in (keys.delayed, keys.held, keys.groups, keys.flight)]


def _exists(names: Iterable[str]) -> bytes:
    return _packed("EXISTS", *names)


def _packed(*texts: str) -> bytes:
    """A command as it is sent."""
    words = [text.encode() for text in texts]
    return b"*%d\r\n%b" % (len(words), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
