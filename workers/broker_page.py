"""Flower's Broker page and queue lengths, also for too many accounts for a row each (ADR 31)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from itertools import chain, islice
from typing import Any, Final

import redis
from flower.api.tasks import GetQueueLengths
from flower.views import BaseHandler
from flower.views.broker import BrokerView
from tornado import web

from config.topology import TOGETHER
from postback.wire import keys
from postback.wire.broker import Broker, connect

logger = logging.getLogger(__name__)

#: Seconds to wait for Redis' reply.
REPLY_S: Final = 2.0


class BrokerPage(BrokerView):  # type: ignore[misc]  # Flower has no types
    """Flower's own page, with our counts."""

    def initialize(self, postback_broker: Broker) -> None:
        """Called by tornado.

        Args:
            postback_broker: The broker with the queues.
        """
        self._broker = postback_broker

    @web.authenticated
    async def get(self) -> None:
        """The page. It has no rows if Redis is away, like Flower's own."""
        try:
            queues = await asyncio.to_thread(lengths, self._broker, self.get_active_queue_names())
        except (redis.RedisError, OSError) as error:
            logger.error("the queues cannot be counted: %s", type(error).__name__)
            queues = []
        self.render("broker.html", broker_url=self.application.broker_uri, queues=queues)


class QueueLengths(GetQueueLengths):  # type: ignore[misc]
    """The queue lengths for programs."""

    initialize = BrokerPage.initialize

    @web.authenticated
    async def get(self) -> None:
        """``{"active_queues": [{"name", "messages"}]}``."""
        queues = await asyncio.to_thread(lengths, self._broker, self.get_active_queue_names())
        self.write({"active_queues": queues})


def pages(broker: Broker, prefix: str) -> list[tuple[str, type[BaseHandler], dict[str, Any]]]:
    """Handlers that replace Flower's.

    Args:
        broker: The workers' broker.
        prefix: Flower's ``url_prefix``.
    """
    root = f"/{prefix.strip('/')}" if prefix else ""
    options = {"postback_broker": broker}
    return [(f"{root}/broker", BrokerPage, options), (f"{root}/api/queues/length", QueueLengths, options)]


def lengths(broker: Broker, names: Iterable[str]) -> list[dict[str, Any]]:
    """The number of messages in each queue; for ``tgtrack.*`` in all accounts of the provider.

    Raises:
        redis.RedisError, OSError: Redis is away.
    """
    client = connect(broker, timeout_s=REPLY_S, connect_timeout_s=REPLY_S, decode=True)
    try:
        lists: dict[str, list[str]] = {}
        for name in sorted(set(names)):
            queues = _scheduled(client, name.removesuffix(TOGETHER)) if name.endswith(TOGETHER) else [name]
            lists[name] = [key for queue in queues for key in keys.priority_lists(queue)]
        pipeline = client.pipeline(transaction=False)
        for key in chain.from_iterable(lists.values()):
            pipeline.llen(key)
        counts = iter(pipeline.execute())
        return [{"name": name, "messages": sum(islice(counts, len(of_queue)))} for name, of_queue in lists.items()]
    finally:
        client.close()


def _scheduled(client: redis.Redis, provider: str) -> list[str]:
    """The queues in which messages may wait: those in the schedule (ADR 29)."""
    places = (keys.schedule(provider), keys.timers(provider))
    return sorted({str(queue) for place in places for queue in client.zrange(place, 0, -1)})
