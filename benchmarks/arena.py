"""Where contestants meet: one Redis, one provider, the same events.

Every event must arrive exactly once, or the round is void.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import redis

from benchmarks.contestants import Contestant
from benchmarks.processes import Running
from benchmarks.provider import Provider
from postback.wire import keys
from workers.devkit import ROOT, RedisServer, accounts_file, environment, free_port, until

#: The share of events that warms a worker up, and the share at the end that is not measured either.
WARM: Final = 0.2
#: A limit that is never reached.
FREE: Final = "100000/second"


class Void(Exception):
    """An event was lost or arrived twice."""


@dataclass(frozen=True)
class Drained:
    """What a worker did between its warm-up and its last events."""

    events_per_s: float
    cpu_us: float
    redis_us: float
    script_us: float
    rss_mb: float


@dataclass(frozen=True)
class RedisUse:
    """What Redis has done so far."""

    commands: int
    cpu_s: float
    script_s: float
    memory_bytes: int


class Arena:
    """A Redis and a provider, and the environment that all contestants get."""

    def __init__(self, *, delay_s: float = 0.0, at_once: int | None = 8, accounts: int = 1, **settings: Any) -> None:
        """Prepare.

        Args:
            delay_s: The provider's answers take this long.
            at_once: Requests at once per worker; None is the contestant's own default.
            accounts: How many accounts Postback serves.
            settings: More keys of each account.
        """
        self.provider = Provider(delay_s)
        self.redis = RedisServer()
        self.at_once = at_once
        self.accounts = accounts
        self.settings = settings

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="postback-bench-")))
            stack.enter_context(self.redis)
            stack.enter_context(self.provider)
            self._stack = stack.pop_all()
        self.client: redis.Redis = self.redis.client()
        (self._folder / "accounts.toml").write_text(accounts_file(self._accounts()))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _accounts(self) -> dict[str, dict[str, Any]]:
        settings = {"base_url": self.provider.url, "limits": FREE, **self.settings}
        accounts: dict[str, dict[str, Any]] = {}
        for number in range(self.accounts):
            accounts[f"tgtrack.a{number}"] = {"api_key": f"KEY{number}", **settings}
            accounts[f"mytracker.a{number}"] = {"id_app": 666 + number, "token": f"TOKEN{number}", **settings}
        return accounts

    def env(self, contestant: Contestant, events: int = 0) -> dict[str, str]:
        """A contestant's environment."""
        at_once = {} if self.at_once is None else {"POSTBACK_CONCURRENCY": str(self.at_once)}
        variables = {
            **at_once,
            "POSTBACK_BROKER_URL": self.redis.url,
            "POSTBACK_ACCOUNTS": str(self._folder / "accounts.toml"),
            "POSTBACK_LOG_LEVEL": "WARNING",
            "BENCH_REDIS_URL": self.redis.url,
            "BENCH_PROVIDER_URL": self.provider.url,
            "BENCH_AT_ONCE": str(self.at_once or 8),
            "BENCH_ACCOUNTS": str(self.accounts),
            "BENCH_EVENTS": str(events),
            **contestant.env,
        }
        return environment(**variables)

    def clear(self) -> None:
        """Empty Redis, forget what has arrived."""
        self.client.flushall()
        self.provider.reset()

    def enqueue(self, contestant: Contestant, events: int) -> float:
        """Enqueue events from a producer's process. Returns the seconds after it was connected."""
        return float(self._produced(contestant, contestant.enqueue, events).split()[-1])

    def pace(self, contestant: Contestant, events: int) -> dict[int, float]:
        """Enqueue one at a time, and return when each was sent (seconds since 1970)."""
        lines = [line.split() for line in self._produced(contestant, "pace", events).splitlines()]
        return {int(number): float(at_s) for number, at_s in lines if number != "seconds"}

    def _produced(self, contestant: Contestant, verb: str, events: int) -> str:
        return subprocess.run(
            contestant.command(verb, str(events)),
            cwd=ROOT,
            env=self.env(contestant),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    def worker(self, contestant: Contestant, events: int = 0) -> Running:
        """Start a contestant's worker."""
        return Running(contestant.command(*contestant.work), self.env(contestant, events), contestant.core)

    @contextlib.contextmanager
    def flower(self) -> Iterator[None]:
        """Flower listens."""
        port = free_port()
        env = {**self.env(Contestant("Flower", "ours", 0)), "FLOWER_PORT": str(port)}
        with Running([sys.executable, "-m", "workers.flower"], env) as flower:
            until(lambda: flower.check() and self._listeners(), 30, "Flower")
            yield

    @contextlib.contextmanager
    def journal(self) -> Iterator[None]:
        """A process moves the journal into an SQLite file."""
        url = f"sqlite:///{self._folder / 'journal.sqlite3'}"
        env = {**self.env(Contestant("journal", "ours", 0)), "POSTBACK_JOURNAL_URL": url}
        with Running([sys.executable, "-m", "workers.journal"], env) as journal:
            until(lambda: journal.check() and self.client.hexists(keys.JOURNAL, "at"), 30, "the journal")
            yield

    def _listeners(self) -> bool:
        return (
            any(b"celeryev" in pattern for pattern in self.client.pubsub_channels("*"))
            or self.client.pubsub_numpat() > 0
        )

    def use(self) -> RedisUse:
        """What Redis has done so far."""
        info = {**self.client.info(), **self.client.info("commandstats")}
        scripts = (info.get(f"cmdstat_{name}", {"usec": 0})["usec"] for name in ("evalsha", "eval", "fcall"))
        cpu_s = info["used_cpu_user"] + info["used_cpu_sys"]
        return RedisUse(info["total_commands_processed"], cpu_s, sum(scripts) / 1e6, info["used_memory"])

    def drain(self, contestant: Contestant, events: int, *, of: int = 0) -> Drained:
        """Start a worker on what is queued and measure it between its warm-up and its last events.

        Args:
            contestant: Who works.
            events: How many must arrive.
            of: How many are queued, if it is more than that.

        Raises:
            Void: An event was lost or arrived twice.
        """
        arrived = self.provider.count
        low, high = int(events * WARM), int(events * (1 - WARM / 2))
        with self.worker(contestant, events) as worker:
            until(lambda: worker.check() and arrived() >= low, 120, f"{contestant.name}: first events", every_s=0.05)
            begun = _Moment.of(self, worker)
            until(lambda: worker.check() and arrived() >= high, 300, f"{contestant.name}: most events", every_s=0.05)
            ended, rss_mb = _Moment.of(self, worker), worker.rss_mb()
            until(lambda: worker.check() and arrived() >= events, 120, f"{contestant.name}: all events", every_s=0.05)
        self.provider.count()
        counted = Counter(arrival.number for arrival in self.provider.arrivals)
        if (not of and set(counted) != set(range(events))) or max(counted.values()) > 1:
            raise Void(
                f"{contestant.name}: {len(counted)} of {events} events arrived, one of them {max(counted.values())} times"
            )
        done = ended.arrived - begun.arrived
        return Drained(
            events_per_s=done / (ended.at_s - begun.at_s),
            cpu_us=(ended.cpu_s - begun.cpu_s) / done * 1e6,
            redis_us=(ended.use.cpu_s - begun.use.cpu_s) / done * 1e6,
            script_us=(ended.use.script_s - begun.use.script_s) / done * 1e6,
            rss_mb=rss_mb,
        )


@dataclass(frozen=True)
class _Moment:
    at_s: float
    arrived: int
    cpu_s: float
    use: RedisUse

    @classmethod
    def of(cls, arena: Arena, worker: Running) -> _Moment:
        """Now. The processor time is read first: what comes next costs the worker nothing."""
        cpu_s, use = worker.cpu_s(), arena.use()
        return cls(time.monotonic(), arena.provider.count(), cpu_s, use)
