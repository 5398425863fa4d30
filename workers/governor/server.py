"""The Redis of a process: how to reach it, which server it is, and how to call its scripts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import redis

from postback.wire import keys
from postback.wire.scripts import Observer, Script
from workers.governor.identities import Identity
from workers.writes import Client

#: Redis takes no writes at all. Any other refusal concerns one account, and the others go on.
NO_WRITES: Final = (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)

SCRIPTS: Final = ("take", "settle", "reconcile", "look")
#: Scripts that work for several accounts in one call, and reply for each (ADR 32).
JOINED: Final = frozenset({"take", "settle"})
#: Most work in one call, in messages that it moves: no call keeps Redis busy for long (ADR 22).
MOST_WORK: Final = 64
#: For a call that concerns no account.
NO_IDENTITY: Final = Identity("", "", ())


def provider_of(queue: str) -> str:
    """The provider of an account's queue."""
    return queue.partition(".")[0]


@cache
def provider_keys(provider: str) -> tuple[str, ...]:
    """The first KEYS of every account script, in the order of ``lua/include/keys.lua``."""
    return (
        keys.dead(provider),
        keys.REVOKED,
        keys.schedule(provider),
        keys.timers(provider),
        keys.buried(provider),
        keys.dead_notices(provider),
        keys.journal(provider),
    )


@cache
def account_keys(queue: str, quota: str, credential: str) -> tuple[str, ...]:
    """An account's KEYS, which follow the provider's.

    Args:
        queue: The account's.
        quota: The name of its quota.
        credential: The name of its credential.
    """
    provider = provider_of(queue)
    return (
        *keys.account(queue),
        keys.idempotency(queue),
        keys.idempotency_ends(queue),
        keys.quota(provider, quota),
        keys.credential(provider, credential),
    )


def look_keys(provider: str) -> tuple[str, ...]:
    """KEYS of the script ``look``."""
    return keys.schedule(provider), keys.timers(provider)


def script_keys(queue: str, quota: str, credential: str) -> tuple[str, ...]:
    """KEYS of a script that works for one account."""
    return (*provider_keys(provider_of(queue)), *account_keys(queue, quota, credential))


class Call(NamedTuple):
    """A call of a script.

    Attributes:
        script: Its name.
        place: An account's queue; for ``look`` a provider.
        argument: As the script takes it.
        identity: The account's; none for ``look``.
        settings: The account's settings for a joined script, as JSON; empty: none.
        record: SETTLE's record for the journal; empty: none.
        work: About how many messages it moves.
    """

    script: str
    place: str
    argument: bytes
    identity: Identity = NO_IDENTITY
    settings: bytes = b""
    record: bytes = b""
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
        suspicious: A call failed: this may be another server than before.
        notices: A hook is called for dead letters.
        journal: Most records in a provider's stream; 0: none are written.
        run_id: The server that answered last; empty before the first answer.
        good_s: Time of the last success (monotonic); it stands from a failure until Redis is back.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        *,
        notices: bool = False,
        journal: int = 0,
        observe: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is sent yet.

        Args:
            connect: Makes a client for one thread, with its own connection: replies as bytes,
                retries off, short time-outs.
            notices: A hook is called for dead letters.
            journal: Most records in a provider's stream; 0: none are written.
            observe: Called after each run of a script. Any thread.
            clock: Seconds that only move forward.
        """
        self._connect, self.notices, self.journal, self._observe = connect, notices, journal, observe
        self._scripts = {name: Script("workers.governor", name, observe) for name in SCRIPTS}
        self.clock = clock
        self._local = threading.local()
        self.suspicious = True
        self.run_id = ""
        self.good_s = clock()

    @property
    def client(self) -> Client:
        """The current thread's client. A pool would check the socket before each command."""
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
        (reply,) = script(self.client, call.keys, arguments_of([call], self.journal))
        if isinstance(reply, redis.RedisError):
            raise reply
        return reply

    def _alone(self, call: Call) -> Any:
        try:
            return self.run(call)
        except redis.ResponseError as error:
            return error

    def run_many(self, calls: Sequence[Call], meanwhile: Callable[[], None]) -> list[Any]:
        """Run several scripts in one round trip.

        ``meanwhile`` is called while Redis works.

        Returns:
            The reply to each call; or the error with which Redis answered it.

        Raises:
            redis.RedisError: Redis is away. Each script may or may not have run.
        """
        client = self.client
        begun = time.perf_counter()
        groups = joined(calls)
        group_replies = client.round_trip([self._packed(client, group) for group in groups], meanwhile)
        replies: list[Any] = []
        for group, reply in zip(groups, group_replies, strict=True):
            if isinstance(reply, NO_WRITES):
                replies += [reply] * len(group)
            elif isinstance(reply, redis.RedisError):
                # It has forgotten the script, or it refuses the keys of one account.
                replies += [self._alone(call) for call in group]
            else:
                replies += reply if group[0].script in JOINED else [reply]
        if self._observe is not None:
            # Each script's time is that of the whole trip.
            for script in {call.script for call in calls}:
                self._observe(script, time.perf_counter() - begun)
        return replies

    def _packed(self, client: Client, group: Sequence[Call]) -> bytes:
        """Calls of one script as bytes to send. The keys of an account are packed only once."""
        first = group[0]
        if first.script in JOINED:
            packed_keys = [
                _packed_keys(provider_keys, provider_of(first.place)),
                *(
                    _packed_keys(account_keys, call.place, call.identity.quota, call.identity.credential)
                    for call in group
                ),
            ]
            arguments = arguments_of(group, self.journal)
        else:
            packed_keys, arguments = [_packed_keys(look_keys, first.place)], [first.argument]
        key_count = sum(number for number, _ in packed_keys)
        words = (b"EVALSHA", self._scripts[first.script].sha(client).encode(), b"%d" % key_count)
        return b"".join(
            (
                b"*%d\r\n" % (len(words) + key_count + len(arguments)),
                *map(_bulk, words),
                *(packed for _, packed in packed_keys),
                *map(_bulk, arguments),
            )
        )

    def succeeded(self) -> None:
        """A call succeeded."""
        if not self.suspicious:
            self.good_s = self.clock()


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


@cache
def _packed_keys(names: Callable[..., tuple[str, ...]], *of: str) -> tuple[int, bytes]:
    """The number of these keys, and their bytes to send."""
    key_names = names(*of)
    return len(key_names), b"".join(_bulk(key.encode()) for key in key_names)


def arguments_of(group: Sequence[Call], journal: int) -> list[bytes]:
    """ARGV of a joined script. Settings that several accounts have in common are sent once.

    Args:
        group: Its calls.
        journal: Most records in a provider's stream; 0: none.
    """
    numbers: dict[bytes, int] = {b"": 0}
    arguments = [b"", b"%d" % journal]
    for call in group:
        arguments += (b"%d" % numbers.setdefault(call.settings, len(numbers)), call.argument, call.record)
    arguments[0] = b"[%b]" % b",".join(list(numbers)[1:])
    return arguments


def joined(calls: Iterable[Call]) -> list[list[Call]]:
    """Groups of calls that one run of a script can do: neighbours, up to :data:`MOST_WORK`."""
    groups: list[list[Call]] = []
    script, provider, work = "", "", 0
    for call in calls:
        work += call.work
        if call.script != script or script not in JOINED or provider_of(call.place) != provider or work > MOST_WORK:
            groups.append([])
            script, provider, work = call.script, provider_of(call.place), call.work
        groups[-1].append(call)
    return groups
