"""What a process knows of its Redis: how to reach it, which server it is, and since when it may have forgotten something."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis

from postback.wire.scripts import Observer, Script
from workers.governor.scripts import account_keys
from workers.writes import Client

#: Redis as a whole takes no writes now. Other refusals concern one account, and must not hold up the others.
NO_WRITES: Final = (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)


#: A script, an account's queue, the arguments.
Call = tuple[str, str, tuple[bytes, ...]]

SCRIPTS: Final = ("take", "settle", "reconcile", "scan")


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
        return self._scripts[script](self.client, account_keys(queue, self._notices), arguments)

    def run_many(self, calls: Sequence[Call]) -> list[Any]:
        """Run several scripts in one round trip; in place of a reply stands the error that Redis answered with.

        Raises:
            redis.RedisError: Redis is away. Each script may or may not have run.
        """
        client, commands = self.client, []
        begun = time.perf_counter()
        for script, queue, arguments in calls:
            script_keys = account_keys(queue, self._notices)
            commands.append(("EVALSHA", self._scripts[script].sha(client), len(script_keys), *script_keys, *arguments))
        replies = client.round_trip(commands)
        for at, (script, queue, arguments) in enumerate(calls):
            if isinstance(replies[at], redis.exceptions.NoScriptError):
                replies[at] = self.run(script, queue, *arguments)
        if self._observe is not None:
            # Each script's time is that of the trip.
            for script in {script for script, _, _ in calls}:
                self._observe(script, time.perf_counter() - begun)
        return replies

    def scan(self, keys: list[str], each: int) -> list[int]:
        """Numbers of the accounts, from 1, of which any of ``each`` keys exists.

        Raises:
            redis.RedisError: Redis is away.
        """
        return [int(number) for number in self._scripts["scan"](self.client, keys, [each])]

    def succeeded(self) -> None:
        """It did what it was told."""
        if not self.suspicious:
            self.good_s = self.clock()
