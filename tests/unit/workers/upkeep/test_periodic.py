"""The accounts file is read again; what cannot be done now is done later."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import fakeredis
import pytest
from celery import Celery

from config.accounts import Account, load_accounts
from config.settings import load_settings
from config.topology import account_queues
from postback.wire import keys
from tasks.delivery import Report
from tests.unit.tasks.fakes import Server
from workers.governor import Server as RedisOf
from workers.observe.masking import Masker
from workers.observe.rows import Rows
from workers.upkeep.accounts_file import AccountsFile
from workers.upkeep.heartbeat import Heartbeat
from workers.upkeep.periodic import PeriodicWork
from workers.worker import Worker

MAIN = '[tgtrack.main]\napi_key = "key-main"\n'
SHOP = '[tgtrack.shop]\napi_key = "key-shop"\n'


class Tasks:
    """kombu's consumer of the account queues."""

    def __init__(self, *queues: str) -> None:
        self.queues = set(queues)

    def consuming_from(self, queue: str) -> bool:
        return queue in self.queues


class Consumer:
    """Celery's consumer."""

    hub = None
    event_dispatcher = None
    hostname = "tgtrack-1@host"

    def __init__(self, app: Celery, *queues: str) -> None:
        self.app = app
        self.task_consumer = Tasks(*queues)
        self.broken = False

    def add_task_queue(self, queue: str) -> None:
        assert queue in self.app.amqp.queues
        if self.broken:
            raise OSError("the connection is lost")
        self.task_consumer.queues.add(queue)

    def cancel_task_queue(self, queue: str) -> None:
        self.app.amqp.queues.deselect(queue)
        self.task_consumer.queues.discard(queue)


class Desk:
    """A watch over a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text(MAIN + SHOP)
        accounts = load_accounts(path, {}, provider="tgtrack")
        self.server = fakeredis.FakeServer()
        self.client = fakeredis.FakeRedis(server=self.server)
        self.worker = Worker(RedisOf(lambda: self.client), accounts, Server())
        self.told: list[Report] = []
        self.worker.observers.append(self.told.append)
        self.app = Celery(set_as_current=False)
        self.app.conf.task_queues = account_queues(accounts.values())
        settings = load_settings({"POSTBACK_ACCOUNTS": str(path)})
        self.masker = Masker()
        self.heartbeat = Heartbeat(self.worker, self.client, "tgtrack")
        self.file = AccountsFile(self.worker, settings, {}, "tgtrack", self.masker, self.heartbeat)
        self.watch = PeriodicWork(self.heartbeat, self.file, Rows(self.worker.account), self.client)
        self.consumer = Consumer(self.app, *accounts)
        self.watch.start(self.consumer)

    def write(self, text: str) -> None:
        """Write the file and let the watch see it settled."""
        self.path.write_text(text)
        self.look(2)

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.file.look(self.consumer)

    @property
    def accounts(self) -> Mapping[str, Account]:
        return self.worker.accounts

    @property
    def announced(self) -> set[str]:
        """Accounts that producers know of."""
        return {queue.decode() for queue in self.client.hkeys(keys.ACCOUNTS)}

    @property
    def selected(self) -> set[str]:
        """What the next connection would consume."""
        return set(self.app.amqp.queues.consume_from)


@pytest.fixture
def desk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Desk:
    caplog.set_level(logging.INFO, "workers.upkeep")
    return Desk(tmp_path / "accounts.toml")


def test_unchanged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is as it was is not read."""
    before = desk.accounts
    desk.look(3)
    assert desk.accounts is before
    assert caplog.records == []


def test_half_written(desk: Desk) -> None:
    """A file that changes from look to look is still being written: half of it would drop
    accounts.
    """
    for text in ("", MAIN, MAIN + SHOP[:20]):
        desk.path.write_text(text)
        desk.look()
    assert set(desk.accounts) == desk.announced == {"tgtrack.main", "tgtrack.shop"}


