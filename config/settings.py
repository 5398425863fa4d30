"""Settings from the environment, read here and nowhere else.

They are checked at start. What is wrong becomes one sentence that names the variable.

``.env.example`` has every variable with its default and meaning. A test keeps the two in step.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from config.providers import PROVIDERS
from postback.errors import ConfigurationError
from postback.journal.location import DEFAULT_URL as DEFAULT_JOURNAL_URL
from postback.journal.location import journal_url
from postback.wire.broker import DEFAULT_URL, Broker, broker_of, own_variable

__all__ = ["DEFAULTS", "Settings", "load_settings", "masked_url"]

#: Variable -> its default, as it would be written. ``.env.example`` says what "" means.
DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "POSTBACK_BROKER_URL": DEFAULT_URL,
        **{own_variable(provider): "" for provider in PROVIDERS},
        "POSTBACK_SENTINEL_MASTER": "",
        "POSTBACK_ACCOUNTS": "config/accounts.toml",
        "POSTBACK_PROVIDER": "",
        "POSTBACK_CONCURRENCY": "256",
        "POSTBACK_HTTP": "",
        "POSTBACK_LINK_QUEUES": "",
        "POSTBACK_LOG_LEVEL": "INFO",
        "POSTBACK_LOG_FORMAT": "text",
        "POSTBACK_METRICS_PORT": "",
        "POSTBACK_METRICS_ADDRESS": "127.0.0.1",
        "POSTBACK_EXPORTER_PORT": "9180",
        "POSTBACK_METRICS_ACCOUNTS": "200",
        "POSTBACK_ON_DEAD": "",
        "POSTBACK_REMOTE_CONTROL": "1",
        "POSTBACK_JOURNAL_BACKLOG": "100000",
        "POSTBACK_JOURNAL_URL": "",
        "POSTBACK_JOURNAL_DAYS": "30",
    }
)

#: Most requests at once in one worker process.
MAX_CONCURRENCY: Final = 10_000

_NAME: Final = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
#: ``POSTBACK_ON_DEAD`` names a function of a module, or a Celery task and its queue.
_FUNCTION: Final = re.compile(rf"(?P<module>{_NAME}):(?P<name>{_NAME})")
_TASK: Final = re.compile(r"celery:(?P<name>[^\s@]{1,200})@(?P<queue>[^\s@]{1,200})")

_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
_FORMATS: Final = ("text", "json")


@dataclass(frozen=True)
class Hook:
    """What is called with each dead letter: a function of a module, or a Celery task of a queue.

    Attributes:
        name: The function in its module, or the task's full name.
        module: Empty for a task.
        queue: Empty for a function.
    """

    name: str
    module: str = ""
    queue: str = ""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a process needs to know before it reads the accounts file."""

    #: The common Redis. Its URL is not in ``repr``.
    broker: Broker
    #: Provider -> its own Redis, only for those that have one.
    brokers: Mapping[str, Broker] = field(default_factory=dict)
    #: Relative to the working directory.
    accounts_path: Path = Path(DEFAULTS["POSTBACK_ACCOUNTS"])
    #: Whose events ``celery -A workers.app`` serves; None for all. ``python -m workers PROVIDER``
    #: does not use it.
    provider: str | None = None
    #: Requests at once in one worker process, 1..10,000.
    concurrency: int = 256
    #: The engine that sends, ``curl`` or ``requests``; None for curl where it is installed.
    http: str | None = None
    #: Queues that a link may lead to, beside those of accounts and Celery's own.
    link_queues: tuple[str, ...] = ()
    log_level: str = "INFO"
    #: ``text`` for people, ``json`` for a log store: one object a line.
    log_format: str = "text"
    #: Port of a worker process's own metrics. If it is taken, one of the next is used. 0: any free
    #: one; None: no metrics.
    metrics_port: int | None = None
    #: Address of all metrics. They have no password and hold no secret.
    metrics_address: str = "127.0.0.1"
    #: Port of ``python -m workers.metrics``.
    exporter_port: int = 9180
    #: Most accounts with metrics of their own in a process. The others are in the totals only.
    metrics_accounts: int = 200
    #: What is called with each dead letter; None for nothing.
    on_dead: Hook | None = None
    #: Whether workers listen to Celery's remote control.
    remote_control: bool = True
    #: Most records for the journal that wait in Redis, for each provider; 0: none are written.
    journal_backlog: int = 100_000
    #: The journal's database, as SQLAlchemy takes it. It may hold a password.
    journal_url: str = field(default=DEFAULT_JOURNAL_URL, repr=False)
    #: For how many days records are kept in it.
    journal_days: int = 30

    @property
    def broker_url(self) -> str:
        """URL of the common Redis for Celery. It may hold a password; see :func:`masked_url`."""
        return self.broker.url

    def broker_of(self, provider: str | None) -> Broker:
        """The broker that carries a provider's events; the common one for None."""
        return self.brokers.get(provider or "", self.broker)

    def broker_url_of(self, provider: str | None) -> str:
        """Its URL, which may hold a password."""
        return self.broker_of(provider).url

    def broker_urls_in_use(self) -> dict[str, tuple[str, ...]]:
        """Broker URL -> providers whose events it carries."""
        brokers: dict[str, tuple[str, ...]] = {}
        for provider in PROVIDERS:
            url = self.broker_url_of(provider)
            brokers[url] = (*brokers.get(url, ()), provider)
        return brokers


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read and check all settings.

    A variable that is set but empty counts as not set: Compose sets them so.

    Args:
        environ: The variables.

    Raises:
        ConfigurationError: A variable has an impossible value. The sentence names it and shows no
            secret.
    """

    def text(name: str) -> str:
        return environ.get(name, "").strip() or DEFAULTS[name]

    brokers = {provider: broker_of(provider, environ) for provider in PROVIDERS if text(own_variable(provider))}
    return Settings(
        broker=broker_of(None, environ),
        brokers=MappingProxyType(brokers),
        accounts_path=Path(text("POSTBACK_ACCOUNTS")),
        provider=_choice("POSTBACK_PROVIDER", text("POSTBACK_PROVIDER"), ("", *PROVIDERS)) or None,
        concurrency=_whole("POSTBACK_CONCURRENCY", text("POSTBACK_CONCURRENCY"), 1, MAX_CONCURRENCY),
        http=_choice("POSTBACK_HTTP", text("POSTBACK_HTTP").lower(), ("", "curl", "requests")) or None,
        link_queues=_names("POSTBACK_LINK_QUEUES", text("POSTBACK_LINK_QUEUES")),
        log_level=_choice("POSTBACK_LOG_LEVEL", text("POSTBACK_LOG_LEVEL").upper(), _LEVELS),
        log_format=_choice("POSTBACK_LOG_FORMAT", text("POSTBACK_LOG_FORMAT").lower(), _FORMATS),
        metrics_port=_whole("POSTBACK_METRICS_PORT", text("POSTBACK_METRICS_PORT"), 0, 65535)
        if text("POSTBACK_METRICS_PORT")
        else None,
        metrics_address=_address("POSTBACK_METRICS_ADDRESS", text("POSTBACK_METRICS_ADDRESS")),
        exporter_port=_whole("POSTBACK_EXPORTER_PORT", text("POSTBACK_EXPORTER_PORT"), 0, 65535),
        metrics_accounts=_whole("POSTBACK_METRICS_ACCOUNTS", text("POSTBACK_METRICS_ACCOUNTS"), 0, 100_000),
        on_dead=_hook("POSTBACK_ON_DEAD", text("POSTBACK_ON_DEAD")),
        remote_control=_choice("POSTBACK_REMOTE_CONTROL", text("POSTBACK_REMOTE_CONTROL"), ("0", "1")) == "1",
        journal_backlog=_whole("POSTBACK_JOURNAL_BACKLOG", text("POSTBACK_JOURNAL_BACKLOG"), 0, 10_000_000),
        journal_url=journal_url(environ),
        journal_days=_whole("POSTBACK_JOURNAL_DAYS", text("POSTBACK_JOURNAL_DAYS"), 1, 3650),
    )


def masked_url(url: str) -> str:
    """The URL, or several of Sentinels separated by ``;``, with ``***`` in place of passwords."""
    parts = re.split(r";(?=[a-z+]+://)", url)
    masked = [re.sub(r"://(?:[^:@/]*)(?::.*)?@", "://***@", part, flags=re.DOTALL) for part in parts]
    return re.sub(r"(password=)[^&;]*", r"\1***", ";".join(masked))


def _whole(name: str, value: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
        raise ConfigurationError(f"{name} must be a whole number from {low} to {high}")
    return int(value)


def _names(variable: str, value: str) -> tuple[str, ...]:
    names = tuple(filter(None, (name.strip() for name in value.split(","))))
    if not all(re.fullmatch(r"[\w.:-]{1,255}", name) for name in names):
        raise ConfigurationError(f"{variable} must be names of queues, separated by commas")
    return names


def _hook(name: str, value: str) -> Hook | None:
    if not value:
        return None
    match = _TASK.fullmatch(value) if value.startswith("celery:") else _FUNCTION.fullmatch(value)
    if match is None:
        raise ConfigurationError(
            f"{name} must be a function such as shop.events:on_dead, or a Celery task and its queue such as "
            "celery:shop.tasks.on_dead@shop-queue"
        )
    hook = Hook(**match.groupdict())
    if hook.queue.partition(".")[0] in PROVIDERS:
        raise ConfigurationError(
            f"{name} names a queue of a provider's events; the task needs a queue of your own workers"
        )
    return hook


def _address(name: str, value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ConfigurationError(
            f"{name} must be an IP address of this machine, such as 127.0.0.1 or 0.0.0.0"
        ) from None


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigurationError(f"{name} must be one of {', '.join(filter(None, allowed))}")
    return value
