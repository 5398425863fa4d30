"""The Celery message of an event, ready to be pushed (ADR 30).

Its headers beyond Celery's own: ``postback_at`` (when it was enqueued, ms), ``postback_size`` (bytes of the event) and
``postback_key`` (SHA-256 of the idempotency key).
"""

from __future__ import annotations

import copyreg
import time
from dataclasses import dataclass
from typing import Any, Final

from celery import signals
from celery.utils import uuid

from postback._events.event import EventData
from postback._events.names import DEFAULT_ACCOUNT
from postback._events.payload import MAX_MESSAGE_BYTES
from postback._send.options import Options
from postback._send.producer import Producer, current
from postback.errors import MessageTooLarge, QueueFull
from postback.results import EventResult
from postback.wire import keys
from postback.wire.message import entry, list_of

__all__ = ["Item", "check_message", "check_size", "full", "headers_of", "in_one_line", "ready", "result_of", "shown_as"]

#: Most bytes of a queue entry for one byte of its event: two bytes of UTF-8 become six of JSON,
#: three of those four of base64.
GROWTH: Final = 4
#: Bytes of a queue entry beside its event when there are no options that count: ids, times, a
#: summary of at most 8 short texts.
PLAIN_BYTES: Final = 8192
#: Bytes that deliveries and a replay may add: their state.
RESERVED_BYTES: Final = 1024
#: Bytes that a message may grow by if it is made now and sent later: its account, key, times and
#: host are not known yet.
LATER_BYTES: Final = 1024


@dataclass(slots=True)
class Item:
    """One event and how it is sent."""

    event: EventData
    task_id: str
    account: str
    options: Options
    #: Celery's message, as long as somebody is to hear that it was sent.
    message: Any = None

    @property
    def place(self) -> tuple[str, str]:
        """Provider and account's name."""
        return self.event.provider, self.account


def make_message(producer: Producer, item: Item) -> Any:
    """The Celery message, not yet serialised."""
    event, options = item.event, item.options
    now_s = time.time()
    wire = event.with_time(now_s)._wire()
    message = producer.app.amqp.create_task_message(
        item.task_id,
        event.task_name,
        [],
        {"account": item.account, "event": wire},
        argsrepr="()",
        kwargsrepr=shown_as(event, item.account, wire),
        ignore_result=options.ignore_result,
        **options.for_message(producer.app),
    )
    message.headers.update(headers_of(event, options), postback_at=int(now_s * 1000))
    return message


def ready(producer: Producer, item: Item) -> tuple[str, str, bytes]:
    """What is pushed, after those were heard who listen to Celery's signals: tracing adds its headers there."""
    message = make_message(producer, item)
    if signals.before_task_publish.receivers:
        signals.before_task_publish.send(
            sender=item.event.task_name,
            body=message.body,
            exchange="",
            routing_key=keys.queue(*item.place),
            declare=(),
            headers=message.headers,
            properties=message.properties,
            retry_policy={},
        )
    if signals.after_task_publish.receivers:
        item.message = message
    return _entry(item, message)


def _entry(item: Item, message: Any, spare_bytes: int = 0) -> tuple[str, str, bytes]:
    """Its queue, the queue's list, and the message that is pushed there.

    Raises:
        MessageTooLarge, TypeError: See :func:`check_size`.
    """
    event, priority, queue = item.event, item.options.priority, keys.queue(*item.place)
    try:
        raw = entry(message.headers, message.properties, message.body, queue, priority)
    except (TypeError, ValueError, RecursionError) as unencodable:
        raise TypeError(f"{event.title()}: headers, link and the other options must be JSON") from unencodable
    check_size(event, len(raw) + spare_bytes)
    return queue, list_of(queue, priority), raw


def check_message(event: EventData, options: Options) -> None:
    """Refuse now what :func:`postback._send.one.send` would refuse later for its size. Redis is not asked.

    Raises:
        MessageTooLarge, TypeError: See :func:`check_size`.
    """
    if may_be_too_large(event, options):
        account = event.account or DEFAULT_ACCOUNT
        item = Item(event, options.task_id or uuid(), account, options)
        _entry(item, make_message(current(event.provider), item), LATER_BYTES)


def may_be_too_large(event: EventData, options: Options) -> bool:
    """Whether the message must be measured; most are too short for that. O(1) once the event is encoded."""
    unbounded = options.headers or options.link or options.link_error or options.passed
    return bool(unbounded) or GROWTH * event.size() + PLAIN_BYTES > MAX_MESSAGE_BYTES


def check_size(event: EventData, size: int) -> None:
    """Refuse a message that a worker would refuse.

    Args:
        event: For the error's title.
        size: Bytes of its queue entry.

    Raises:
        MessageTooLarge: With its reserve it is longer than :data:`~postback._events.payload.MAX_MESSAGE_BYTES`, which a worker
            would bury.
    """
    if size + RESERVED_BYTES > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(event.title(), size + RESERVED_BYTES, MAX_MESSAGE_BYTES)


def headers_of(event: EventData, options: Options) -> dict[str, Any]:
    headers = {**options.headers, "postback_size": event.size()}
    if options.key is not None:
        headers["postback_key"] = options.key
    return headers


def shown_as(event: EventData, account: str, wire: Any) -> str:
    """What Flower and the logs show of the message's arguments."""
    return f"{account} {event.summary(wire)}".rstrip()


def result_of(producer: Producer, item: Item) -> EventResult:
    options, message = item.options, item.message
    if message:
        signals.after_task_publish.send(
            sender=item.event.task_name,
            body=message.body,
            exchange="",
            routing_key=keys.queue(*item.place),
            headers=message.headers,
        )
    result = EventResult(
        item.task_id,
        app=producer.app,
        provider=item.event.provider,
        has_result=item.event.has_result and not options.ignore_result,
    )
    if options.parent is not None and options.add_to_parent:
        options.parent.add_trail(result)
    return result


def full(producer: Producer, item: Item) -> QueueFull:
    provider, account = item.place
    return QueueFull(
        f"{item.event.title()} {item.task_id} is not in the queue",
        [item.task_id],
        provider=provider,
        account=account,
        max_queued=producer.accounts.cap(provider, account),
    )


def in_one_line(producer: Producer, error: BaseException) -> str:
    """An error in one line, without the password and without the message that redis-py quotes when a pipeline fails."""
    told = str(error).rpartition("caused error: ")[2].partition(" : <")[0]
    return producer.broker.mask(f"{type(error).__name__}: {told}") if told else type(error).__name__


def _restored(task_id: str, provider: str, has_result: bool) -> EventResult:
    return EventResult(task_id, app=current(provider).app, provider=provider, has_result=has_result)


def _pickled(result: EventResult) -> tuple[Any, ...]:
    return _restored, (result.id, result.provider, result.has_result)


copyreg.pickle(EventResult, _pickled)
