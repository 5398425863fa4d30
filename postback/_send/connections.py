"""A producer's connection to Redis, and the errors that it raises."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import redis
from kombu.exceptions import KombuError

from postback._send.celery_app import ProducerApp
from postback.wire import keys, schedule

__all__ = ["CONNECTION_ERRORS", "REFUSALS", "Connection"]

#: What kombu and redis-py raise when a connection fails.
CONNECTION_ERRORS: Final = (redis.RedisError, KombuError, OSError)
#: Redis answered with a refusal: it has certainly not executed the command.
REFUSALS: Final = (redis.ResponseError, redis.exceptions.AuthenticationError, redis.exceptions.BusyLoadingError)

#: redis-py before 5.3 wants to know a command; later ones warn of one.
_FOR: Final = () if redis.VERSION >= (5, 3) else ("LPUSH",)


class Connection:
    """One connection to Redis. One thread uses it at a time.

    Args:
        app: The app whose broker to connect to.
    """

    def __init__(self, app: ProducerApp) -> None:
        self.connection = app.connection_for_write()
        try:
            # Any: kombu's stubs do not have the pools of the Redis channel yet.
            channel: Any = self.connection.default_channel
            # The channel has pinged Redis on a socket for consuming. A producer never uses it
            # again.
            channel.async_pool.disconnect()
            self.pool = channel.pool
            self.client: Any = redis.Redis(connection_pool=self.pool)
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Make sure that the socket is connected.

        A failure here means "not sent"; a later one means "reply lost". redis-py looks whether the
        other side has closed the socket (no round trip), and connects anew if it has.
        """
        self.pool.release(self.pool.get_connection(*_FOR))

    def push(self, entries: Sequence[tuple[str, str, bytes]]) -> list[Exception | None]:
        """Push messages into their queues and make the queues due, in one round trip.

        Args:
            entries: ``(queue, the queue's list, message)`` of each, in order.

        Returns:
            For each entry why Redis refused it; None if it is in its queue.

        Raises:
            redis.RedisError, OSError: No reply came, or one of :data:`REFUSALS`: nothing was done.
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
        """For each queue how many events wait: queued, delayed and held aside. One round trip."""
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
        with suppress(*CONNECTION_ERRORS):  # a broken socket is closed all the same
            self.connection.release()
