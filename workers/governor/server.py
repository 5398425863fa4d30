"""What a process knows of its Redis: how to reach it, which server it is, and since when it may have forgotten something."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import redis

#: Redis as a whole takes no writes now. Other refusals concern one account, and must not hold up the others.
NO_WRITES: Final = (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)


class Server:
    """The Redis of a process. Any thread.

    Attributes:
        clock: Seconds that only move forward, as ``time.monotonic``.
        suspicious: Something failed: it may be another server than before.
        run_id: Which server answered last; empty before the first.
        good_s: When it last did what it was told (monotonic); kept as it is from the first failure until it is back.
    """

    def __init__(self, connect: Callable[[], redis.Redis], clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is sent yet.

        Args:
            connect: Makes a client with one connection of its own, for one thread: replies as bytes, retries off, short
                time-outs.
            clock: Seconds that only move forward.
        """
        self._connect = connect
        self.clock = clock
        self._local = threading.local()
        self.suspicious = True
        self.run_id = ""
        self.good_s = clock()

    @property
    def client(self) -> redis.Redis:
        """The current thread's client. A pool would look at its connection's socket before each command."""
        client: redis.Redis | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._connect()
        return client

    def succeeded(self) -> None:
        """It did what it was told."""
        if not self.suspicious:
            self.good_s = self.clock()
