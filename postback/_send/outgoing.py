"""An event on its way out: its Celery message, ready to be pushed (ADR 30).

Headers of the message that are not Celery's: ``postback_at`` (when it was enqueued, ms),
``postback_size`` (bytes of the event) and, with an idempotency key, ``postback_key`` (its SHA-256,
by which scripts compare it) and ``postback_key_text`` (the key, by which people find the event).
"""

from __future__ import annotations

import copyreg
import hashlib
import time
from dataclasses import dataclass
from typing import Any, Final

from celery import signals
from celery.utils import uuid

from postback._events.account_names import DEFAULT_ACCOUNT
from postback._events.event import EventData
from postback._events.payload import MAX_MESSAGE_BYTES
from postback._send.options import MAX_ID_CHARS, MAX_KEY_CHARS, Options
from postback._send.producer import Producer, current
from postback.errors import MessageTooLarge, QueueFull
from postback.results import EventResult
from postback.wire import keys
from postback.wire.message import entry, list_of

__all__ = [
    "Outgoing",
    "arguments_text",
    "check_message",
    "check_size",
    "headers_of",
    "in_one_line",
    "later_result",
    "prepare",
    "queue_full",
    "result_of",
]

#: Most bytes of a queue entry for one byte of its event: JSON makes six of two bytes of UTF-8, and
#: base64 makes four of three of those.
GROWTH: Final = 4
#: Most bytes of a character in JSON: two escapes of six.
CHAR_BYTES: Final = 12
#: Bytes of a queue entry beside its event, if it has none of the options that have no bound: ids,
#: times, a summary of at most 8 short texts, the idempotency key.
PLAIN_BYTES: Final = 8192 + CHAR_BYTES * MAX_KEY_CHARS
#: Bytes that deliveries and a replay may add: their state.
RESERVED_BYTES: Final = 1024
#: Bytes that a message may grow by if it is made now and sent later: its account, times and host
#: are not known yet, nor its key, which may be its id.
LATER_BYTES: Final = 1024 + CHAR_BYTES * MAX_ID_CHARS


@dataclass(slots=True)
class Outgoing:
    """One event and how it is sent.

    Attributes:
        account: The account's name.
        message: Celery's message, kept only if somebody listens to ``after_task_publish``.
    """

    event: EventData
    task_id: str
    account: str
    options: Options
    message: Any = None

    @property
    def place(self) -> tuple[str, str]:
        """``(provider, account's name)``."""
        return self.event.provider, self.account


def make_message(producer: Producer, outgoing: Outgoing) -> Any:
    """The Celery message, not yet serialised."""
    event, options = outgoing.event, outgoing.options
    now_s = time.time()
    wire = event.with_time(now_s)._wire()
    message = producer.app.amqp.create_task_message(
        outgoing.task_id,
        event.task_name,
        [],
        {"account": outgoing.account, "event": wire},
        argsrepr="()",
        kwargsrepr=arguments_text(event, outgoing.account, wire),
        ignore_result=options.ignore_result,
        **options.for_message(producer.app),
    )
    message.headers.update(headers_of(event, options), postback_at=int(now_s * 1000))
    return message


def prepare(producer: Producer, outgoing: Outgoing) -> tuple[str, str, bytes]:
    """Make the entry that is pushed: its queue, the queue's list, the message.

    The receivers of Celery's signal ``before_task_publish`` run first: tracing adds its headers
    there.

    Raises:
        MessageTooLarge, TypeError: See :func:`check_size`.
    """
    message = make_message(producer, outgoing)
    if signals.before_task_publish.receivers:
        signals.before_task_publish.send(
            sender=outgoing.event.task_name,
            body=message.body,
            exchange="",
            routing_key=keys.queue(*outgoing.place),
            declare=(),
            headers=message.headers,
            properties=message.properties,
            retry_policy={},
        )
    if signals.after_task_publish.receivers:
        outgoing.message = message
    return _entry(outgoing, message)


