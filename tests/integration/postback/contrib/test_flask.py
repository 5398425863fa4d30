"""The Flask extension: configuration and commands."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask

import postback
from postback import ConfigurationError, tgtrack
from postback.contrib.flask import Postback
from postback.testing import collect
from tests.integration.postback.contrib.queues import messages
from workers.devkit import RedisServer

EVENT = tgtrack.AddEvent(user_id="987654321", event_type="sale")


def app_with(**config: Any) -> Flask:
    app = Flask("site")
    app.config.update(config)
    Postback(app)
    return app


@pytest.fixture(autouse=True)
def _restore(broker: redis.Redis) -> Iterator[None]:
    yield
    postback.configure()


def test_events_go_where_the_app_says(broker: redis.Redis, redis_server: RedisServer) -> None:
    """Broker and accounts come from app.config."""
    app_with(POSTBACK_BROKER_URL=redis_server.url, POSTBACK_ACCOUNTS={"tgtrack": ["shop"]})
    EVENT.apply_async(idempotency_key="order-17")
    assert [message.key for message in messages(broker, "tgtrack.shop")] == ["order-17"]


def test_init_app(broker: redis.Redis, redis_server: RedisServer) -> None:
    """A factory initialises later; the extension is found on the app; twice is once."""
    extension = Postback()
    app = Flask("site")
    app.config["POSTBACK_BROKER_URL"] = redis_server.url
    extension.init_app(app)
    extension.init_app(app)
    assert app.extensions["postback"] is extension
    EVENT.delay()
    assert len(messages(broker)) == 1


def test_the_environment_is_the_default(
    broker: redis.Redis, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the app does not set, or sets to None, is read from the environment."""
    monkeypatch.setenv("POSTBACK_BROKER_URL", redis_server.url)
    app_with(POSTBACK_BROKER_URL=None)
    EVENT.delay()
    assert len(messages(broker)) == 1


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"POSTBACK_BROKER": "x"},
            "app.config has an unknown key 'POSTBACK_BROKER': did you mean 'POSTBACK_BROKER_URL'",
        ),
        ({"POSTBACK_X": 1}, "app.config has an unknown key 'POSTBACK_X'"),
        ({"POSTBACK_BROKER_URL": 6379}, "POSTBACK_BROKER_URL must be a URL, not int"),
        ({"POSTBACK_BROKER_URL": "amqp://u:s3cret@h"}, "POSTBACK_BROKER_URL must be a URL that begins with redis://"),
        ({"POSTBACK_ACCOUNTS": 5}, "POSTBACK_ACCOUNTS must be a path or a dict"),
        ({"POSTBACK_ACCOUNTS": {"tgtrack": "main"}}, "POSTBACK_ACCOUNTS must give a list of names for 'tgtrack'"),
        ({"POSTBACK_ACCOUNTS": {"tonapl": []}}, "did you mean 'tonapi'"),
        ({"POSTBACK_ACCOUNTS": "/nowhere.toml"}, "POSTBACK_ACCOUNTS: cannot read /nowhere.toml"),
        ({"POSTBACK_SEND_TIMEOUT_S": True}, "POSTBACK_SEND_TIMEOUT_S must be a number, not bool"),
        ({"POSTBACK_SEND_TIMEOUT_S": "soon"}, "POSTBACK_SEND_TIMEOUT_S must be a number of seconds"),
        ({"POSTBACK_SEND_TIMEOUT_S": 0}, "POSTBACK_SEND_TIMEOUT_S must be a number of seconds"),
    ],
)
def test_wrong_configuration(config: dict[str, Any], sentence: str) -> None:
    """The app does not start; the sentence names the key and holds no secret."""
    with pytest.raises(ConfigurationError) as caught:
        app_with(**config)
    assert sentence in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_view(redis_server: RedisServer) -> None:
    """postback.testing collects what a view sends, and nothing is sent."""
    app = app_with(POSTBACK_BROKER_URL="redis://127.0.0.1:1/0")

    @app.post("/sale")
    def sale() -> str:
        return str(EVENT.delay().id)

    with collect() as outbox:
        answer = app.test_client().post("/sale")
    assert outbox == [EVENT]
    assert answer.text == outbox.sent[0].id


