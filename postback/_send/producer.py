"""This process's producers: their settings, apps, connections and accounts.

Providers on the same Redis share one producer. Nothing connects before the first send.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from postback._events.account_names import DEFAULT_ACCOUNT, check_account_names
from postback._send import directory
from postback._send.celery_app import make_app
from postback._send.connections import CONNECTION_ERRORS, Connection
from postback.errors import ConfigurationError, QueueFull
from postback.wire import keys
from postback.wire.broker import Broker, broker_of, parse_broker

__all__ = ["SEND_TIMEOUT_S", "TIMEOUT_VARIABLE", "Producer", "configure", "current"]

#: The environment variable that bounds one send.
TIMEOUT_VARIABLE: Final = "POSTBACK_SEND_TIMEOUT_S"
#: The longest a send may take if Redis is away, in seconds.
SEND_TIMEOUT_S: Final = 2.0
#: How many idle connections a producer keeps. It opens more while more threads send at once.
IDLE_CONNECTIONS: Final = 16


class Producer:
    """Sends to one Redis.

    Args:
        broker: Where Redis is.
        caps: Accounts that are set in code; None asks the accounts file or Redis.
        accounts_file: Path of an accounts file; None takes ``POSTBACK_ACCOUNTS``.
        send_timeout_s: In seconds; None takes ``POSTBACK_SEND_TIMEOUT_S``.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        caps: directory.Caps | None = None,
        accounts_file: str | None = None,
        send_timeout_s: float | None = None,
    ) -> None:
        self.broker = broker
        self.timeout_s = _timeout_s(send_timeout_s)
        self.app = make_app(self.broker, self.timeout_s)
        self.accounts = directory.AccountDirectory(self._announced, caps=caps, path=accounts_file)
        self._idle: list[Connection] = []
        self._unchecked_until = 0.0
        _producers.add(self)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Borrow a connection. It is closed if the block fails, kept otherwise."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = Connection(self.app)
        try:
            yield connection
        except QueueFull:
            # Redis has answered: no reply is on its way on this socket.
            self._keep(connection)
            raise
        except BaseException:
            # A reply may still be on its way on this socket.
            connection.close()
            raise
        self._keep(connection)

    def _keep(self, connection: Connection) -> None:
        if len(self._idle) < IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()

    def rooms(self, connection: Connection, places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """How many more events may wait in the accounts that have a cap.

        Redis is not asked if none has one.

        Args:
            connection: Where to ask.
            places: ``(provider, account's name)``.

        Raises:
            redis.RedisError, KombuError, OSError: Redis could not be asked.
        """
        caps = {place: cap for place in set(places) if (cap := self.accounts.cap(*place))}
        if not caps:
            return {}
        waiting = connection.waiting([keys.queue(*place) for place in caps])
        return {place: max(0, cap - count) for (place, cap), count in zip(caps.items(), waiting, strict=True)}

    def account_later(self, provider: str, account: str | None) -> str:
        """The account of an event that is sent later, so that a wrong name fails at the call.

        If Redis is away the name stays unchecked, and Redis is not asked again for 30 s: the
        caller's transaction must not wait for it each time.

        Raises:
            UnknownAccount: The provider has no such account.
            ConfigurationError: The accounts file cannot be read.
        """
        if time.monotonic() >= self._unchecked_until:
            try:
                return self.accounts.choose(provider, account)
            except CONNECTION_ERRORS:
                self._unchecked_until = time.monotonic() + directory.CACHE_S
        return account or DEFAULT_ACCOUNT

    def _announced(self) -> dict[bytes, bytes] | None:
        """The announced accounts; None if Redis did not tell them.

        Raises:
            redis.RedisError, KombuError, OSError: There is no connection.
        """
        with self.connection() as connection:
            connection.check()
            try:
                return connection.announced()
            except (*CONNECTION_ERRORS, ValueError) as failed:
                directory.logger.info("the known accounts could not be read from Redis: %s", type(failed).__name__)
                return None

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def after_fork(self) -> None:
        """Forget the parent's sockets. They stay open, because the parent goes on using them."""
        self._idle = []
        self.app = make_app(self.broker, self.timeout_s)
        self.accounts.after_fork()


def _timeout_s(argument: float | None) -> float:
    value = os.environ.get(TIMEOUT_VARIABLE) if argument is None else argument
    try:
        timeout_s = SEND_TIMEOUT_S if value in (None, "") else float(value)
    except (TypeError, ValueError):
        timeout_s = 0.0
    if not 0 < timeout_s <= 3600:
        raise ConfigurationError(f"{TIMEOUT_VARIABLE} must be a number of seconds, more than 0 and at most 3600")
    return timeout_s


@dataclass(frozen=True)
class _Configuration:
    """The arguments of the last :func:`configure`; None where the environment decides."""

    broker: Broker | None = None
    caps: directory.Caps | None = None
    accounts_file: str | None = None
    send_timeout_s: float | None = None


_producers: weakref.WeakSet[Producer] = weakref.WeakSet()
_configuration = _Configuration()
#: Provider -> its producer.
_by_provider: dict[str, Producer] = {}
_making = threading.Lock()


def current(provider: str) -> Producer:
    """The producer of a provider's events in this process. The first call makes it.

    Args:
        provider: ``"tgtrack"``.

    Raises:
        ConfigurationError: A variable is wrong.
    """
    producer = _by_provider.get(provider)
    if producer is None:
        with _making:
            producer = _by_provider.get(provider)
            if producer is None:
                producer = _by_provider[provider] = _make(provider)
    return producer


def _make(provider: str) -> Producer:
    broker = _configuration.broker or broker_of(provider)
    for producer in _by_provider.values():
        if producer.broker == broker:
            return producer
    return Producer(
        broker,
        caps=_configuration.caps,
        accounts_file=_configuration.accounts_file,
        send_timeout_s=_configuration.send_timeout_s,
    )


def configure(
    *,
    broker_url: str | None = None,
    accounts: Mapping[str, Iterable[str]] | str | os.PathLike[str] | None = None,
    send_timeout_s: float | None = None,
) -> None:
    """Configure this process in code instead of by the environment.

    What is left out is read from the environment, anew at each call.

    Args:
        broker_url: In place of ``POSTBACK_BROKER_URL`` and of every provider's own.
        accounts: In place of ``POSTBACK_ACCOUNTS``: the file's path, or account names by provider
            (``{"tgtrack": ["main", "shop"]}``).
        send_timeout_s: In place of ``POSTBACK_SEND_TIMEOUT_S``: seconds, more than 0 and at most
            3600.

    Raises:
        ConfigurationError: One of them is wrong; the message names the variable or the argument.
    """
    global _configuration
    caps = path = None
    if isinstance(accounts, Mapping):
        caps = {provider: dict.fromkeys(names, 0) for provider, names in accounts.items()}
    elif accounts is not None:
        path = os.fspath(accounts)
    broker = None if broker_url is None else parse_broker(broker_url)
    for provider, names in (caps or {}).items():
        check_account_names("accounts", provider, names)
    _timeout_s(send_timeout_s)
    with _making:
        _configuration = _Configuration(broker, caps, path, send_timeout_s)
        before = set(_by_provider.values())
        _by_provider.clear()
    for producer in before:
        producer.close()


def _after_fork() -> None:
    """Keep a forked process (gunicorn --preload) off its parent's sockets."""
    global _making
    _making = threading.Lock()
    for producer in list(_producers):
        producer.after_fork()


os.register_at_fork(after_in_child=_after_fork)
