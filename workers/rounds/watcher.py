"""Wakes the rounds after a send, and finds queues that are missing in the schedule (ADR 29)."""

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

#: Seconds between two sweeps.
SWEEP_S: Final = 0.9
#: Milliseconds for which a sweep keeps other workers from sweeping.
SWEPT_MS: Final = 800
#: Seconds between two sweeps that also check messages for later.
WHOLE_SWEEP_S: Final = 30.0
#: Queues that one EXISTS asks about.
QUEUES: Final = 2_500
#: Most queues that are corrected at once.
MOST_ASTRAY: Final = 500
#: Seconds between two tries while Redis is away.
AWAY_S: Final = 0.2


class Watcher:
    """Listens for wake-ups and sweeps, in a thread of its own.

    Of all workers with the same accounts one sweeps, once a second.
    """

    def __init__(self, worker: Worker, connect: Callable[[], Client], wake: Callable[[], None]) -> None:
        """Nothing runs yet.

        Args:
            worker: Its accounts are swept.
            connect: Makes a client with a connection of its own.
            wake: Called when there is something to do. Any thread.
        """
        self._worker, self._connect, self._wake = worker, connect, wake
        self._accounts: object = None
        self._sweeps: list[Sweep] = []
        self._whole_at = 0.0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, if it does not run yet."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="postback-watcher", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """End the thread."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._watch()
            except redis.RedisError as error:
                logger.debug("Redis is away (%s)", type(error).__name__)
            except Exception:
                # Until then the rounds still look once a second.
                logger.exception("the watcher failed; it starts again")
            self._ended.wait(AWAY_S)

    def _watch(self) -> None:
        listener: Any = self._connect().pubsub()  # type: ignore[no-untyped-call]
        try:
            accounts = self._worker.accounts
            listener.subscribe(*map(keys.wake, schedule.by_provider(accounts)))
            # Something may have been sent before we listened.
            self._wake()
            client, sweep_at = self._connect(), 0.0
            while not self._ended.is_set() and self._worker.accounts is accounts:
                if listener.get_message(timeout=max(0.0, sweep_at - time.monotonic())):
                    self._wake()
                if time.monotonic() >= sweep_at:
                    sweep_at = time.monotonic() + SWEEP_S
                    self.sweep(client)
        finally:
            listener.close()

    def sweep(self, client: Client) -> None:
        """Make queues due that have events and are missing in the schedule.

        Another Celery client's push leaves such queues.

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
    """A provider's accounts, and the commands that find those with events. Each is packed once."""

    def __init__(self, provider: str, queues: list[str]) -> None:
        """Nothing is sent yet."""
        # Workers with other accounts have another lock.
        lock = f"{keys.sweeper(provider)}.{keys.name_of_set(queues)}"
        self._provider = provider
        self._lock = _packed("SET", lock, "", "NX", "PX", str(SWEPT_MS))
        self._parts = [queues[first : first + QUEUES] for first in range(0, len(queues), QUEUES)]
        self._questions = [
            _exists(name for queue in part for name in keys.priority_lists(queue)) for part in self._parts
        ]

    def is_ours(self, client: Client) -> bool:
        """Whether it is this worker's turn to sweep.

        Raises:
            redis.RedisError: Redis is away.
        """
        (reply,) = client.round_trip([self._lock])
        # A full Redis answers with an error: then every worker sweeps.
        return reply is not None

    def queued(self, client: Client) -> list[str]:
        """Queues with events that may be sent now.

        Raises:
            redis.RedisError: Redis is away.
        """
        queues: list[str] = []
        for part, question in zip(self._parts, self._questions, strict=True):
            (existing,) = client.round_trip([question])
            if existing:
                queues += _with_any(client, part, keys.priority_lists)
        return queues

    def waiting(self, client: Client) -> list[str]:
        """Queues with events for later, or on their way.

        Raises:
            redis.RedisError: Redis is away.
        """
        return [queue for part in self._parts for queue in _with_any(client, part, _later)]

    def astray(self, client: Client) -> list[str]:
        """Queues due later than any plan: the clock went back, or another program wrote the time.

        Raises:
            redis.RedisError: Redis is away.
        """
        latest_ms = redis_now_ms(client) + schedule.LONGEST_MS + 1000
        names: Any = client.zrangebyscore(keys.schedule(self._provider), latest_ms, "+inf", 0, MOST_ASTRAY)
        return [name.decode("utf-8", "replace") for name in names]


def _with_any(client: Client, queues: list[str], places: Callable[[str], list[str]]) -> list[str]:
    replies = client.round_trip([_exists(places(queue)) for queue in queues])
    return [queue for queue, existing in zip(queues, replies, strict=True) if existing]


def _later(queue: str) -> list[str]:
    return [place(queue) for place in (keys.delayed, keys.held, keys.groups, keys.flight)]


def _exists(names: Iterable[str]) -> bytes:
    return _packed("EXISTS", *names)


def _packed(*texts: str) -> bytes:
    """A command as bytes to send."""
    words = [text.encode() for text in texts]
    return b"*%d\r\n%b" % (len(words), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