def test_added_and_removed(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Consumed from now on, and by the next connection; the removed one is withdrawn, once."""
    desk.write(MAIN + SHOP.replace("shop", "fair"))
    assert desk.consumer.task_consumer.queues == desk.selected == {"tgtrack.main", "tgtrack.fair"}
    assert caplog.messages == ["the accounts file has changed: added tgtrack.fair; removed tgtrack.shop"]
    assert desk.announced == {"tgtrack.main", "tgtrack.fair"}
    desk.client.hset(keys.ACCOUNTS, "tgtrack.shop", "another worker's")
    desk.heartbeat.beat()
    assert desk.announced == {"tgtrack.main", "tgtrack.fair", "tgtrack.shop"}


def test_back_again(desk: Desk) -> None:
    """An account that was removed can come back."""
    desk.write(MAIN)
    desk.write(MAIN + SHOP)
    assert desk.consumer.task_consumer.queues == desk.selected == {"tgtrack.main", "tgtrack.shop"}


def test_changed(desk: Desk) -> None:
    """New settings are there for the next TAKE, which is asked at once; both keys are masked from
    now on.
    """
    desk.client.zadd(keys.schedule("tgtrack"), dict.fromkeys(desk.accounts, 4e12))
    desk.write(MAIN.replace("key-main", "key-other") + SHOP)
    assert desk.accounts["tgtrack.main"].credentials["api_key"].reveal() == "key-other"
    assert desk.client.zrangebyscore(keys.schedule("tgtrack"), 0, 3e12) == [b"tgtrack.main"]
    assert desk.masker.scrub("key-other") == "***"


def test_last_account_removed(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Without any account the worker stays, serves none, and says so."""
    desk.write("")
    assert desk.selected == desk.consumer.task_consumer.queues == set()
    assert "it serves none" in caplog.messages[-1]


@pytest.mark.parametrize("text", ["[tgtrack.main]\napi_key = 5", "[", '[tgtrack.main]\napi_key = "env:NOT_SET"'])
def test_wrong(desk: Desk, caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Refused in one sentence, once per change; the accounts stay."""
    before = desk.accounts
    desk.write(text)
    desk.look(5)
    assert desk.accounts is before
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert str(desk.path) in caplog.text
    desk.write(text + " ")
    assert len(caplog.records) == 2


def test_deleted(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """No file is a wrong file."""
    desk.path.unlink()
    desk.look(5)
    assert set(desk.accounts) == {"tgtrack.main", "tgtrack.shop"}
    assert len(caplog.records) == 1


def test_connection_lost(desk: Desk) -> None:
    """A new account that could not be consumed over this connection is consumed over the next."""
    desk.consumer.broken = True
    with pytest.raises(OSError, match="lost"):
        desk.write(MAIN + SHOP + SHOP.replace("shop", "fair") + SHOP.replace("shop", "zoo"))
    second = Consumer(desk.app, *desk.selected)
    desk.watch.start(second)
    assert second.task_consumer.queues == {"tgtrack.main", "tgtrack.shop", "tgtrack.fair", "tgtrack.zoo"}


def test_redis_away(desk: Desk) -> None:
    """The announcement of a removed account is withdrawn when Redis is back."""
    desk.server.connected = False
    desk.write(MAIN)
    desk.server.connected = True
    assert desk.announced == {"tgtrack.main", "tgtrack.shop"}
    desk.heartbeat.beat()
    assert desk.announced == {"tgtrack.main"}


def test_buried(desk: Desk) -> None:
    """A note of TAKE's is told of once: the event's id, its task, and the reason first."""
    desk.client.rpush(keys.buried("tgtrack"), b"tgtrack.shop event-1 tgtrack.add_event", b"tgtrack.shop  ")
    desk.heartbeat.beat()
    desk.heartbeat.beat()
    grants = [report.grant for report in desk.told]
    assert [(grant.queue, grant.envelopes[0].id, grant.envelopes[0].task) for grant in grants] == [
        ("tgtrack.shop", "event-1", "tgtrack.add_event"),
        ("tgtrack.shop", "", ""),
    ]
    assert desk.told[0].rulings[0].text.startswith("crashed ")


def test_a_killed_worker_is_forgotten(desk: Desk) -> None:
    """After ten minutes of silence, with its mailbox; one that was silent for less, and a
    stranger's mailbox, stay.
    """
    now_ms = time.time() * 1000
    for name, silent_s in (("tgtrack-1@a", 700), ("tgtrack-2@a", 500)):
        desk.client.hset(keys.WORKERS, name, json.dumps({"at": now_ms - silent_s * 1000}))
        desk.client.sadd(keys.MAILBOXES, keys.mailbox(name))
    desk.client.hset(keys.WORKERS, "nonsense", "[]")
    desk.client.sadd(keys.MAILBOXES, keys.mailbox("shop@a"))
    desk.heartbeat._forget_at_ms = 0
    desk.heartbeat.beat()
    assert desk.client.hkeys(keys.WORKERS) == [desk.heartbeat.hostname.encode(), b"tgtrack-2@a"]
    assert desk.client.smembers(keys.MAILBOXES) == {keys.mailbox(name).encode() for name in ("tgtrack-2@a", "shop@a")}


@pytest.mark.parametrize(("ahead_s", "said"), [(3600.0, "3600 s ahead of"), (-3.0, "3 s behind"), (1.5, "")])
def test_another_clock(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ahead_s: float, said: str
) -> None:
    """Redis' clock decides; a machine that differs from it by more than two seconds is told of,
    once.
    """
    monkeypatch.setattr("workers.upkeep.heartbeat.time", SimpleNamespace(time=lambda: time.time() + ahead_s))
    caplog.set_level(logging.WARNING, "workers.upkeep.heartbeat")
    for _ in range(3):
        desk.heartbeat.beat()
    assert [said in message for message in caplog.messages] == [True] * bool(said)
