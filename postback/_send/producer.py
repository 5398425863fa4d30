"""The producer's own Celery app and its connections to Redis.

The app is private: the user's ``current_app``, configuration module and ``CELERY_*`` variables neither change it nor
are changed by it. Nothing connects before the first send.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import kombu
import redis
from celery import Celery
from kombu.exceptions import KombuError
from redis.backoff import NoBackoff
from redis.retry import Retry

from postback._events.names import check_names
from postback._send import accounts
from postback.errors import ConfigurationError, QueueFull
from postback.wire import keys, schedule
from postback.wire.broker import Broker, broker_of, parse_broker

__all__ = ["LINK_ERRORS", "REFUSALS", "Link", "Producer", "ProducerApp", "configure", "current"]

#: The environment variable that bounds one send.
TIMEOUT_VARIABLE: Final = "POSTBACK_SEND_TIMEOUT_S"
#: The longest a send may take if Redis is away, in seconds.
SEND_TIMEOUT_S: Final = 2.0
#: How long a result is kept, in seconds.
RESULT_EXPIRES_S: Final = 600
#: How many idle connections a process keeps; more are opened while more threads send at once.
IDLE_LINKS: Final = 16

#: What kombu and redis-py raise when a connection fails.
LINK_ERRORS: Final = (redis.RedisError, KombuError, OSError)
#: Redis answered and said no: the command was certainly not carried out.
REFUSALS: Final = (redis.ResponseError, redis.exceptions.AuthenticationError, redis.exceptions.BusyLoadingError)


class ProducerApp(Celery):
    """A Celery app that only its own broker URL decides about."""

    postback_broker: Broker

    def connection_for_write(self, url: str | None = None, **kwargs: Any) -> kombu.Connection:
        """As Celery's, but ``CELERY_BROKER_URL`` in the environment (the user's own broker) is not looked at."""
        return super().connection_for_write(url or self.postback_broker.url, **kwargs)

    def connection_for_read(self, url: str | None = None, **kwargs: Any) -> kombu.Connection:
        """See :meth:`connection_for_write`."""
        return super().connection_for_read(url or self.postback_broker.url, **kwargs)


def make_app(broker: Broker, timeout_s: float) -> ProducerApp:
    """The private Celery app of a producer.

    Args:
        broker: Where Redis is.
        timeout_s: The longest a send may take.
    """
    app = ProducerApp("postback", set_as_current=False, loader="celery.loaders.app:AppLoader", fixups=[])
    app.postback_broker = broker
    # Set as the backend's class, because the user's CELERY_RESULT_BACKEND would win over the configuration.
    app.backend_cls = broker.url
    # A new connection costs at most one connect and one silent reply; asking for the accounts costs one silent reply
    # more.
    connect_s, reply_s = timeout_s / 4, timeout_s * 3 / 8
    once = {"socket_timeout": reply_s, "socket_connect_timeout": connect_s, "retry": Retry(NoBackoff(), 0)}
    options: dict[str, Any] = {
        **broker.options,
        "socket_timeout": reply_s,
        "socket_connect_timeout": connect_s,
        "socket_keepalive": True,
        # kombu opens its pools without redis-py's retries as long as none are asked for: a replayed LPUSH is a
        # duplicate.
        "retry_on_timeout": False,
        "health_check_interval": 0,
        "max_retries": 0,
        "interval_start": 0,
        "interval_step": 0,
        "interval_max": 0,
        "client_name": "postback",
    }
    if broker.options:
        options["sentinel_kwargs"] = once
    app.conf.update(
        broker_url=broker.url,
        broker_transport_options=options,
        broker_connection_timeout=connect_s,
        result_backend=broker.url,
        result_backend_transport_options=dict(broker.options),
        result_expires=RESULT_EXPIRES_S,
        task_publish_retry=False,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        redis_socket_connect_timeout=connect_s,
        task_create_missing_queues=True,
        enable_utc=True,
        timezone="UTC",
    )
    return app


class Link:
    """One connection to Redis, used by one thread at a time."""

    def __init__(self, app: ProducerApp) -> None:
        self.connection = app.connection_for_write()
        try:
            # Any: the stubs of kombu do not know the Redis channel's pools yet.
            channel: Any = self.connection.default_channel
            # kombu's channel has pinged Redis on a socket for consuming, which a producer never uses again.
            channel.async_pool.disconnect()
            self.pool = channel.pool
            self.client: Any = redis.Redis(connection_pool=self.pool)
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Make sure that the socket is connected: an earlier failure means "not sent", a later one "reply lost".

        redis-py looks whether the kept socket was closed by the other side (no round trip) and connects anew.
        """
        self.pool.release(self.pool.get_connection())

    def push(self, entries: Sequence[tuple[str, str, bytes]]) -> list[Exception | None]:
        """Lay messages into their queues, and make the queues due, in one round trip.

        Args:
            entries: Of each its queue, the queue's list, the message; in order.

        Returns:
            Of each why Redis refused it, None if it is in.

        Raises:
            redis.RedisError, OSError: No reply came. REFUSALS: nothing was done.
        """
        lists: dict[str, list[bytes]] = {}
        for _, name, raw in entries:
            lists.setdefault(name, []).append(raw)
        pipeline = self.client.pipeline(transaction=False)
        for name, raws in lists.items():
            pipeline.lpush(name, *raws)
        providers = schedule.sent(pipeline, dict.fromkeys(queue for queue, _, _ in entries))
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        added = zip(providers, replies[len(lists) :], strict=True)
        schedule.wake(self.client, [provider for provider, new in added if isinstance(new, int) and new > 0])
        refused = {name: reply for name, reply in zip(lists, replies, strict=False) if isinstance(reply, Exception)}
        return [refused.get(name) for _, name, _ in entries]

    def announced(self) -> dict[bytes, bytes]:
        """The hash in which workers announce their accounts."""
        announced: dict[bytes, bytes] = self.client.hgetall(keys.ACCOUNTS)
        return announced

    def waiting(self, queues: list[str]) -> list[int]:
        """Events that wait in some accounts: queued, delayed, held aside. One round trip."""
        pipeline = self.client.pipeline(transaction=False)
        for queue in queues:
            for name in keys.priority_lists(queue):
                pipeline.llen(name)
            pipeline.zcard(keys.delayed(queue)).zcard(keys.held(queue))
        counts: list[int] = pipeline.execute()
        each = len(counts) // len(queues)
        return [sum(counts[start : start + each]) for start in range(0, len(counts), each)]

    def close(self) -> None:
        """Close the sockets, whatever state they are in."""
        with suppress(*LINK_ERRORS):  # a broken socket is closed all the same
            self.connection.release()


