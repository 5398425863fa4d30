"""Where Redis is: the broker URLs of Celery and kombu, and clients made from them.

Only this module reads such URLs.

Accepted: ``redis://``, ``rediss://``, ``redis+socket://``, ``sentinel://a;sentinel://b`` and
``redis+sentinel://:password@a:26379,b:26379/0?master_name=mymaster``. kombu does not know
``redis+sentinel``. It takes the primary's name from its options, not from the URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from postback.errors import ConfigurationError

__all__ = [
    "DEFAULT_URL",
    "MASTER_VARIABLE",
    "VARIABLE",
    "Broker",
    "broker_of",
    "connect",
    "own_variable",
    "parse_broker",
]

#: The environment variable that holds the URL.
VARIABLE: Final = "POSTBACK_BROKER_URL"
#: The environment variable that names the primary, if the URL lists sentinels without a
#: ``master_name``.
MASTER_VARIABLE: Final = "POSTBACK_SENTINEL_MASTER"
#: Used if the variable is not set.
DEFAULT_URL: Final = "redis://127.0.0.1:6379/0"

_SCHEMES: Final = ("redis", "rediss", "redis+socket", "sentinel", "redis+sentinel")
#: kombu's words for certificate checks -> redis-py's.
_CERT_REQS: Final = {"CERT_REQUIRED": "required", "CERT_OPTIONAL": "optional", "CERT_NONE": "none"}


@dataclass(frozen=True)
class Broker:
    """Where Redis is.

    Attributes:
        url: For ``celery.Celery(broker=…, backend=…)``. It may hold a password, so ``repr`` leaves
            it out.
        options: Transport options that belong to the URL (``master_name``), for the broker and the
            result backend.
        password: What :meth:`mask` masks.
    """

    url: str = field(repr=False)
    options: dict[str, Any] = field(default_factory=dict)
    password: str | None = field(default=None, repr=False)

    def mask(self, message: str) -> str:
        """A message without the password."""
        return message.replace(self.password, "**") if self.password else message

    @property
    def shown(self) -> str:
        """The URL for people, without user and password."""
        parts = [re.sub(r"://[^/]*@", "://", part, count=1) for part in self.url.split(";")]
        return ";".join(part.partition("?")[0] for part in parts)


def own_variable(provider: str) -> str:
    """The variable that gives a provider a Redis of its own: ``POSTBACK_TGTRACK_BROKER_URL``."""
    return f"POSTBACK_{provider.upper()}_BROKER_URL"


def broker_of(provider: str | None, environ: Mapping[str, str] = os.environ) -> Broker:
    """The broker that carries a provider's events.

    It is that of the provider's own variable, else of the common one, else the default.

    Args:
        provider: None for the common one.
        environ: The variables.

    Raises:
        ConfigurationError: Its variable cannot be used.
    """
    for name in (own_variable(provider), VARIABLE) if provider else (VARIABLE,):
        url = environ.get(name, "").strip()
        if url:
            return parse_broker(url, variable=name, master=environ.get(MASTER_VARIABLE, "").strip())
    return parse_broker(DEFAULT_URL)


def parse_broker(url: str, *, variable: str = VARIABLE, master: str | None = None) -> Broker:
    """Read a broker URL.

    Args:
        url: The URL.
        variable: What to name in an error.
        master: Name of the primary for a Sentinel URL without ``master_name``; None takes
            ``POSTBACK_SENTINEL_MASTER``.

    Raises:
        ConfigurationError: It cannot be used; the message does not repeat it.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ConfigurationError(
            f"{variable} must be a URL that begins with redis://, rediss://, sentinel:// or redis+sentinel://"
        )
    if scheme == "redis+socket":
        return Broker(url.strip())
    if scheme in ("sentinel", "redis+sentinel"):
        return _sentinel(rest, variable, os.environ.get(MASTER_VARIABLE, "") if master is None else master)
    password = _check(rest, variable)
    if scheme == "rediss" and "ssl_cert_reqs" not in rest:
        # Celery's result backend insists on it. The broker's side must not be laxer.
        rest += ("&" if "?" in rest else "?") + "ssl_cert_reqs=CERT_REQUIRED"
    return Broker(f"{scheme}://{rest}", password=password)


