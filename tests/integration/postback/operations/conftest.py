"""A Redis with accounts, events and dead letters in it, made without a worker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

import postback
from config.accounts import build_account
from postback import Event, tgtrack
from postback.cli import main
from postback.wire import keys
from postback.wire.time import iso
from tests.integration.workers.governor.crew import own_client
from workers.devkit import RedisServer
from workers.governor import Governor, Server
from workers.writes import Client

ACCOUNTS = {
    "tgtrack": ["main", "shop"],
    "mytracker": ["game"],
    "tganalytics": ["docs"],
    "tonai": ["main"],
    "tonapi": ["main"],
}
TGTRACK = [[3, 1.0, "3/second"], [500, 3600.0, "500/hour"], [5000, 86400.0, "5000/day"]]


class Desk:
    """What the tests put into Redis and look at."""

    def __init__(self, client: redis.Redis, url: str) -> None:
        self.client = client
        self.url = url
        self.now_ms = int(time.time() * 1000)

    def announce(
        self, queue: str, windows: Any = TGTRACK, *, age_s: float = 0, batch_max: int = 1, max_queued: int = 0
    ) -> None:
        told = {
            "at": self.now_ms - age_s * 1000,
            "windows": windows,
            "batch_max": batch_max,
            "lease_s": 30,
            "max_queued": max_queued,
        }
        self.client.hset(keys.ACCOUNTS, queue, json.dumps(told))

    def raw(self, event: Event, **options: Any) -> bytes:
        """The message that an event becomes, in no queue."""
        event.apply_async(**options)
        queue = keys.queue(event.provider, event.account or ACCOUNTS[event.provider][0])
        for name in keys.priority_lists(queue):
            raw: Any = self.client.lpop(name)
            if raw:
                return bytes(raw)
        raise AssertionError("nothing was sent")

    def bury(self, raw: bytes, reason: str = "rejected", *, age_s: float = 60, state: str = "", **told: Any) -> str:
        """Make a message a dead letter, as SETTLE does; returns its id."""
        document = json.loads(raw)
        letter = {
            "reason": reason, "status": 400, "detail": "Bad Request", "attempts": 1, "enqueued_at": None,
            "failed_at": iso(self.now_ms - age_s * 1000), "possible_duplicate": False, **told,
        }  # fmt: skip
        document["headers"] = {"postback_dead": letter, "postback": state, **document["headers"]}
        self.client.lpush(keys.dead(document["headers"]["task"].partition(".")[0]), json.dumps(document))
        return str(document["headers"]["id"])

    def sales(self, count: int, reason: str = "rejected", *, account: str = "main", age_s: float = 60) -> list[str]:
        """So many dead letters; their ids, the oldest first."""
        template = json.loads(self.raw(tgtrack.AddEvent(user_id="987654321", event_type="sale", account=account)))
        ids = []
        for number in range(count):
            template["headers"]["id"] = f"{reason}-{account}-{number:06}"
            ids.append(self.bury(json.dumps(template).encode(), reason, age_s=age_s))
        return ids

    def dead_ids(self, provider: str = "tgtrack") -> list[str]:
        return self.ids(keys.dead(provider))

    def queued_ids(self, queue: str = "tgtrack.main") -> list[str]:
        """Ids in all lists of a queue, the next first."""
        return [one for name in keys.priority_lists(queue) for one in self.ids(name)]

    def ids(self, name: str) -> list[str]:
        entries: Any = self.client.lrange(name, 0, -1)
        return [json.loads(raw)["headers"]["id"] for raw in reversed(entries)]


@pytest.fixture
def desk(redis_server: RedisServer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name in ("NO_COLOR", "FORCE_COLOR", "POSTBACK_ACCOUNTS", "POSTBACK_SENTINEL_MASTER"):
        monkeypatch.delenv(name, raising=False)
    for provider in ACCOUNTS:
        monkeypatch.delenv(f"POSTBACK_{provider.upper()}_BROKER_URL", raising=False)
    monkeypatch.setenv("POSTBACK_BROKER_URL", redis_server.url)
    postback.configure(accounts=ACCOUNTS)
    yield Desk(redis_client, redis_server.url)
    monkeypatch.undo()
    postback.configure()


@pytest.fixture
def govern(redis_server: RedisServer, desk: Desk) -> Iterator[Callable[..., Governor]]:
    """Makes a worker's governor of one account: ``govern("tgtrack.main", limits="3/second")``."""
    credentials = {"tgtrack": {"api_key": "k"}, "mytracker": {"id_app": 1, "token": "t"}}
    clients = []

    def connect() -> Client:
        clients.append(own_client(redis_server))
        return clients[-1]

    def made(queue: str, **table: Any) -> Governor:
        provider, _, name = queue.partition(".")
        account = build_account(provider, name, {**credentials[provider], **table})
        return Governor(Server(connect), lambda: {queue: account})

    yield made
    for client in clients:
        client.close()


class Command:
    """The command line, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = ""
        self.err = ""

    def __call__(self, *arguments: str) -> int:
        code = main(arguments)
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *arguments: str) -> Any:
        assert self(*arguments) == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)