def test_the_commands_are_listed() -> None:
    """``flask postback`` names the three."""
    answer = app_with().test_cli_runner().invoke(args=["postback"])
    for name in ("send", "status", "dead"):
        assert f"\n  {name} " in answer.output


def test_send_from_the_terminal(broker: redis.Redis, redis_server: RedisServer) -> None:
    """``flask postback send`` uses the app's broker and accounts, not the environment's."""
    app = app_with(POSTBACK_BROKER_URL=redis_server.url, POSTBACK_ACCOUNTS={"tgtrack": ["shop"]})
    event = json.dumps(EVENT.wire())
    answer = app.test_cli_runner().invoke(args=["postback", "send", "tgtrack.add_event", event, "--account", "shop"])
    assert answer.exit_code == 0, answer.output
    assert len(messages(broker, "tgtrack.shop")) == 1


def test_status_from_the_terminal(redis_server: RedisServer) -> None:
    """``flask postback status --json`` answers as ``postback status --json``."""
    app = app_with(POSTBACK_BROKER_URL=redis_server.url)
    EVENT.delay()
    answer = app.test_cli_runner().invoke(args=["postback", "status", "--json"])
    assert answer.exit_code == 0, answer.output
    assert "accounts" in json.loads(answer.output)


def test_the_apps_redis_goes_first(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider's variable does not lead the command to another Redis than the producer; no
    variable is changed.
    """
    monkeypatch.setenv("POSTBACK_TGTRACK_BROKER_URL", "redis://127.0.0.1:1/0")
    before = dict(os.environ)
    app = app_with(POSTBACK_BROKER_URL=redis_server.url)
    EVENT.delay()
    answer = app.test_cli_runner().invoke(args=["postback", "status", "--json"])
    assert answer.exit_code == 0, answer.output
    assert [one["queued"] for one in json.loads(answer.output)["accounts"]] == [1]
    assert dict(os.environ) == before


@pytest.mark.parametrize("words", ["status --jsn", "dead lst", "dead list --reason rejcted", "dead drop", "send"])
def test_wrong_usage_from_the_terminal(words: str, redis_server: RedisServer) -> None:
    """Wrong words are refused as `postback` refuses them: exit status 2."""
    app = app_with(POSTBACK_BROKER_URL=redis_server.url)
    answer = app.test_cli_runner().invoke(args=["postback", *words.split()])
    assert answer.exit_code == 2
    assert "--help`" in answer.output


def test_dead_letters_from_the_terminal(redis_server: RedisServer) -> None:
    """``flask postback dead list`` answers as ``postback dead list``, of one provider or of all."""
    app = app_with(POSTBACK_BROKER_URL=redis_server.url)
    answer = app.test_cli_runner().invoke(args=["postback", "dead", "list", "tgtrack", "--json"])
    assert (answer.exit_code, answer.output) == (0, "")
    answer = app.test_cli_runner().invoke(args=["postback", "dead", "list"])
    assert (answer.exit_code, answer.output) == (0, "0 dead letters\n")


def test_the_exit_status_is_the_commands(redis_server: RedisServer) -> None:
    """A refused event is a failure for the shell too."""
    app = app_with(POSTBACK_BROKER_URL=redis_server.url)
    answer = app.test_cli_runner().invoke(args=["postback", "send", "tgtrack.add_event", "{}"])
    assert answer.exit_code == 1


def test_an_accounts_file(broker: redis.Redis, redis_server: RedisServer, tmp_path: Path) -> None:
    """A path in the configuration is read for its names."""
    (tmp_path / "accounts.toml").write_text("[tgtrack.shop]\napi_key = 'x'\n")
    app_with(POSTBACK_BROKER_URL=redis_server.url, POSTBACK_ACCOUNTS=tmp_path / "accounts.toml")
    EVENT.delay()
    assert len(messages(broker, "tgtrack.shop")) == 1
