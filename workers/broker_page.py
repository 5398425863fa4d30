"""Flower's Broker page and queue lengths where accounts are too many for a row each: one row for each provider (ADR 31)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from flower.api.tasks import GetQueueLengths
from flower.views import BaseHandler
from flower.views.broker import BrokerView

from config.topology import TOGETHER
from postback.wire import keys
from postback.wire.broker import Broker, connect

#: Seconds to wait for Redis' reply.
REPLY_S: Final = 2.0


class _Counting(BaseHandler):  # type: ignore[misc]  # Flower has no types
    """A handler of Flower's whose broker counts what stands for many queues."""

    def initialize(self, postback_broker: Broker) -> None:
        """Called by tornado.

        Args:
            postback_broker: Where the schedule is.
        """
        self._postback_broker = postback_broker

    def get_broker(self) -> Any:
        """See ``flower.views.BaseHandler``."""
        return _Counted(super().get_broker(), self._postback_broker)


class BrokerPage(_Counting, BrokerView):  # type: ignore[misc]
    """Flower's own page."""


class QueueLengths(_Counting, GetQueueLengths):  # type: ignore[misc]
    """Flower's own answer."""


def pages(broker: Broker, prefix: str) -> list[tuple[str, type[BaseHandler], dict[str, Any]]]:
    """Handlers to stand before Flower's.

    Args:
        broker: Of the workers.
        prefix: Flower's ``url_prefix``.
    """
    root = f"/{prefix.strip('/')}" if prefix else ""
    given = {"postback_broker": broker}
    return [(f"{root}/broker", BrokerPage, given), (f"{root}/api/queues/length", QueueLengths, given)]


class _Counted:
    """Flower's broker, which also counts what waits in all accounts of a provider: ``tgtrack.*``."""

    def __init__(self, flowers: Any, broker: Broker) -> None:
        self._flowers, self._broker = flowers, broker

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """See ``flower.utils.broker.Broker.queues``."""
        every = set(names)
        many = {name for name in every if name.endswith(TOGETHER)}
        found: list[dict[str, Any]] = await self._flowers.queues(sorted(every - many))
        for name in many:
            busy = await asyncio.to_thread(self._busy, name.removesuffix(TOGETHER))
            counted = await self._flowers.queues(busy) if busy else []
            found.append({"name": name, "messages": sum(one["messages"] for one in counted)})
        return sorted(found, key=lambda one: str(one["name"]))

    def _busy(self, provider: str) -> list[str]:
        """Queues in which something may wait: those that the schedule knows (ADR 29)."""
        client = connect(self._broker, timeout_s=REPLY_S, connect_timeout_s=REPLY_S, decode=True)
        try:
            places = (keys.schedule(provider), keys.timers(provider))
            return sorted({str(queue) for place in places for queue in client.zrange(place, 0, -1)})
        finally:
            client.close()