def _entry(outgoing: Outgoing, message: Any, spare_bytes: int = 0) -> tuple[str, str, bytes]:
    event, priority, queue = outgoing.event, outgoing.options.priority, keys.queue(*outgoing.place)
    try:
        raw = entry(message.headers, message.properties, message.body, queue, priority)
    except (TypeError, ValueError, RecursionError) as unencodable:
        raise TypeError(f"{event.title()}: headers, link and the other options must be JSON") from unencodable
    check_size(event, len(raw) + spare_bytes)
    return queue, list_of(queue, priority), raw


def check_message(event: EventData, options: Options) -> None:
    """Refuse now what :func:`postback._send.one.send` would refuse later for its size.

    Redis is not asked.

    Raises:
        MessageTooLarge, TypeError: See :func:`check_size`.
    """
    if may_be_too_large(event, options):
        account = event.account or DEFAULT_ACCOUNT
        outgoing = Outgoing(event, options.task_id or uuid(), account, options)
        _entry(outgoing, make_message(current(event.provider), outgoing), LATER_BYTES)


def may_be_too_large(event: EventData, options: Options) -> bool:
    """Whether the message must be measured; most are too short. O(1) once the event is encoded."""
    unbounded = options.headers or options.link or options.link_error or options.passed
    return bool(unbounded) or GROWTH * event.size() + PLAIN_BYTES > MAX_MESSAGE_BYTES


def check_size(event: EventData, size: int) -> None:
    """Refuse a message that a worker would refuse.

    Args:
        event: For the error's title.
        size: Bytes of its queue entry.

    Raises:
        MessageTooLarge: The message and its reserve have more bytes than
            :data:`~postback._events.payload.MAX_MESSAGE_BYTES`. A worker would bury it.
    """
    if size + RESERVED_BYTES > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(event.title(), size + RESERVED_BYTES, MAX_MESSAGE_BYTES)


def headers_of(event: EventData, options: Options) -> dict[str, Any]:
    """The caller's headers and ours, without the time."""
    headers = {**options.headers, "postback_size": event.size()}
    if options.key is not None:
        headers["postback_key"] = hashlib.sha256(options.key.encode()).hexdigest()
        headers["postback_key_text"] = options.key
    return headers


def arguments_text(event: EventData, account: str, wire: Any) -> str:
    """What Flower and the logs show of the message's arguments."""
    return f"{account} {event.summary(wire)}".rstrip()


def result_of(producer: Producer, outgoing: Outgoing) -> EventResult:
    """The result of an event that is in its queue. Sends Celery's ``after_task_publish``."""
    options, message = outgoing.options, outgoing.message
    if message:
        signals.after_task_publish.send(
            sender=outgoing.event.task_name,
            body=message.body,
            exchange="",
            routing_key=keys.queue(*outgoing.place),
            headers=message.headers,
        )
    result = EventResult(
        outgoing.task_id,
        app=producer.app,
        provider=outgoing.event.provider,
        has_result=outgoing.event.has_result and not options.ignore_result,
    )
    if options.parent is not None and options.add_to_parent:
        options.parent.add_trail(result)
    return result


def queue_full(producer: Producer, outgoing: Outgoing) -> QueueFull:
    """The error for an event whose account has no room."""
    provider, account = outgoing.place
    return QueueFull(
        f"{outgoing.event.title()} {outgoing.task_id} is not in the queue",
        [outgoing.task_id],
        provider=provider,
        account=account,
        max_queued=producer.accounts.cap(provider, account),
    )


def in_one_line(producer: Producer, error: BaseException) -> str:
    """An error in one line, without the password.

    redis-py quotes the message when a pipeline fails; it is left out too.
    """
    text = str(error).rpartition("caused error: ")[2].partition(" : <")[0]
    return producer.broker.mask(f"{type(error).__name__}: {text}") if text else type(error).__name__


def later_result(event: EventData, task_id: str, options: Options) -> EventResult:
    """The result of an event that is sent later."""
    return _unpickle(task_id, event.provider, event.has_result and not options.ignore_result)


def _unpickle(task_id: str, provider: str, has_result: bool) -> EventResult:
    return EventResult(task_id, app=current(provider).app, provider=provider, has_result=has_result)


def _pickle(result: EventResult) -> tuple[Any, ...]:
    return _unpickle, (result.id, result.provider, result.has_result)


copyreg.pickle(EventResult, _pickle)
