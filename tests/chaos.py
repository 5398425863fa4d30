"""The proof: workers and Redis are killed at random, connections cut, Redis filled, the provider
fails; then every event is accounted for.

``make chaos MINUTES=N``, or ``python -m tests.chaos --minutes N [--seed S]``. Prints a table and
exits 1 if anything is lost, doubled without saying so, or not told of in the journal.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import redis

import postback
from postback import tgtrack
from postback.journal.query import Query
from postback.journal.records import Gap
from postback.journal.store import Store
from postback.wire import keys
from workers.devkit import Process, Stack, until
from workers.devkit.stack import READY

#: Faults that the provider plays, one now and then. Those that record the event and lose the answer
#: may double it, and must say so.
FAULTS: Final = (
    "500",
    "503",
    "429",
    "reset_before",
    "reset_after",
    "close_after",
    "garbage",
    "html_502",
    "empty",
    "truncated",
    "timeout_after",
)
#: Accounts of the run: each with a limit of its own.
ACCOUNTS: Final = {
    "tgtrack.main": "100000/second",
    "tgtrack.shop": "40/second; 600 per 20 seconds",
    "tgtrack.slow": "10/second",
    "tgtrack.twin": "40/second; 600 per 20 seconds",
}
#: An account that has the key of another one.
TWINS: Final = {"tgtrack.twin": "tgtrack.shop"}
#: Seconds of AOF `everysec` that a killed Redis may forget, and one more.
FSYNC_S: Final = 2.0
DELIVERED: Final = re.compile(r"postback\.outcome: delivered \S+ (\S+) \S+?(: delivered, possible_duplicate)?$", re.M)


@dataclass
class Told:
    """What the journal tells of the run."""

    #: Events that ended, and of which it tells no end.
    untold: set[str]
    #: Events of which it tells more than one end.
    ended_twice: set[str]
    #: User -> requests that reached the provider, beyond the attempts that it tells.
    without_attempt: Counter[str]
    gaps: list[Gap]


@dataclass
class Tally:
    """What was done and what came of it."""

    acknowledged: set[str] = field(default_factory=set)
    kills: Counter[str] = field(default_factory=Counter)
    #: Requests that were in flight when something was killed, at most.
    at_risk: int = 0
    delivered: Counter[str] = field(default_factory=Counter)
    dead: set[str] = field(default_factory=set)
    flagged: set[str] = field(default_factory=set)
    ambiguous_faults: int = 0
    quota_429: int = 0
    #: What the journal tells; None: there was none.
    journal: Told | None = None

    @property
    def lost(self) -> set[str]:
        """Acknowledged to the producer, and neither delivered nor a dead letter."""
        return self.acknowledged - set(self.delivered) - self.dead

    @property
    def doubled(self) -> dict[str, int]:
        """Recorded more than once."""
        return {user: count for user, count in self.delivered.items() if count > 1}

    @property
    def unflagged(self) -> set[str]:
        """Doubled without saying so."""
        return set(self.doubled) - self.flagged

    def table(self) -> str:
        """For people."""
        extra = sum(self.doubled.values()) - len(self.doubled)
        lines = [
            ("events acknowledged to the producer", len(self.acknowledged)),
            (
                "killed or cut",
                ", ".join(f"{count} x {what}" for what, count in sorted(self.kills.items())) or "nothing",
            ),
            ("recorded by the provider", len(self.delivered)),
            ("dead letters", len(self.dead)),
            ("lost", len(self.lost)),
            ("recorded again", f"{extra} (at most {self.at_risk + self.ambiguous_faults} requests were at risk)"),
            ("recorded again without saying so", len(self.unflagged)),
            ("429 answers earned", self.quota_429),
        ]
        if self.journal is not None:
            lines += [
                ("ends that the journal does not tell", len(self.journal.untold)),
                ("events with more than one end in the journal", len(self.journal.ended_twice)),
                ("requests without their attempt in the journal", self.journal.without_attempt.total()),
                ("records lost in gaps", sum(gap.lost for gap in self.journal.gaps)),
            ]
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


class Chaos:
    """Sends events while it breaks things."""

    def __init__(self, stack: Stack, seed: int, workers: int = 3, *, journal: bool = False) -> None:
        """Use a stack that has its accounts and is started; with ``journal`` one is kept."""
        self.stack = stack
        self.random = random.Random(seed)
        self.tally = Tally()
        self.count = workers
        self.number = 0
        #: User -> task id.
        self.ids: dict[str, str] = {}
        self.journal: list[Process] | None = [] if journal else None
        stack.configure_producer()

    def start(self) -> None:
        """Start the workers, and the process that writes the journal."""
        if self.journal is not None:
            self.journal.append(self.stack.launch_journal())
        self.stack.start_workers("tgtrack", count=self.count)

    def kill_journal(self) -> None:
        """SIGKILL the process that writes the journal, and start another."""
        if self.journal is not None:
            self.journal[-1].kill()
            self.tally.kills["journal SIGKILL"] += 1
            self.journal.append(self.stack.launch_journal())

    def send(self, account: str, count: int) -> None:
        """Enqueue; what the producer is not told to be in does not count."""
        batch = []
        for _ in range(count):
            self.number += 1
            batch.append(tgtrack.AddEvent(user_id=str(self.number), event_type="sale", account=account))
        try:
            results = postback.send_many(batch)
        except postback.PartlyEnqueued as partly:
            self._acknowledge(batch[: partly.enqueued], [*partly.enqueued_ids, *partly.unknown_ids], batch)
        except postback.SendError as refused:
            self._acknowledge([], refused.ids, batch)
        else:
            self._acknowledge(batch, [result.id for result in results], batch)

    def _acknowledge(self, taken: list[Any], ids: Sequence[str], batch: list[Any]) -> None:
        """Note which events are certainly in, and whose ids those are that may be."""
        self.ids.update(zip((event.user_id for event in batch), ids, strict=False))
        self.tally.acknowledged |= {event.user_id for event in taken}

    def in_flight(self) -> int:
        """Requests under way now."""
        with contextlib.suppress(redis.RedisError):
            client = self.stack.client()
            return sum(int(client.zcard(keys.flight(queue))) for queue in ACCOUNTS)
        return 8 * self.count

    def kill_worker(self) -> None:
        """SIGKILL one and start another."""
        self.tally.at_risk += self.in_flight()
        alive = [worker for worker in self.stack.workers if worker.alive]
        if alive:
            self.random.choice(alive).kill()
            self.tally.kills["worker SIGKILL"] += 1
        self.stack.launch_worker("tgtrack")

    def stop_worker(self) -> None:
        """SIGTERM one and start another."""
        alive = [worker for worker in self.stack.workers if worker.alive and READY in worker.text()]
        if alive:
            self.random.choice(alive).terminate()
            self.tally.kills["worker SIGTERM"] += 1
        self.stack.launch_worker("tgtrack")

    def kill_redis(self) -> None:
        """SIGKILL Redis once what was acknowledged is on disk; start it again."""
        time.sleep(FSYNC_S)
        self.tally.at_risk += self.in_flight() + 8 * self.count
        self.stack.redis.kill()
        self.tally.kills["Redis SIGKILL"] += 1
        time.sleep(self.random.uniform(0, 1.5))
        self.stack.redis.start()

    def cut_connections(self) -> None:
        """CLIENT KILL all normal and pub/sub connections."""
        with contextlib.suppress(redis.RedisError):
            self.stack.redis.cut_connections()
            self.tally.kills["all connections cut"] += 1

    def flush_scripts(self) -> None:
        """SCRIPT FLUSH."""
        with contextlib.suppress(redis.RedisError):
            self.stack.client().script_flush()
            self.tally.kills["SCRIPT FLUSH"] += 1

    def fill_redis(self) -> None:
        """Redis has no memory left for some seconds, or a little and then none, while events are
        sent.
        """
        with contextlib.suppress(redis.RedisError):
            client = self.stack.client()
            used = client.info("memory")["used_memory"]
            client.config_set("maxmemory", used + self.random.randint(-300_000, 60_000))
            self.tally.kills["Redis full"] += 1
            end = time.monotonic() + self.random.uniform(1, 4)
            while time.monotonic() < end:
                self.send("main", 60)
                time.sleep(0.2)
        self.empty_redis()

    def empty_redis(self) -> None:
        """Redis may take as much memory as there is."""
        with contextlib.suppress(redis.RedisError):
            self.stack.client().config_set("maxmemory", 0)

    def fault(self) -> None:
        """The provider fails a few times in one way."""
        kind = self.random.choice(FAULTS)
        options: dict[str, Any] = (
            {"seconds": 3} if kind == "timeout_after" else {"retry_after": 1} if kind == "429" else {}
        )
        count = self.random.randint(1, 4)
        self.stack.sandbox.fault(kind, provider="tgtrack", count=count, **options)
        self.tally.kills[f"fault {kind}"] += 1
        self.tally.ambiguous_faults += count

    def heal(self) -> None:
        """The provider is well again.

        An account in outage asks seldom, and meets few of the faults that are waiting for it:
            without this a long run would be one outage.
        """
        self.stack.sandbox.clear_faults()

    def drain(self, timeout_s: float) -> None:
        """No more trouble: wait until nothing waits any more, and read the ledgers."""
        self.stack.sandbox.clear_faults()
        self.empty_redis()
        if not any(worker.alive for worker in self.stack.workers):
            self.stack.start_workers("tgtrack")
        until(
            lambda: sum(self.stack.waiting(queue) for queue in ACCOUNTS) == 0,
            timeout_s,
            "everything settled",
            every_s=0.2,
        )
        client = self.stack.client()
        for raw in client.lrange(keys.dead("tgtrack"), 0, -1):
            found = re.search(r'\\"user_id\\": ?\\"(\d+)', raw)
            if found:
                self.tally.dead.add(found[1])
        self.tally.delivered = Counter(
            event["user_id"] for event in self.stack.sandbox.events("tgtrack", method="add_event")
        )
        self.tally.quota_429 = sum(
            1 for record in self.stack.sandbox.ledger("tgtrack") if record.code == 429 and not record.fault
        )
        self._read_flags()
        if self.journal is not None:
            self._read_journal(timeout_s)

    def _read_journal(self, timeout_s: float) -> None:
        """Wait until all is moved; compare it with what ended, and with the provider's ledger."""
        client, stream = self.stack.client(), keys.journal("tgtrack")
        until(lambda: client.xlen(stream) == 0, timeout_s, "all records moved", every_s=0.2)
        ends, attempts = Counter[str](), Counter[str]()
        store = Store.reading(self.stack.journal_url)
        with contextlib.closing(store):
            ids = sorted(self.ids.values())
            for first in range(0, len(ids), 500):
                for entry in store.entries(Query(ids=frozenset(ids[first : first + 500]))):
                    ends[entry.id] += bool(entry.end)
                    attempts[entry.id] += bool(entry.outcome)
            gaps = store.gaps(str(client.hget(keys.JOURNAL, "id")), 0)
        ended = {self.ids[user] for user in set(self.tally.delivered) | self.tally.dead}
        of_user = Counter({user: attempts[task_id] for user, task_id in self.ids.items()})
        arrived = Counter(
            str(json.loads(record.body)["user_id"]) for record in self.stack.sandbox.ledger("tgtrack") if record.body
        )
        self.tally.journal = Told(
            untold=ended - {task_id for task_id, count in ends.items() if count},
            ended_twice={task_id for task_id, count in ends.items() if count > 1},
            without_attempt=arrived - of_user,
            gaps=gaps,
        )

    def _read_flags(self) -> None:
        """Events whose delivery was shown as a possible duplicate: the sandbox knows users, the
        logs know ids.
        """
        flagged_ids = {match[1] for match in DELIVERED.finditer(self.stack.logs()) if match[2]}
        self.tally.flagged = {user for user, task_id in self.ids.items() if task_id in flagged_ids}


