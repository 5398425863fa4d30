from __future__ import annotations

from pathlib import Path

import pytest
from celery import Celery

from config.celery import celery_config
from config.providers import PROVIDERS
from config.settings import DEFAULTS, Hook, load_settings, masked_url
from postback.errors import ConfigurationError
from postback.wire.broker import DEFAULT_URL, parse_broker

SECRET = "pa55w0rd"


def refusal(**environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"amqp://user:{SECRET}@host/0",
        f"{SECRET}@host:6379",
        f"redis:/{SECRET}@host",
        f"redis://:{SECRET}@:6379/0",
        f"redis://:{SECRET}@host:0/0",
        f"redis://:{SECRET}@host:99999/0",
        f"redis://:{SECRET}@host:port/0",
        f"redis://user:a/b{SECRET}@host:6379/0",
        f"redis://:{SECRET}@host/events",
        f"redis://:{SECRET}#1@host:6379/0",
        f"redis://:{SECRET}@one/0;redis://:{SECRET}@two/0",
        f"redis+sentinel://:{SECRET}@a:1/events?master_name=m",
        f"http://:{SECRET}@host",
    ],
)
@pytest.mark.parametrize("name", ["POSTBACK_BROKER_URL", "POSTBACK_TONAI_BROKER_URL"])
def test_bad_broker_url(name: str, url: str) -> None:
    """A broker URL that cannot work is refused by the variable's name, without any of its text."""
    told = refusal(**{name: url})
    assert told.startswith(name)
    assert SECRET not in told


@pytest.mark.parametrize("value", ["0", "10001", "-1", "8.0", "eight", "1e2", "٨", "99999999999999"])
def test_bad_concurrency(value: str) -> None:
    """Concurrency is a whole number from 1 to 10000."""
    assert refusal(POSTBACK_CONCURRENCY=value) == "POSTBACK_CONCURRENCY must be a whole number from 1 to 10000"


@pytest.mark.parametrize("value", ["-1", "10000001", "many", "1e5"])
def test_bad_journal_backlog(value: str) -> None:
    """The journal's bound is a whole number; 0 turns it off."""
    sentence = "POSTBACK_JOURNAL_BACKLOG must be a whole number from 0 to 10000000"
    assert refusal(POSTBACK_JOURNAL_BACKLOG=value) == sentence
    assert load_settings({"POSTBACK_JOURNAL_BACKLOG": "0"}).journal_backlog == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTBACK_PROVIDER", "tgtrak"),
        ("POSTBACK_LOG_LEVEL", "LOUD"),
        ("POSTBACK_LOG_FORMAT", "xml"),
        ("POSTBACK_REMOTE_CONTROL", "no"),
    ],
)
def test_bad_choice(name: str, value: str) -> None:
    """A word out of the list is refused with the list."""
    assert refusal(**{name: value}).startswith(f"{name} must be one of ")


@pytest.mark.parametrize(
    "value",
    [
        "shop", "shop.events", "shop.events.on_dead", "shop.events:", ":on_dead", "shop/events.py:on_dead", "shop.events:on_dead()",
        "shop events:on_dead", "shop..events:on_dead", "1shop:on_dead", "celery:on_dead", "celery:on_dead@", "celery:@queue",
        "celery:on dead@queue", "celery:a@b@c", "celery:" + "t" * 201 + "@queue",
    ],
)  # fmt: skip
def test_bad_hook(value: str) -> None:
    """A hook is a function of a module or a task with its queue; anything else is refused in one
    sentence.
    """
    assert refusal(POSTBACK_ON_DEAD=value).startswith("POSTBACK_ON_DEAD must be a function such as ")


@pytest.mark.parametrize("queue", ["tgtrack.main", "tgtrack.dead", "tonai"])
def test_hook_into_a_provider_s_queue(queue: str) -> None:
    """A task must not go where events go: it would become a dead letter there, and that one a task
    again.
    """
    assert refusal(POSTBACK_ON_DEAD=f"celery:on_dead@{queue}").startswith(
        "POSTBACK_ON_DEAD names a queue of a provider's"
    )


@pytest.mark.parametrize(
    ("value", "hook"),
    [
        ("shop.events:on_dead", Hook("on_dead", module="shop.events")),
        ("shop:tasks.on_dead.delay", Hook("tasks.on_dead.delay", module="shop")),
        ("celery:shop.tasks.on_dead@shop-queue", Hook("shop.tasks.on_dead", queue="shop-queue")),
        ("celery:on_dead@celery", Hook("on_dead", queue="celery")),
        ("", None),
    ],
)
def test_hook(value: str, hook: Hook | None) -> None:
    """Both ways to write it; nothing is imported here, since Flower and the commands read the same
    settings.
    """
    assert load_settings({"POSTBACK_ON_DEAD": value}).on_dead == hook


