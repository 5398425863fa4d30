from __future__ import annotations

import pytest
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten
from kombu.transport.redis import Channel, SentinelChannel

from config.celery import RESULT_EXPIRES_S, celery_config
from config.settings import load_settings
from postback._send import celery_app
from postback.wire import keys

SENTINEL = {"POSTBACK_BROKER_URL": "sentinel://a:1/0;sentinel://b:2/0", "POSTBACK_SENTINEL_MASTER": "mymaster"}


def test_every_name_is_celerys() -> None:
    """Celery ignores a misspelled setting without a word, so every name must be one that it
    knows.
    """
    known = {name for name, _ in flatten(NAMESPACES)} | {"redis_backend_health_check_interval"}
    assert set(celery_config(load_settings({}))) <= known


@pytest.mark.parametrize(("environ", "channel"), [({}, Channel), (SENTINEL, SentinelChannel)])
def test_every_transport_option_is_kombus(environ: dict[str, str], channel: type[Channel]) -> None:
    """Kombu ignores a misspelled option too."""
    options = celery_config(load_settings(environ))["broker_transport_options"]
    assert set(options) <= set(channel.from_transport_options)


def test_no_retry_on_timeout() -> None:
    """A command whose reply was lost is not repeated by the client: an LPUSH would put the message
    there twice.
    """
    config = celery_config(load_settings({}))
    assert not config["broker_transport_options"].get("retry_on_timeout")
    assert not config["redis_retry_on_timeout"]


def test_priorities_are_the_producers() -> None:
    """Workers read the lists that producers write."""
    options = celery_config(load_settings({}))["broker_transport_options"]
    assert (tuple(options["priority_steps"]), options["sep"]) == (keys.PRIORITY_STEPS, keys.PRIORITY_SEPARATOR)


@pytest.mark.parametrize("kind", ["pickle", "yaml"])
def test_json_only(kind: str) -> None:
    """Nobody who can write to Redis can make a worker unpickle."""
    config = celery_config(load_settings({}))
    assert kind not in config["accept_content"] + config["result_accept_content"]


def test_sentinel() -> None:
    """Both the broker and the results ask the Sentinels for the same primary."""
    config = celery_config(load_settings(SENTINEL))
    assert config["broker_transport_options"]["master_name"] == "mymaster"
    assert config["result_backend_transport_options"] == {"master_name": "mymaster"}
    assert "master_name" not in celery_config(load_settings({}))["broker_transport_options"]


def test_provider_with_a_broker_of_its_own() -> None:
    """Its worker consumes from there and puts results there."""
    settings = load_settings({"POSTBACK_TONAPI_BROKER_URL": "redis://b/1"})
    assert (
        celery_config(settings, "tonapi")["broker_url"]
        == celery_config(settings, "tonapi")["result_backend"]
        == "redis://b/1"
    )
    assert celery_config(settings, "tgtrack")["broker_url"] == "redis://127.0.0.1:6379/0"


def test_results_live_as_long_as_producers_think() -> None:
    """A producer's own idea of how long a result is kept is the worker's."""
    assert RESULT_EXPIRES_S == celery_app.RESULT_EXPIRES_S


def test_an_app_takes_it() -> None:
    """Celery accepts the whole configuration and reads the settings that matter most from it."""
    app = Celery()
    app.conf.update(celery_config(load_settings({"POSTBACK_CONCURRENCY": "3"})))
    assert (app.conf.worker_concurrency, app.conf.worker_pool) == (1, "threads")
    assert app.backend.expires == 600
    assert app.backend.connparams["socket_timeout"] == 15.0
