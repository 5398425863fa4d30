"""The accounts file is read again; what cannot be done now is done later."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from config.accounts import Account, load_accounts
from config.settings import load_settings
from config.topology import account_queues
from tasks.delivery import Report
from tasks.grants import Grant
from workers import logs, process
from workers.watch import Watch

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


class Client:
    """Redis, as far as the watch writes to it."""

    def __init__(self) -> None:
        self.away = False
        self.withdrawn: list[str] = []
        self.notes: dict[str, bytes] = {}
        self._asked: list[Any] = []

    def hdel(self, key: str, *fields: str) -> None:
        if self.away:
            raise redis.ConnectionError
        self.withdrawn += fields

    def pipeline(self, transaction: bool) -> Any:
        client = self

        class Pipeline:
            def __init__(self) -> None:
                self.asked: list[Any] = []

            def hexists(self, key: str, field: str) -> Pipeline:
                self.asked.append(key in client.notes)
                return self

            def hget(self, key: str, field: str) -> Pipeline:
                self.asked.append(client.notes.get(key))
                return self

            def hdel(self, key: str, field: str) -> Pipeline:
                self.asked.append(client.notes.pop(key, None))
                return self

            def execute(self) -> list[Any]:
                return self.asked

        return Pipeline()


class Governor:
    """Counts heartbeats."""

    def __init__(self) -> None:
        self.announced: list[str] = []

    def announce(self, worker: str, provider: str, accounts_key: str, workers_key: str, metrics: str) -> None:
        self.announced.append(worker)


class Desk:
    """A watch over a file."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        path.write_text(MAIN + SHOP)
        accounts = load_accounts(path, {}, provider="tgtrack")
        self.governor = Governor()
        worker: Any = process.Process(self.governor, accounts)  # type: ignore[arg-type]
        monkeypatch.setattr(process, "_process", worker)
        monkeypatch.setattr(logs, "_secrets", ())
        self.app = Celery(set_as_current=False)
        self.app.conf.task_queues = account_queues(accounts.values())
        self.client: Any = Client()
        self.told: list[tuple[Grant, Report]] = []
        settings = load_settings({"POSTBACK_ACCOUNTS": str(path)})
        self.watch = Watch(settings, {}, "tgtrack", self.client, lambda *told: self.told.append(told), None)
        self.consumer = Consumer(self.app, *accounts)
        self.watch.start(self.consumer)

    def write(self, text: str) -> None:
        """Write the file and let the watch see it settled."""
        self.path.write_text(text)
        self.look(2)

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.watch._look(self.consumer)

    @property
    def accounts(self) -> Mapping[str, Account]:
        return process.current_accounts()

    @property
    def selected(self) -> set[str]:
        """What the next connection would consume."""
        return set(self.app.amqp.queues.consume_from)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Desk:
    caplog.set_level(logging.INFO, "workers.watch")
    return Desk(tmp_path / "accounts.toml", monkeypatch)


def test_unchanged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is as it was is not read."""
    before = desk.accounts
    desk.look(3)
    assert desk.accounts is before
    assert caplog.records == []


def test_half_written(desk: Desk) -> None:
    """A file that changes from look to look is still being written: half of it would drop accounts."""
    for text in ("", MAIN, MAIN + SHOP[:20]):
        desk.path.write_text(text)
        desk.look()
    assert set(desk.accounts) == {"tgtrack.main", "tgtrack.shop"}
    assert desk.client.withdrawn == []


def test_added_and_removed(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Consumed from now on, and by the next connection; the removed one is withdrawn, once."""
    desk.write(MAIN + SHOP.replace("shop", "fair"))
    assert desk.consumer.task_consumer.queues == desk.selected == {"tgtrack.main", "tgtrack.fair"}
    assert caplog.messages == ["the accounts file has changed: added tgtrack.fair; removed tgtrack.shop"]
    assert desk.client.withdrawn == ["tgtrack.shop"]
    desk.watch._beat()
    assert desk.client.withdrawn == ["tgtrack.shop"]


def test_back_again(desk: Desk) -> None:
    """An account that was removed can come back."""
    desk.write(MAIN)
    desk.write(MAIN + SHOP)
    assert desk.consumer.task_consumer.queues == desk.selected == {"tgtrack.main", "tgtrack.shop"}


def test_changed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """New settings are there for the next TAKE, which is asked at once; both keys are masked from now on."""
    asked: list[str] = []
    monkeypatch.setattr(process, "ask", asked.append)
    desk.write(MAIN.replace("key-main", "key-other") + SHOP)
    assert desk.accounts["tgtrack.main"].credentials["api_key"].reveal() == "key-other"
    assert asked == ["tgtrack.main"]
    logs.learn(desk.accounts)
    assert logs.scrub("key-other") == "***"


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
    desk.client.away = True
    desk.write(MAIN)
    desk.client.away = False
    desk.watch._beat()
    assert desk.client.withdrawn == ["tgtrack.shop"]


def test_buried(desk: Desk) -> None:
    """A note of TAKE's is told of once: the event's id, its task, and the reason first."""
    desk.client.notes["tgtrack.shop.meta"] = b"event-1 tgtrack.add_event\n \n"
    desk.watch._beat()
    desk.watch._beat()
    assert [(grant.queue, grant.envelopes[0].id, grant.envelopes[0].task) for grant, _ in desk.told] == [
        ("tgtrack.shop", "event-1", "tgtrack.add_event"),
        ("tgtrack.shop", "", ""),
    ]
    assert desk.told[0][1].fates[0].text.startswith("crashed")