@pytest.mark.parametrize(("value", "listens"), [("", True), ("1", True), ("0", False)])
def test_remote_control(value: str, listens: bool) -> None:
    """Workers listen to remote control unless it is turned off."""
    settings = load_settings({"POSTBACK_REMOTE_CONTROL": value})
    assert settings.remote_control is listens
    assert celery_config(settings)["worker_enable_remote_control"] is listens


@pytest.mark.parametrize("name", ["POSTBACK_BROKER_URL", "POSTBACK_TGTRACK_BROKER_URL"])
def test_sentinel_without_master(name: str) -> None:
    """A Sentinel broker without the primary's name is refused at start: Celery would find out at
    the first command.
    """
    assert refusal(**{name: "sentinel://host:26379/0"}).startswith(f"{name} names sentinels but not the master")


@pytest.mark.parametrize("environ", [{}, dict.fromkeys(DEFAULTS, ""), dict.fromkeys(DEFAULTS, " ")])
def test_defaults(environ: dict[str, str]) -> None:
    """Nothing has to be set, and what is set to nothing counts as not set."""
    settings = load_settings(environ)
    assert settings.broker_url == "redis://127.0.0.1:6379/0"
    assert settings.accounts_path == Path("config/accounts.toml")
    assert (settings.concurrency, settings.log_level, settings.log_format) == (256, "INFO", "text")
    assert settings.brokers == {}


def test_repr() -> None:
    """Settings in a log line or a traceback show no password."""
    environ = {name: f"redis://:{SECRET}@host/0" for name in DEFAULTS if name.endswith("BROKER_URL")}
    assert SECRET not in repr(load_settings(environ))


def test_broker_for_a_provider() -> None:
    """A provider may have a broker of its own; the others share the common one."""
    settings = load_settings({"POSTBACK_BROKER_URL": "redis://a/0", "POSTBACK_TONAPI_BROKER_URL": "redis://b/1"})
    assert settings.broker_url_of("tonapi") == "redis://b/1"
    assert settings.broker_url_of("tgtrack") == settings.broker_url_of(None) == "redis://a/0"
    assert settings.broker_urls_in_use() == {
        "redis://a/0": tuple(provider for provider in PROVIDERS if provider != "tonapi"),
        "redis://b/1": ("tonapi",),
    }


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("rediss://h:6380/0", "rediss://h:6380/0?ssl_cert_reqs=CERT_REQUIRED"),
        ("rediss://h/0?ssl_ca_certs=/ca.pem", "rediss://h/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=CERT_REQUIRED"),
        ("rediss://h/0?ssl_cert_reqs=CERT_NONE", "rediss://h/0?ssl_cert_reqs=CERT_NONE"),
        ("redis+sentinel://a:1/0", "sentinel://a:1/0"),
        ("sentinel://a:1/0;redis+sentinel://b:2/0", "sentinel://a:1/0;sentinel://b:2/0"),
        ("redis+sentinel://:p@a:1,b:2/3?master_name=other", "sentinel://:p@a:1/3;sentinel://b:2/3"),
        ("redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock"),
        (" redis://h ", "redis://h"),
    ],
)
def test_broker_url_as_celery_has_it(given: str, used: str) -> None:
    """TLS verifies the certificate unless told otherwise, and both names of Sentinel work."""
    settings = load_settings({"POSTBACK_BROKER_URL": given, "POSTBACK_SENTINEL_MASTER": "mymaster"})
    assert settings.broker_url == used
    Celery(broker=used, backend=used).connection()


@pytest.mark.parametrize(("query", "master"), [("", "mymaster"), ("?master_name=other", "other")])
def test_sentinel_master(query: str, master: str) -> None:
    """The primary's name comes from the URL, else from the variable."""
    settings = load_settings(
        {"POSTBACK_BROKER_URL": f"sentinel://a:1/0{query}", "POSTBACK_SENTINEL_MASTER": "mymaster"}
    )
    assert settings.broker.options == {"master_name": master}
    assert load_settings({}).broker.options == {}


def test_producers_read_it_the_same_way() -> None:
    """A worker and a producer with the same variable use the same Redis: the default is one and the
    same.
    """
    assert load_settings({}).broker == parse_broker(DEFAULT_URL)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        (f"redis://:{SECRET}@h:1/0", "redis://***@h:1/0"),
        (f"redis://user:{SECRET}@h:1/0", "redis://***@h:1/0"),
        (f"redis://user:{SECRET}/@:;?#@h:1/0", "redis://***@h:1/0"),
        (f"sentinel://:{SECRET}@a:1/0;sentinel://:{SECRET}@b:2/0", "sentinel://***@a:1/0;sentinel://***@b:2/0"),
        (f"redis://h/0?password={SECRET}&db=1", "redis://h/0?password=***&db=1"),
    ],
)
def test_masked_url(url: str, masked: str) -> None:
    """A URL fit for a log has no password, however odd the password is."""
    assert masked_url(url) == masked