def _check(rest: str, variable: str) -> str | None:
    """Check one host's URL; returns its password.

    No part of the password may be taken for a host or a port.
    """
    try:
        parts = urlsplit(f"http://{rest}")
        readable = parts.port != 0 and "@" not in parts.path + parts.query + parts.fragment
    except ValueError:
        readable = False
    if not readable:
        # urllib's own message repeats a piece of the password.
        raise ConfigurationError(
            f"{variable} cannot be read: percent-encode special characters of its password "
            "(%2F for /, %23 for #, %3F for ?)"
        )
    if not parts.hostname:
        raise ConfigurationError(f"{variable} names no host")
    if re.fullmatch(r"/?[0-9]*", parts.path) is None:
        raise ConfigurationError(f"{variable} must end with the number of a Redis database, such as /0")
    return unquote(parts.password) if parts.password else None


def _sentinel(rest: str, variable: str, master: str) -> Broker:
    """Sentinel hosts, separated by commas or semicolons, each with or without its own scheme."""
    rest, _, query = rest.partition("?")
    master = dict(parse_qsl(query)).get("master_name") or master
    if not master:
        raise ConfigurationError(
            f"{variable} names sentinels but not the master: end it with ?master_name=… or set {MASTER_VARIABLE}"
        )
    hosts = [host.rpartition("://")[2] for host in rest.replace(",", ";").split(";") if host]
    # The database may follow the last host only, but kombu reads it from the first.
    database = next((host.partition("/")[2] for host in hosts if "/" in host), "")
    passwords = [_check(host, variable) for host in hosts]
    urls = [f"sentinel://{host.partition('/')[0]}/{database}" for host in hosts]
    return Broker(";".join(urls), {"master_name": master}, next((word for word in passwords if word), None))


def connect(
    broker: Broker | str,
    *,
    timeout_s: float = 5.0,
    connect_timeout_s: float = 2.0,
    decode: bool = False,
    single: bool = False,
    client_class: type[redis.Redis] = redis.Redis,
) -> redis.Redis:
    """A client for a broker. It connects at its first command, with ``single`` at once.

    It does not retry: redis-py would repeat a command whose reply was lost, and a script would do
    its work twice.

    Args:
        broker: The broker, or its URL.
        timeout_s: Longest wait for a reply, seconds.
        connect_timeout_s: Longest wait for a connection, seconds.
        decode: Replies as ``str`` and not ``bytes``.
        single: Use one connection without a pool, except behind Sentinels. It is for one thread,
            and faster: a pool looks at the socket before each command.
        client_class: What to make.

    Raises:
        ConfigurationError: The URL cannot be used.
        redis.RedisError: With ``single``, Redis is away.
    """
    if isinstance(broker, str):
        broker = parse_broker(broker, variable="the broker's URL")
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": connect_timeout_s,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": decode,
        # With protocol 3 redis-py 8 asks each connection for notifications that only Redis
        # Enterprise sends.
        "protocol": 2,
    }
    url = broker.url
    if url.startswith("sentinel://"):
        client = _through_sentinel(broker, options, client_class)
    elif url.startswith("redis+socket://"):
        # kombu has another name for the database.
        client = client_class.from_url(
            url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db="),
            **{
                key: value
                for key, value in options.items()
                if key not in ("socket_connect_timeout", "socket_keepalive")
            },
        )
    else:
        match = re.search(r"ssl_cert_reqs=(CERT_[A-Z]+)", url)
        if match:
            url = url.replace(match[1], _CERT_REQS.get(match[1], "required"))
        client = client_class.from_url(url, **options)
    # Behind Sentinels, a connection asks for the primary only when a pool hands it out.
    if single and not url.startswith("sentinel://"):
        return client_class(connection_pool=client.connection_pool, single_connection_client=True)
    return client


def _through_sentinel(broker: Broker, options: dict[str, Any], client_class: type[redis.Redis]) -> redis.Redis:
    parts = [urlsplit(part) for part in broker.url.split(";")]
    hosts = [(part.hostname or "127.0.0.1", part.port or 26379) for part in parts]
    # As in kombu, the credentials are the primary's. The sentinels have none.
    user = next((unquote(part.username) for part in parts if part.username), None)
    sentinel_options = {
        key: value for key, value in options.items() if key not in ("decode_responses", "health_check_interval")
    }
    sentinel: Any = Sentinel  # redis-py has no types for it
    client: redis.Redis = sentinel(hosts, sentinel_kwargs=sentinel_options, **options).master_for(
        broker.options["master_name"],
        redis_class=client_class,
        db=int(parts[0].path.strip("/") or 0),
        username=user,
        password=broker.password,
    )
    return client
