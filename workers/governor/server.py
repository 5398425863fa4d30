"""What a process knows of its Redis: how to reach it, which server it is, and since when it may have forgotten something."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis

from postback import keys
from postback.wire.scripts import Observer, Script
from workers.governor.scripts import account_keys
from workers.writes import Client

#: Redis as a whole takes no writes now. Other refusals concern one account, and must not hold up the others.
NO_WRITES: Final = (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)


#: A script, an account's queue (or for ``look`` a provider), the argument.
Call = tuple[str, str, bytes]

SCRIPTS: Final = ("take", "settle", "reconcile", "look")


class Server:
    """The Redis of a process. Any thread.

    Attributes:
        clock: Seconds that only move forward, as ``time.monotonic``.
        suspicious: Something failed: it may be another server than before.
        run_id: Which server answered last; empty before the first.
        good_s: When it last did what it was told (monotonic); kept as it is from the first failure until it is back.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        *,
        notices: bool = False,
        observe: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is sent yet.

        Args:
            connect: Makes a client with one connection of its own, for one thread: replies as bytes, retries off, short
                time-outs.
            notices: A hook hears of dead letters.
            observe: Told of each run of a script. Any thread.
            clock: Seconds that only move forward.
        """
        self._connect, self._notices, self._observe = connect, notices, observe
        #: Script and queue -> the start of its call as it is sent.
        self._heads: dict[tuple[str, str], bytes] = {}
        self._scripts = {name: Script("workers.governor", name, observe) for name in SCRIPTS}
        self.clock = clock
        self._local = threading.local()
        self.suspicious = True
        self.run_id = ""
        self.good_s = clock()

    @property
    def client(self) -> Client:
        """The current thread's client. A pool would look at its connection's socket before each command."""
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._connect()
        return client

    def run(self, script: str, queue: str, *arguments: bytes) -> Any:
        """Run a script over an account's keys.

        Raises:
            redis.RedisError: Redis is away, or refuses it.
        """
        return self._scripts[script](self.client, self._keys(script, queue), arguments)

    def _keys(self, script: str, place: str) -> tuple[str, ...]:
        if script == "look":
            return keys.schedule(place), keys.timers(place)
        return account_keys(place, self._notices)

    def run_many(self, calls: Sequence[Call], meanwhile: Callable[[], None]) -> list[Any]:
        """Run several scripts in one round trip; in place of a reply stands the error that Redis answered with.

        ``meanwhile`` is called while Redis is at work.

        Raises:
            redis.RedisError: Redis is away. Each script may or may not have run.
        """
        client = self.client
        begun = time.perf_counter()
        packed = [self._packed(client, script, queue, argument) for script, queue, argument in calls]
        replies = client.round_trip(packed, meanwhile)
        for at, (script, queue, argument) in enumerate(calls):
            if isinstance(replies[at], redis.exceptions.NoScriptError):
                replies[at] = self.run(script, queue, argument)
        if self._observe is not None:
            # Each script's time is that of the trip.
            for script in {script for script, _, _ in calls}:
                self._observe(script, time.perf_counter() - begun)
        return replies

    def _packed(self, client: Client, script: str, queue: str, argument: bytes) -> bytes:
        """A call as it is sent: all but the argument is the same each time, and is packed once."""
        place = (script, queue)
        head = self._heads.get(place)
        if head is None:
            script_keys = self._keys(script, queue)
            words = [b"EVALSHA", self._scripts[script].sha(client).encode(), b"%d" % len(script_keys)]
            words += [key.encode() for key in script_keys]
            sizes = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
            head = self._heads[place] = b"*%d\r\n%b" % (len(words) + 1, sizes)
        return b"%b$%d\r\n%b\r\n" % (head, len(argument), argument)

    def succeeded(self) -> None:
        """It did what it was told."""
        if not self.suspicious:
            self.good_s = self.clock()