def run(minutes: float, seed: int) -> Tally:
    """A long run over several accounts."""
    with Stack(appendonly=True, limits={"tgtrack": None}, latency_ms=(0, 60), slow=(0.01, 1500), seed=seed) as stack:
        for queue, limits in ACCOUNTS.items():
            stack.account(
                queue,
                api_key=f"key-{TWINS.get(queue, queue)}",
                limits=limits,
                timeout_s=2,
                lease_s=8,
                backoff_s=0.2,
                max_attempts=50,
                outage_after=5,
            )
            if limits != "100000/second":
                stack.sandbox.set_limits("tgtrack", limits, key=f"key-{queue}")
        chaos = Chaos(stack, seed, journal=True)
        chaos.start()
        end = time.monotonic() + minutes * 60
        actions = (
            [chaos.kill_worker] * 6
            + [chaos.fault, chaos.heal] * 6
            + [chaos.cut_connections, chaos.flush_scripts, chaos.stop_worker, chaos.kill_journal] * 2
            + [chaos.kill_redis, chaos.fill_redis]
        )
        while time.monotonic() < end:
            for account, count in (("main", 60), ("shop", 8), ("twin", 5), ("slow", 3)):
                chaos.send(account, count)
            chaos.random.choice(actions)()
            time.sleep(chaos.random.uniform(0.1, 0.6))
        # The longest pause of an outage, and what has queued behind it.
        chaos.drain(300 + minutes * 60)
        return chaos.tally


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"chaos for {options.minutes:g} minutes, seed {seed}", flush=True)
    tally = run(options.minutes, seed)
    print(tally.table())
    untold = tally.journal is not None and tally.journal.untold
    return 1 if tally.lost or tally.unflagged or tally.quota_429 or untold else 0


if __name__ == "__main__":
    raise SystemExit(main())
