"""kombu's Redis transport for all but events: remote control, links' queues (invariants I1, I9).

Celery consumes accounts' queues in name only, so that Celery and Flower list them. kombu never
reads them: its BRPOP would pop events without a token and lose them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis
from amqp.protocol import queue_declare_ok_t
from kombu.transport import redis as kombu_redis

from config.topology import provider_of
from postback.wire import schedule
from workers.writes import Client


class _Channel:
    """Mixed into kombu's channel classes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Consumer tags of accounts' queues.
        self._in_name_only: set[str] = set()
        super().__init__(*args, **kwargs)

    def _get_client(self) -> Any:
        stock = super()._get_client()  # type: ignore[misc]
        return Client if stock is redis.Redis else stock

    def queue_declare(self, queue: str | None = None, **kwargs: Any) -> queue_declare_ok_t:
        """Declare a queue; an account's needs nothing, and there may be ten thousand of them."""
        if queue and is_governed(queue):
            return queue_declare_ok_t(queue, 0, 0)
        declared: queue_declare_ok_t = super().queue_declare(queue=queue, **kwargs)  # type: ignore[misc]
        return declared

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        """Push a message, for example of a chain. An account's queue becomes due, as by a send."""
        super()._put(queue, message, **kwargs)  # type: ignore[misc]
        if is_governed(queue):
            with self.conn_or_acquire() as client:  # type: ignore[attr-defined]
                pipeline = client.pipeline(transaction=False)
                providers = schedule.sent(pipeline, [queue])
                with suppress(redis.RedisError):
                    if pipeline.execute() == [1]:
                        schedule.wake(client, providers)

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], Any], consumer_tag: str, **kwargs: Any
    ) -> Any:
        """Consume a queue; an account's queue in name only."""
        if is_governed(queue):
            self._in_name_only.add(consumer_tag)
            return None
        return super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)  # type: ignore[misc]

    def basic_cancel(self, consumer_tag: str) -> Any:
        """Stop consuming."""
        if consumer_tag in self._in_name_only:
            self._in_name_only.discard(consumer_tag)
            return None
        return super().basic_cancel(consumer_tag)  # type: ignore[misc]


def is_governed(queue: str) -> bool:
    """Whether a queue belongs to a provider, even if it is no account's (``tgtrack.dead``)."""
    return provider_of(queue) is not None


class Channel(_Channel, kombu_redis.Channel):  # type: ignore[misc]
    """A channel to one Redis."""


class SentinelChannel(Channel, kombu_redis.SentinelChannel):  # type: ignore[misc]
    """A channel to the primary that the Sentinels name."""


class Transport(kombu_redis.Transport):
    """One Redis."""

    Channel = Channel


class SentinelTransport(Transport, kombu_redis.SentinelTransport):
    """Redis behind Sentinels."""

    Channel = SentinelChannel
