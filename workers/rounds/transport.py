"""kombu's Redis transport with the accounts' queues taken out of it (invariants I1 and I9).

Only public methods are overridden. For a governed queue ``basic_consume`` does not call kombu's, so its BRPOP and its
``unacked`` hash never see it; adding and cancelling consumers, remote control, events, shutdown and all other queues
work as in stock kombu.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any, Final

import redis
from kombu.transport import redis as kombu_redis

from config.topology import provider_of
from postback.events import EVENTS
from tasks.grants import GRANT_PREFIX, Grant
from tasks.task import REFUSED_TASK
from workers.observe.rows import kwargs_shown
from workers.rounds.feeder import Feeder, Loop
from workers.worker import Worker
from workers.writes import Client

#: The body of a message that stands for a grant: no arguments, no links.
BODY: Final = json.dumps([[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])


class _Subscription:
    """A governed queue's consumer on one channel."""

    def __init__(self, queue: str, channel: Any, callback: Callable[[Any], Any]) -> None:
        self._queue = queue
        self._channel = channel
        self._callback = callback

    def deliver(self, grant: Grant) -> None:
        self._callback(self._channel.Message(message_of(grant), channel=self._channel))

    def free(self) -> int:
        free = self._channel.qos.can_consume_max_estimate()
        return 0 if free is None else int(free)

    def threads(self) -> int:
        return int(self._channel.qos.prefetch_count or 0)


def message_of(grant: Grant) -> dict[str, Any]:
    """The one message that stands for a grant; its delivery tag is the grant's id.

    A single event has its own id, links, result and revocation, as Celery treats them always. A batch gets a message of its own. Both are
    made of parts that were checked, and hold no event: the task finds it in its grant. Whatever a message holds, Celery cannot fail on it.
    """
    first = grant.envelopes[0]
    single = len(grant.envelopes) == 1
    if single and not first.defect and first.task in EVENTS:
        headers = {**first.for_celery, "eta": None, "argsrepr": "()", "kwargsrepr": kwargs_shown(first, grant.queue)}
        body = json.dumps([[], {}, first.embed]) if first.has_followers else BODY
        return _message(grant, headers, body, first.document["properties"])
    known = (one.task for one in grant.envelopes if not one.defect and one.task in EVENTS)
    what = (first.task or first.defect)[:80] if single else f"{len(grant.envelopes)} events"
    headers = {
        "lang": "py",
        "task": REFUSED_TASK if single else next(known, REFUSED_TASK),
        "id": first.id if single and first.id else str(uuid.uuid4()),
        "parent_id": None,
        "group": None,
        "argsrepr": "()",
        "kwargsrepr": f"<{what} of {grant.queue}>",
        "ignore_result": True,
    }
    return _message(grant, {**headers, "root_id": headers["id"]}, BODY, {})


def _message(grant: Grant, headers: dict[str, Any], body: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            "correlation_id": properties.get("correlation_id") or headers["id"],
            "reply_to": properties.get("reply_to"),
            "delivery_tag": grant.id,
            "delivery_mode": 2,
            "priority": properties.get("priority") or 0,
            "delivery_info": {"exchange": "", "routing_key": grant.queue},
        },
    }


class _GovernedChannel:
    """Mixed into kombu's channel classes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Consumer tag -> governed queue.
        self._governed: dict[str, str] = {}
        super().__init__(*args, **kwargs)

    def _get_client(self) -> Any:
        stock = super()._get_client()  # type: ignore[misc]
        return Client if stock is redis.Redis else stock

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], Any], consumer_tag: str, **kwargs: Any
    ) -> Any:
        """Consume a queue: an account's through the governor, any other kombu's way."""
        if not is_governed(queue):
            return super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)  # type: ignore[misc]
        self._governed[consumer_tag] = queue
        feeder: Feeder = self.connection.feeder  # type: ignore[attr-defined]
        feeder.add(queue, _Subscription(queue, self, callback))
        return None

    def basic_cancel(self, consumer_tag: str) -> Any:
        """Stop consuming; what was taken is finished."""
        queue = self._governed.pop(consumer_tag, None)
        if queue is None:
            return super().basic_cancel(consumer_tag)  # type: ignore[misc]
        connection = self.connection  # type: ignore[attr-defined]
        if connection:
            connection.feeder.remove(queue)
        return None

    def basic_ack(self, delivery_tag: Any, multiple: bool = False) -> Any:
        """Acknowledge. A grant is normally settled already; one that is not is never taken for delivered."""
        if not _is_grant(delivery_tag):
            return super().basic_ack(delivery_tag, multiple)  # type: ignore[misc]
        self.connection.worker.close(delivery_tag)  # type: ignore[attr-defined]
        return None

    def basic_reject(self, delivery_tag: Any, requeue: bool = False) -> Any:
        """Reject; see :meth:`basic_ack`."""
        if not _is_grant(delivery_tag):
            return super().basic_reject(delivery_tag, requeue)  # type: ignore[misc]
        self.connection.worker.close(delivery_tag)  # type: ignore[attr-defined]
        return None


def is_governed(queue: str) -> bool:
    """Whether a queue belongs to a provider: an account's, or one that is no account here (``tgtrack.dead``).

    The latter are subscribed to and never taken from: kombu's own way would pop their events without a token and lose
    them. All other queues go that way.
    """
    return provider_of(queue) is not None


def _is_grant(delivery_tag: Any) -> bool:
    return isinstance(delivery_tag, str) and delivery_tag.startswith(GRANT_PREFIX)


class Channel(_GovernedChannel, kombu_redis.Channel):  # type: ignore[misc]
    """A channel to one Redis."""


class SentinelChannel(Channel, kombu_redis.SentinelChannel):  # type: ignore[misc]
    """A channel to the primary that the Sentinels name."""


class _Named(type):
    """Shows a class as kombu spells it: Celery's banner and log name the transport."""

    def __repr__(cls) -> str:
        return f"{cls.__module__}:{cls.__name__}"


class _GovernedTransport(metaclass=_Named):
    """Mixed into kombu's transport classes.

    Attributes:
        worker: Whose connection it is; see :func:`transport_of`.
    """

    worker: Worker

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)  # type: ignore[call-arg]
        self.feeder = Feeder(self.worker.governor, self.worker.refuse)

    def register_with_event_loop(self, connection: Any, loop: Loop) -> None:
        """Join Celery's event loop; the feeder of a lost connection, if there is one, is stopped."""
        super().register_with_event_loop(connection, loop)  # type: ignore[misc]
        self.worker.feed_from(self.feeder)
        self.feeder.start(loop)

    @classmethod
    def __json__(cls) -> str:
        """How ``inspect stats`` names it."""
        return repr(cls)


class Transport(_GovernedTransport, kombu_redis.Transport):
    """One Redis."""

    Channel = Channel


class SentinelTransport(Transport, kombu_redis.SentinelTransport):
    """Redis behind Sentinels."""

    Channel = SentinelChannel


def transport_of(worker: Worker, *, sentinels: bool) -> type[Transport]:
    """The transport class of a worker's connections: kombu makes the instances."""
    base = SentinelTransport if sentinels else Transport
    return type(base.__name__, (base,), {"worker": worker, "__module__": __name__})