class Producer:
    """Settings, app, connections and known accounts of this process.

    Args:
        broker: Where Redis is.
        names: Account names by provider; None asks the accounts file or Redis.
        accounts_file: Path of an accounts file; None takes ``POSTBACK_ACCOUNTS``.
        send_timeout_s: None takes ``POSTBACK_SEND_TIMEOUT_S``.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        names: accounts.Names | None = None,
        accounts_file: str | None = None,
        send_timeout_s: float | None = None,
    ) -> None:
        self.broker = broker
        self.timeout_s = _timeout(send_timeout_s)
        self.app = make_app(self.broker, self.timeout_s)
        self.accounts = accounts.KnownAccounts(self._announced, given=names, path=accounts_file)
        self._idle: list[Link] = []
        _producers.add(self)

    @contextmanager
    def link(self) -> Iterator[Link]:
        """Borrow a connected link; it is thrown away if the block fails on it."""
        try:
            link = self._idle.pop()
        except IndexError:
            link = Link(self.app)
        try:
            yield link
        except QueueFull:
            # Redis has answered: nothing is on its way on this socket.
            self._keep(link)
            raise
        except BaseException:
            # Whatever happened, a reply may still be on its way on this socket.
            link.close()
            raise
        self._keep(link)

    def _keep(self, link: Link) -> None:
        if len(self._idle) < IDLE_LINKS:
            self._idle.append(link)
        else:
            link.close()

    def rooms(self, link: Link, places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """How many more events may wait in those accounts that have a cap. If none has one, Redis is not asked.

        Args:
            link: Where to ask.
            places: Provider and account's name.

        Raises:
            redis.RedisError, KombuError, OSError: Redis could not be asked.
        """
        caps = {place: cap for place in set(places) if (cap := self.accounts.cap(*place))}
        if not caps:
            return {}
        waiting = link.waiting([keys.queue(*place) for place in caps])
        return {place: max(0, cap - count) for (place, cap), count in zip(caps.items(), waiting, strict=True)}

    def _announced(self) -> dict[bytes, bytes] | None:
        """The announced accounts, None if Redis could not be asked; only a missing connection is an error."""
        with self.link() as link:
            link.check()
            try:
                return link.announced()
            except (*LINK_ERRORS, ValueError) as failed:
                accounts.logger.info("the known accounts could not be read from Redis: %s", type(failed).__name__)
                return None

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def after_fork(self) -> None:
        """Forget the parent's sockets (without closing them: the parent goes on using them)."""
        self._idle = []
        self.app = make_app(self.broker, self.timeout_s)
        self.accounts.after_fork()


