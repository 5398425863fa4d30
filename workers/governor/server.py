"""What a process knows of its Redis: how to reach it, which server it is, and since when it may have forgotten something."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import redis

from postback.wire.scripts import Observer, Script
from workers.governor.identities import Identity
from workers.governor.scripts import account_keys, look_keys, provider_keys, provider_of, script_keys
from workers.writes import Client

#: Redis as a whole takes no writes now. Other refusals concern one account, and must not hold up the others.
NO_WRITES: Final = (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)


SCRIPTS: Final = ("take", "settle", "reconcile", "look")
#: Those that work for several accounts in one call, and reply to each (ADR 32).
JOINED: Final = frozenset({"take", "settle"})
#: Most work in one call, in messages that it moves: no call keeps Redis for long (ADR 22).
MOST_WORK: Final = 64


#: For a call that is about no account.
NOBODY: Final = Identity("", "", ())


class Call(NamedTuple):
    """A call of a script.

    Attributes:
        script: Its name.
        place: An account's queue, or for ``look`` a provider.
        argument: As the script takes it.
        identity: Whose the account is; nobody's for ``look``.
        settings: What a joined script is told of the account, as JSON; empty: nothing.
        work: Messages that it moves, about.
    """

    script: str
    place: str
    argument: bytes
    identity: Identity = NOBODY
    settings: bytes = b""
    work: int = 1

    @property
    def keys(self) -> tuple[str, ...]:
        """KEYS of the script, if it works for this account alone."""
        if self.script == "look":
            return look_keys(self.place)
        return script_keys(self.place, self.identity.quota, self.identity.credential)


class Server:
    """The Redis of a process. Any thread.

    Attributes:
        clock: Seconds that only move forward, as ``time.monotonic``.
        suspicious: Something failed: it may be another server than before.
        notices: A hook hears of dead letters.
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
        self._connect, self.notices, self._observe = connect, notices, observe
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

    def run(self, call: Call, *more: bytes) -> Any:
        """Run a script once.

        Raises:
            redis.RedisError: Redis is away, or refuses it.
        """
        script = self._scripts[call.script]
        if call.script not in JOINED:
            return script(self.client, call.keys, (call.argument, *more))
        (reply,) = script(self.client, call.keys, arguments_of([call]))
        if isinstance(reply, redis.RedisError):
            raise reply
        return reply

    def _alone(self, call: Call) -> Any:
        try:
            return self.run(call)
        except redis.ResponseError as error:
            return error

    def run_many(self, calls: Sequence[Call], meanwhile: Callable[[], None]) -> list[Any]:
        """Run several scripts in one round trip; in place of a reply stands the error that Redis answered with.

        ``meanwhile`` is called while Redis is at work.

        Raises:
            redis.RedisError: Redis is away. Each script may or may not have run.
        """
        client = self.client
        begun = time.perf_counter()
        groups = joined(calls)
        trip = client.round_trip([self._packed(client, together) for together in groups], meanwhile)
        replies: list[Any] = []
        for together, reply in zip(groups, trip, strict=True):
            if isinstance(reply, NO_WRITES):
                replies += [reply] * len(together)
            elif isinstance(reply, redis.RedisError):
                # It has forgotten the script, or refuses the keys of one account.
                replies += [self._alone(call) for call in together]
            else:
                replies += reply if together[0].script in JOINED else [reply]
        if self._observe is not None:
            # Each script's time is that of the trip.
            for script in {call.script for call in calls}:
                self._observe(script, time.perf_counter() - begun)
        return replies

    def _packed(self, client: Client, together: Sequence[Call]) -> bytes:
        """Calls of one script as they are sent: an account's keys are the same each time, and are packed once."""
        first = together[0]
        if first.script in JOINED:
            places = [
                _sent(provider_keys, provider_of(first.place)),
                *(_sent(account_keys, call.place, call.identity.quota, call.identity.credential) for call in together),
            ]
            arguments = arguments_of(together)
        else:
            places, arguments = [_sent(look_keys, first.place)], [first.argument]
        count = sum(number for number, _ in places)
        words = (b"EVALSHA", self._scripts[first.script].sha(client).encode(), b"%d" % count)
        return b"".join(
            (
                b"*%d\r\n" % (len(words) + count + len(arguments)),
                *map(_bulk, words),
                *(packed for _, packed in places),
                *map(_bulk, arguments),
            )
        )

    def succeeded(self) -> None:
        """It did what it was told."""
        if not self.suspicious:
            self.good_s = self.clock()


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


@cache
def _sent(names: Callable[..., tuple[str, ...]], *of: str) -> tuple[int, bytes]:
    """How many keys these are, and how they are sent."""
    found = names(*of)
    return len(found), b"".join(_bulk(key.encode()) for key in found)


def arguments_of(together: Sequence[Call]) -> list[bytes]:
    """What a joined script is told: settings, which many accounts have in common, once."""
    known: dict[bytes, int] = {b"": 0}
    arguments = [b""]
    for call in together:
        arguments += (b"%d" % known.setdefault(call.settings, len(known)), call.argument)
    arguments[0] = b"[%b]" % b",".join(list(known)[1:])
    return arguments


def joined(calls: Iterable[Call]) -> list[list[Call]]:
    """Calls that one script carries out together: those that follow each other, as far as it may work."""
    groups: list[list[Call]] = []
    script, provider, work = "", "", 0
    for call in calls:
        work += call.work
        if call.script != script or script not in JOINED or provider_of(call.place) != provider or work > MOST_WORK:
            groups.append([])
            script, provider, work = call.script, provider_of(call.place), call.work
        groups[-1].append(call)
    return groups
