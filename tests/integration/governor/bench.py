"""The governor's scripts on a real server, with a clock that the test turns.

The scripts ask ``redis.call('TIME')`` and nothing else; here that one call is replaced by a read of two keys.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import redis

from postback import keys
from workers import scripts
from postback.operations.quota import padded_ms

CLOCK: Final = "test.clock"
QUEUE: Final = "tgtrack.main"
#: Where the clock begins, in ms of the epoch.
START_MS: Final = 1_700_000_000_000


def _with_test_clock(source: str) -> str:
    assert source.count("redis.call('TIME')") == 1
    return source.replace(
        "redis.call('TIME')", "(function() local us = tonumber(redis.call('GET', 'test.clock')); "
        "return { math.floor(us / 1000000), us % 1000000 } end)()"
    )  # fmt: skip


class ClockedScript(scripts.Script):
    """A script under the test's clock."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        if name != "scan":
            self.source = _with_test_clock(self.source)


@contextmanager
def clocked() -> Iterator[type[ClockedScript]]:
    """The class to build scripts with."""
    yield ClockedScript


@dataclass
class Took:
    """One grant as TAKE returned it."""

    id: str
    raws: list[bytes]
    owners: list[bytes]
    at_us: int
    group: bool
    siblings: list[bytes]


class Bench:
    """One account on a real server."""

    def __init__(self, client: redis.Redis, queue: str = QUEUE, **account: Any) -> None:
        self.client = client
        self.queue = queue
        self.settings: dict[str, Any] = {
            "lease_ms": 30_000, "batch_max": 1, "max_bytes": 10_000, "linger_ms": 1000, "extra": 0, "dedup_ms": 604_800_000,
            "outage_after": 5, "max_crashes": 3, "windows": [], "backoff_ms": 1000, "in_place": 0, "longest_ms": 300_000, "random": 0.5,
            **account,
        }  # fmt: skip
        self.calls = 0
        self.take_script, self.settle_script = ClockedScript("take"), ClockedScript("settle")
        self.set_clock(START_MS)

    def set_clock(self, ms: float) -> None:
        self.now_ms = ms
        self.client.set(CLOCK, int(ms * 1000))

    def advance(self, ms: float) -> None:
        self.set_clock(self.now_ms + ms)

    def push(self, *raws: bytes | str, priority: int = 0) -> None:
        for raw in raws:
            self.client.lpush(keys.priority_list(self.queue, priority), raw)

    def take(self, count: int = 1, *, call: str | None = None, replay: bool = False) -> tuple[int, list[Took]]:
        self.calls += 1
        s = self.settings
        windows: list[int] = []
        for limit, window_s in s["windows"]:
            windows += [limit, padded_ms(window_s)]
        args = [
            call or f"postback:test.{self.calls}", count, int(replay), s["lease_ms"], s["batch_max"], s["max_bytes"], s["linger_ms"], s["extra"],
            s["dedup_ms"], s["outage_after"], '{"reason": "crashed"}', s["max_crashes"], len(s["windows"]), *windows,
        ]  # fmt: skip
        reply = self.take_script(self.client, list(scripts.account_keys(self.queue)), args)
        took = [
            Took(
                reply[at].decode(),
                reply[at + 1],
                reply[at + 2],
                int(reply[at + 3][0]),
                bool(reply[at + 3][1]),
                reply[at + 3][2:],
            )
            for at in range(2, len(reply), 4)
        ]
        return int(reply[0]), took

    def settle(self, grant: Took | str, *, retry_after_ms: int = -1, **spec: Any) -> list[Any]:
        s = self.settings
        grant_id = grant if isinstance(grant, str) else grant.id
        text = json.dumps(spec) if spec else ""
        args = [
            grant_id, text, s["backoff_ms"], s["outage_after"], s["in_place"], s["longest_ms"], s["random"], retry_after_ms,
            *(padded_ms(window_s) for _, window_s in s["windows"]),
        ]  # fmt: skip
        reply: list[Any] = self.settle_script(self.client, list(scripts.account_keys(self.queue)), args)
        return reply

    def healthy(self) -> None:
        """As after a healthy answer: more than one request at a time."""
        self.client.hset(keys.meta(self.queue), "healthy", 1)

    def meta(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.client.hgetall(keys.meta(self.queue)).items()}

    def queued(self, priority: int = 0) -> list[bytes]:
        """The list's messages, the front first."""
        return list(reversed(self.client.lrange(keys.priority_list(self.queue, priority), 0, -1)))

    def dead(self) -> list[dict[str, Any]]:
        """Dead letters, the oldest first, as parsed messages."""
        return [json.loads(raw) for raw in reversed(self.client.lrange(keys.dead(self.queue.partition(".")[0]), 0, -1))]


def message(
    name: str = "", *, task: str = "tgtrack.add_event", priority: int = 0, body_bytes: int = 0, **headers: Any
) -> bytes:
    """A Celery message as kombu writes it; ``name`` becomes its id."""
    event = {"user_id": name, "pad": "x" * body_bytes}
    return json.dumps(
        {
            "body": json.dumps(
                [
                    [],
                    {"account": "main", "event": event},
                    {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
                ]
            ),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": task,
                "id": name or str(uuid.uuid4()),
                "eta": None,
                "stamps": {},
                "list": [],
                **headers,
            },
            "properties": {"priority": priority, "delivery_tag": str(uuid.uuid4()), "delivery_info": {}},
        }
    ).encode()


def id_of(raw: bytes) -> str:
    """A message's id."""
    found: str = json.loads(raw)["headers"]["id"]
    return found


def state_of(raw: bytes) -> dict[str, int]:
    """A message's delivery state."""
    words = json.loads(raw)["headers"].get("postback", "").split()
    return {name: int(value) for name, value in (word.split("=") for word in words)}