def _timeout(given: float | None) -> float:
    text = os.environ.get(TIMEOUT_VARIABLE) if given is None else given
    try:
        timeout_s = SEND_TIMEOUT_S if text in (None, "") else float(text)
    except (TypeError, ValueError):
        timeout_s = 0.0
    if not 0 < timeout_s <= 3600:
        raise ConfigurationError(f"{TIMEOUT_VARIABLE} must be a number of seconds, more than 0 and at most 3600")
    return timeout_s


@dataclass(frozen=True)
class _Configured:
    """What :func:`configure` was given."""

    broker: Broker | None = None
    names: accounts.Names | None = None
    accounts_file: str | None = None
    send_timeout_s: float | None = None


_producers: weakref.WeakSet[Producer] = weakref.WeakSet()
_configured = _Configured()
#: Provider -> its producer; providers on the same Redis share one.
_by_provider: dict[str, Producer] = {}
_making = threading.Lock()


def current(provider: str) -> Producer:
    """This process's producer for a provider's events, made from the environment at first need.

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
    broker = _configured.broker or broker_of(provider)
    for made in _by_provider.values():
        if made.broker == broker:
            return made
    return Producer(
        broker,
        names=_configured.names,
        accounts_file=_configured.accounts_file,
        send_timeout_s=_configured.send_timeout_s,
    )


def configure(
    *,
    broker_url: str | None = None,
    accounts: Mapping[str, Iterable[str]] | str | os.PathLike[str] | None = None,
    send_timeout_s: float | None = None,
) -> None:
    """Set what the environment would, for this process; what is not given is read from the environment (again).

    Args:
        broker_url: In place of ``POSTBACK_BROKER_URL`` and of every provider's own.
        accounts: In place of ``POSTBACK_ACCOUNTS``: the file's path, or account names by provider
            (``{"tgtrack": ["main", "shop"]}``).
        send_timeout_s: In place of ``POSTBACK_SEND_TIMEOUT_S``.

    Raises:
        ConfigurationError: One of them is wrong; the message names the variable or the argument.
    """
    global _configured
    names = path = None
    if isinstance(accounts, Mapping):
        names = {provider: dict.fromkeys(given, 0) for provider, given in accounts.items()}
    elif accounts is not None:
        path = os.fspath(accounts)
    broker = None if broker_url is None else parse_broker(broker_url)
    for provider, chosen in (names or {}).items():
        check_names("accounts", provider, chosen)
    _timeout(send_timeout_s)
    with _making:
        _configured = _Configured(broker, names, path, send_timeout_s)
        before = set(_by_provider.values())
        _by_provider.clear()
    for producer in before:
        producer.close()


def _after_fork() -> None:
    """A forked worker (gunicorn --preload) must not speak on its parent's sockets."""
    global _making
    _making = threading.Lock()
    for producer in list(_producers):
        producer.after_fork()


os.register_at_fork(after_in_child=_after_fork)
