"""Remote control commands, as a worker runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery.worker.control import Panel

from postback.operations import Paused, Resumed
from tests.unit.tasks.fakes import Server, account
from workers import remote_control
from workers.governor import Server as RedisOf
from workers.worker import Worker

AWAY = redis.ConnectionError("Error 111 connecting to redis-Secret")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A worker of one account; the queues that were resumed."""
    queues: list[str] = []
    worker = Worker(RedisOf(redis.Redis), {"tgtrack.main": account()}, Server())
    monkeypatch.setattr(
        remote_control, "pause", lambda client, queue, detail, who: Paused(queue, detail != "again", "operator")
    )
    monkeypatch.setattr(
        remote_control, "resume", lambda client, queue, who: queues.append(queue) or Resumed(queue, True, "outage", 0)
    )
    remote_control.install_control(worker, redis.Redis())
    return queues


def run(name: str, **arguments: Any) -> Any:
    command: Callable[..., Any] = Panel.data[name]
    return command(None, **arguments)


@pytest.mark.parametrize("target", ["tgtrack.main", "tgtrack"])
def test_pause_and_resume(asked: list[str], target: str) -> None:
    """An account, or all of a provider."""
    assert run("pause_account", target=target) == {"ok": "tgtrack.main paused"}
    assert run("pause_account", target=target, detail="again") == {"ok": "tgtrack.main was already paused (operator)"}
    assert asked == []
    assert run("resume_account", target=target) == {"ok": "tgtrack.main resumed (it was paused: outage)"}
    assert asked == ["tgtrack.main"]


@pytest.mark.parametrize("target", ["tgtrack.shop", "tonai", "", "nonsense" * 100])
@pytest.mark.parametrize("name", ["pause_account", "resume_account"])
def test_not_served(asked: list[str], name: str, target: str) -> None:
    """A worker that does not serve the account says so and does nothing: another one does it."""
    reply = run(name, target=target)
    assert reply["error"].endswith(": not served by this worker")
    assert len(reply["error"]) < 150
    assert asked == []


@pytest.mark.parametrize("name", ["pause_account", "resume_account"])
def test_redis_away(asked: list[str], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The operator is told that Redis is away, and no address or password of it."""

    def fail(*_: Any, **__: Any) -> None:
        raise AWAY

    monkeypatch.setattr(remote_control, "pause", fail)
    monkeypatch.setattr(remote_control, "resume", fail)
    assert run(name, target="tgtrack") == {"error": "Redis is away (ConnectionError): ask again"}


def test_accounts(asked: list[str]) -> None:
    """What a worker serves, without credentials."""
    told = run("accounts")
    assert told["tgtrack.main"]["limits"] == "3/second; 500/hour; 5000/day"
    assert "bot-key-1" not in json.dumps(told)


@pytest.mark.parametrize("name", ["pause_account", "resume_account", "accounts"])
def test_help(asked: list[str], name: str) -> None:
    """`celery inspect --list` and `control --list` say what it does."""
    assert Panel.meta[name].help
