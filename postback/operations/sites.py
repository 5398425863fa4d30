"""The Redis servers that the environment names.

One connection for each, and what to say if one cannot be asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import redis

from postback.errors import PostbackError
from postback.operations.queues import check_provider, providers
from postback.wire.broker import Broker, broker_of, connect

#: Seconds to wait for a connection, and for a reply: an operator must not wait for a dead server.
CONNECT_S: Final = 2.0
REPLY_S: Final = 10.0


class RedisAway(PostbackError):
    """Redis cannot be asked; one sentence says where it was looked for and why it failed."""


@dataclass(frozen=True)
class Site:
    """One Redis.

    Attributes:
        providers: Whose events it carries.
    """

    broker: Broker
    client: redis.Redis
    providers: tuple[str, ...]

    @contextmanager
    def asked(self) -> Iterator[redis.Redis]:
        """Its client; an error becomes one sentence.

        Raises:
            RedisAway: It failed.
        """
        try:
            yield self.client
        except (redis.RedisError, OSError) as error:
            raise RedisAway(_sentence(self.broker, error)) from error


def sites(
    environ: Mapping[str, str] = os.environ,
    wanted: Iterable[str] | None = None,
    *,
    where: Callable[[str], Broker] | None = None,
) -> list[Site]:
    """One site for each Redis of the providers (of all by default). Nothing is connected yet.

    Args:
        environ: Where to look for the brokers' URLs.
        wanted: Providers.
        where: A provider's broker, if the environment does not say it.

    Raises:
        ConfigurationError: A variable is wrong; the sentence names it.
    """
    by_url: dict[str, tuple[Broker, list[str]]] = {}
    for provider in providers() if wanted is None else wanted:
        broker = broker_of(provider, environ) if where is None else where(provider)
        by_url.setdefault(broker.url, (broker, []))[1].append(provider)
    return [
        Site(broker, connect(broker, timeout_s=REPLY_S, connect_timeout_s=CONNECT_S), tuple(names))
        for broker, names in by_url.values()
    ]


def site_of(provider: str, environ: Mapping[str, str] = os.environ) -> Site:
    """The site that carries a provider's events.

    Raises:
        UnknownProvider: There is no such provider.
        ConfigurationError: Its variable is wrong.
    """
    return sites(environ, [check_provider(provider)])[0]


def _sentence(broker: Broker, error: BaseException) -> str:
    where = f"Redis at {broker.shown}"
    text = broker.mask(str(error).partition("\n")[0]).rstrip(".")
    if isinstance(error, redis.exceptions.AuthenticationError) or text.startswith(("NOAUTH", "WRONGPASS")):
        return f"{where} refuses the password: check POSTBACK_BROKER_URL"
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return f"{where} is still loading its data: try again in a moment"
    if isinstance(error, redis.sentinel.MasterNotFoundError):
        return f"no Sentinel at {broker.shown} knows a primary named {broker.options.get('master_name')!r}"
    if isinstance(error, redis.exceptions.TimeoutError):
        return f"{where} does not answer"
    if isinstance(error, (redis.exceptions.ConnectionError, OSError)):
        return f"{where} cannot be reached ({text or type(error).__name__}): is it running, and is POSTBACK_BROKER_URL right?"
    return f"{where} refused a command: {text}"
