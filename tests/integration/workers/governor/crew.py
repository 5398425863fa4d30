"""A worker's governor on a real server, and ways to lose things: replies, a server's last second, a
server.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.accounts import Account, build_account
from postback.wire import keys
from tasks.grants import Grant, Half, Health, Settlement
from tasks.request import HttpRequest
from tasks.rulings import Delivered, Ruling
from tests.integration.workers.governor.bench import Bench, id_of
from tests.unit.tasks.fakes import Server as Provider
from workers.devkit import RedisServer
from workers.governor import Governor, Server, Taken
from workers.governor.identities import Identity
from workers.http.engine import Done, Exchange
from workers.writes import Client

CREDENTIALS: Final[Mapping[str, Mapping[str, object]]] = {
    "tgtrack": {"api_key": "k", "limits": "1000/second"},
    "mytracker": {"id_app": 1, "token": "t"},
}
LETTER: Final = '{"reason": "rejected"}'


def own_client(server: RedisServer) -> Client:
    """A client as a worker's governor has it."""
    return Client(port=server.port, retry=Retry(NoBackoff(), 0), socket_timeout=5, single_connection_client=True)


class Lossy(Client):
    """A client that loses a trip's way there (``before``) or its replies (``after``), once for each
    time it is told to.
    """

    def __init__(self, server: RedisServer) -> None:
        super().__init__(port=server.port, retry=Retry(NoBackoff(), 0), socket_timeout=5, single_connection_client=True)
        self.lose: list[str] = []

    def execute_command(self, *args: Any, **options: Any) -> Any:
        trip = super().execute_command
        return self._lossy(lambda: trip(*args, **options)) if args[0] == "EVALSHA" else trip(*args, **options)

    def round_trip(self, *arguments: Any) -> Any:
        trip = super().round_trip
        return self._lossy(lambda: trip(*arguments))

    def _lossy(self, trip: Callable[[], Any]) -> Any:
        lost = self.lose.pop(0) if self.lose else ""
        if lost == "before":
            raise redis.ConnectionError("the command was lost")
        reply = trip()
        if lost == "after":
            raise redis.ConnectionError("the reply was lost")
        return reply


class Worker:
    """A governor with one account, as one process has it."""

    def __init__(
        self, server: RedisServer, queue: str = "tgtrack.main", *, one_first: bool = False, **table: Any
    ) -> None:
        """An account at rest sends as much as is asked for, if not ``one_first``:
        ``test_one_first.py`` has that case.
        """
        provider, _, name = queue.partition(".")
        self.queue = queue
        self.server = server
        self.account: Account = build_account(provider, name, {**CREDENTIALS[provider], **table})
        self.accounts: dict[str, Account] = {queue: self.account}
        self.client = Lossy(server)
        self.governor = Governor(Server(lambda: self.client, journal=1000), lambda: self.accounts, one_first=one_first)
        self.look = Look(self)
        self.governor.identities.learn(self.look.client)

    def beside(self, *names: str, **table: Any) -> list[str]:
        """Queues of further accounts of the same provider, which it serves from now on."""
        provider = self.account.provider
        key = {"tgtrack": "api_key", "mytracker": "token"}[provider]
        accounts = [
            build_account(provider, name, {**CREDENTIALS[provider], key: f"k-{name}", **table}) for name in names
        ]
        self.accounts.update((account.queue, account) for account in accounts)
        return [account.queue for account in accounts]

    def pump(self) -> None:
        """What the feeder does before each round."""
        self.governor.recover_if_restarted()
        if self.governor.unsent:
            self.governor.replay()

    def take(self, count: int = 1) -> list[Grant]:
        self.pump()
        return self.governor.take(self.queue, count).grants

    def taken(self, count: int = 1) -> Taken:
        return self.governor.take(self.queue, count)

    def one(self) -> Grant:
        (grant,) = self.take()
        return grant

    def settle(self, grant: Grant, given: Given | None = None) -> None:
        grant.settlement = (given or answer()).to(grant)
        self.governor.settle(grant)

    def restart(self) -> None:
        """Redis is killed and comes back with all that it had."""
        if self.server.appendonly:
            wait_until_written(self.server)
        self.server.kill()
        self.server.start()

    def open(self) -> None:
        """As after a healthy answer."""
        self.look.bench.healthy()

    @property
    def identity(self) -> Identity:
        """Whose the account is."""
        return self.governor.identities.of(self.account)

    def push(self, *raws: bytes) -> None:
        for raw in raws:
            self.look.client.lpush(self.queue, raw)


class AnswersAtOnce:
    """A wire whose provider answers before anybody waits."""

    def __init__(self, server: Provider) -> None:
        self.server = server

    def start(self, request: HttpRequest, account: Account, done: Done) -> None:
        done(Exchange(self.server.send(request, account), 0.001))

    def step(self, timeout_s: float) -> None: ...
    def wake(self) -> None: ...
    def close(self) -> None: ...


class Look:
    """What Redis holds of an account; its connection is made anew each time."""

    def __init__(self, worker: Worker) -> None:
        self.worker, self.server, self.queue = worker, worker.server, worker.queue

    @property
    def client(self) -> Any:
        return self.server.client()

    @property
    def bench(self) -> Bench:
        bench = Bench.__new__(Bench)
        bench.client, bench.queue = self.client, self.queue
        identity = self.worker.identity
        bench.quota, bench.credential = identity.quota, identity.credential
        return bench

    def everything(self) -> Counter[str]:
        return self.bench.everything()

    def ids(self) -> list[str]:
        return self.bench.ids()

    def meta(self) -> dict[str, str]:
        return self.bench.meta()

    def log(self) -> dict[str, str]:
        return self.bench.log()

    def flying(self) -> list[str]:
        """Events in flight."""
        return sorted(id_of(raw) for raw in self.bench.in_flight())

    def requests(self) -> int:
        """Requests in flight."""
        return int(self.client.zcard(keys.flight(self.queue)))

    def places(self) -> dict[str, Any]:
        """Where every event is, with its state."""
        bench = self.bench
        return {
            "queued": [bench.queued(step) for step in keys.PRIORITY_STEPS],
            "delayed": sorted(bench.delayed()),
            "held": bench.held(),
            "groups": bench.groups(),
            "in flight": sorted(bench.in_flight()),
            "dead": bench.dead(),
        }


def wait_until_written(server: RedisServer) -> None:
    """While a sync of the append-only file is under way the server puts off writing to it, with
    ``everysec`` for up to two seconds.
    """
    client = server.client()
    while int(client.info("persistence")["aof_buffer_length"]):
        time.sleep(0.002)


class Memory:
    """A server with an append-only file that can forget what it did since a moment, as a power cut
    or a failover makes it.
    """

    def __init__(self, server: RedisServer, scratch: Path) -> None:
        self.server = server
        self._copy = scratch / "remembered"

    def remember(self) -> None:
        wait_until_written(self.server)
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self.server.dir / "appendonlydir", self._copy)

    def forget(self) -> None:
        """Killed and started again with what it knew at :meth:`remember`."""
        self.server.kill()
        shutil.rmtree(self.server.dir / "appendonlydir")
        shutil.copytree(self._copy, self.server.dir / "appendonlydir")
        self.server.start()


@dataclass(frozen=True)
class Given:
    """An answer in short: rulings on a grant's own events in their order, delivered if there is
    none, and its settlement.
    """

    rulings: tuple[Ruling, ...]
    health: Health = "ok"
    detail: str = ""
    retry_after_s: float | None = None
    halves: Sequence[tuple[Sequence[int], Sequence[int]]] = ()

    def to(self, grant: Grant) -> Settlement:
        """Rule on the grant's events.

        Halves are numbers of events, from 1, the siblings after the grant's own.
        """
        events = [*grant.envelopes, *grant.siblings]
        for envelope, ruling in zip_longest(grant.envelopes, self.rulings, fillvalue=Delivered()):
            envelope.ruling = ruling
        halves = [Half(*([events[number - 1] for number in part] for part in half)) for half in self.halves]
        return Settlement(self.health, self.detail, halves, self.retry_after_s)


def answer(*rulings: Ruling, **more: Any) -> Given:
    """An answer with these rulings."""
    return Given(rulings, **more)
