"""How an event gets into its account's queue: one Celery message, one LPUSH, never retried by itself (ADR 30).

The message's headers beyond Celery's own: ``postback_at`` (when it was enqueued, ms), ``postback_size`` (bytes of the
event) and ``postback_key`` (SHA-256 of the idempotency key).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from celery import signals
from celery.canvas import Signature
from celery.utils import uuid

from postback import keys
from postback.accounts import DEFAULT_ACCOUNT
from postback.errors import (
    ConfigurationError,
    EnqueueUnknown,
    NotEnqueued,
    PartlyEnqueued,
    PostbackError,
    QueueFull,
    SendError,
)
from postback.options import Options, read_options
from postback.producer import LINK_ERRORS, REFUSALS, Link, Producer, current
from postback.results import EventResult
from postback.size import LATER_BYTES, check_size, may_be_too_large
from postback.wire.message import entry, list_of

if TYPE_CHECKING:
    from postback.events import Event

__all__ = [
    "BATCH_EVENTS",
    "Sink",
    "check_message",
    "is_collecting",
    "send",
    "send_in_thread",
    "send_many",
    "send_on_commit",
    "send_via_outbox",
    "set_sink",
    "signature",
]

logger = logging.getLogger("postback")

#: Events per pipeline of ``send_many``: large enough to make the round trip vanish, small enough for one reply's time
#: limit.
BATCH_EVENTS: Final = 500


class Sink(Protocol):
    """Takes events in place of Redis; see :mod:`postback.testing`."""

    def __call__(self, event: Event, options: dict[str, Any]) -> EventResult:
        """Take one event with the options of its send."""


_sink: Sink | None = None


def set_sink(sink: Sink | None) -> Sink | None:
    """Send to a sink instead of Redis, in all threads; returns the one before."""
    global _sink
    before, _sink = _sink, sink
    return before


def is_collecting() -> bool:
    """Whether sends go to a sink."""
    return _sink is not None


def send(event: Event, given: dict[str, Any]) -> EventResult:
    """Enqueue one event; see :meth:`postback.events.Event.apply_async`."""
    if _sink is not None:
        return _sink(event, given)
    options = read_options(event, given)
    producer = current(event.provider)
    task_id = options.task_id or uuid()
    try:
        item = _Item(event, task_id, producer.accounts.choose(event.provider, event.account), options)
        pushed = _ready(producer, item)
        with producer.link() as link:
            link.check()
            if producer.rooms(link, [item.place]).get(item.place) == 0:
                raise _full(producer, item)
            try:
                (refusal,) = link.push([pushed])
            except REFUSALS:
                raise
            except LINK_ERRORS as lost:
                raise EnqueueUnknown(
                    f"{event.title()} {task_id} may be in the queue or not: {_told(producer, lost)}", [task_id]
                ) from None
            if refusal:
                raise refusal
    except LINK_ERRORS as away:
        raise NotEnqueued(
            f"{event.title()} {task_id} is not in the queue: {_told(producer, away)}", [task_id]
        ) from None
    return _result(producer, item)


def _full(producer: Producer, item: _Item) -> QueueFull:
    provider, account = item.place
    return QueueFull(
        f"{item.event.title()} {item.task_id} is not in the queue",
        [item.task_id],
        provider=provider,
        account=account,
        max_queued=producer.accounts.cap(provider, account),
    )


def _message(producer: Producer, item: _Item) -> Any:
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
        kwargsrepr=_repr(event, item.account, wire),
        ignore_result=options.ignore_result,
        **options.for_message(producer.app),
    )
    message.headers.update(_headers(event, options), postback_at=int(now_s * 1000))
    return message


def _ready(producer: Producer, item: _Item) -> tuple[str, str, bytes]:
    """What is pushed, after those were heard who listen to Celery's signals: tracing adds its headers there."""
    message = _message(producer, item)
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


def _entry(item: _Item, message: Any, spare_bytes: int = 0) -> tuple[str, str, bytes]:
    """Its queue, the queue's list, and the message that is pushed there.

    Raises:
        MessageTooLarge, TypeError: See :func:`postback.size.check_size`.
    """
    event, priority, queue = item.event, item.options.priority, keys.queue(*item.place)
    try:
        raw = entry(message.headers, message.properties, message.body, queue, priority)
    except (TypeError, ValueError, RecursionError) as unencodable:
        raise TypeError(f"{event.title()}: headers, link and the other options must be JSON") from unencodable
    check_size(event, len(raw) + spare_bytes)
    return queue, list_of(queue, priority), raw


def check_message(event: Event, options: Options) -> None:
    """Refuse now what :func:`send` would refuse later for its size. Redis is not asked.

    Raises:
        MessageTooLarge, TypeError: See :func:`postback.size.check_size`.
    """
    if may_be_too_large(event, options):
        account = event.account or DEFAULT_ACCOUNT
        item = _Item(event, options.task_id or uuid(), account, options)
        _entry(item, _message(current(event.provider), item), LATER_BYTES)


def _headers(event: Event, options: Options) -> dict[str, Any]:
    headers = {**options.headers, "postback_size": event.size()}
    if options.key is not None:
        headers["postback_key"] = options.key
    return headers


def _repr(event: Event, account: str, wire: Any) -> str:
    """What Flower and the logs show of the message's arguments."""
    return f"{account} {event.summary(wire)}".rstrip()


def _result(producer: Producer, item: _Item) -> EventResult:
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


def _told(producer: Producer, error: BaseException) -> str:
    """An error in one line, without the password and without the message that redis-py quotes when a pipeline fails."""
    told = str(error).rpartition("caused error: ")[2].partition(" : <")[0]
    return producer.broker.mask(f"{type(error).__name__}: {told}") if told else type(error).__name__


def signature(event: Event, given: dict[str, Any]) -> Signature[Any]:
    """See :meth:`postback.events.Event.si`."""
    options = read_options(event, given)
    check_message(event, options)
    producer = current(event.provider)
    account = event.account or DEFAULT_ACCOUNT
    if _sink is None:
        with suppress(*LINK_ERRORS):  # nothing is sent yet: what cannot be looked up is taken at its word
            account = producer.accounts.choose(event.provider, event.account)
    wire = event.wire()
    made: Signature[Any] = Signature(
        event.task_name,
        args=(),
        kwargs={"account": account, "event": wire},
        immutable=True,
        app=producer.app,
        options={
            **options.for_signature(),
            "queue": keys.queue(event.provider, account),
            "priority": options.priority,
            "headers": _headers(event, options),
            "ignore_result": options.ignore_result,
            "argsrepr": "()",
            "kwargsrepr": _repr(event, account, wire),
        },
    )
    for callback in options.link:
        made.link(callback)
    for callback in options.link_error:
        made.link_error(callback)
    return made


async def send_in_thread(event: Event, given: dict[str, Any]) -> EventResult:
    """See :meth:`postback.events.Event.adelay`."""
    return await asyncio.to_thread(send, event, given)


def send_on_commit(event: Event, given: dict[str, Any], using: str | None) -> None:
    """See :meth:`postback.events.Event.delay_on_commit`."""
    from importlib import import_module  # Django is not a dependency

    # What is wrong must fail here, not in a hook after the commit.
    check_message(event, read_options(event, given))
    given = {**given, "task_id": given.get("task_id") or uuid()}

    def send_committed() -> None:
        try:
            send(event, given)
        except Exception as failed:
            # The order is committed: an exception from here would answer its buyer with an error page and keep Django
            # from running the hooks behind this one.
            told = str(failed) if isinstance(failed, PostbackError) else type(failed).__name__
            logger.error("%s %s was not sent after the commit: %s", event.title(), given["task_id"], told)

    import_module("django.db.transaction").on_commit(send_committed, using=using)


def send_via_outbox(event: Event, given: dict[str, Any], using: str | None) -> EventResult:
    """See :meth:`postback.events.Event.delay_via_outbox`."""
    from importlib import import_module

    try:
        outbox = import_module("postback.contrib.django.outbox")
    except ModuleNotFoundError as missing:
        raise ConfigurationError("delay_via_outbox needs Django: pip install 'postback[django]'") from missing
    result: EventResult = outbox.write(event, given, using)
    return result


def send_many(events: Iterable[Event]) -> list[EventResult]:
    """Enqueue many events through pipelines: all, or an error that says how many.

    Args:
        events: Any number, of any providers and accounts. Their accounts and sizes are checked before the first is sent.

    Returns:
        The results, in order.

    Raises:
        UnknownAccount, MessageTooLarge: Nothing was sent.
        NotEnqueued: None of the events is in its queue. :class:`QueueFull` if that is because an account has its
            ``max_queued`` of events waiting; asked before each pipeline.
        PartlyEnqueued: ``.enqueued`` events are certainly in their queues (the first ones, if all providers share one
            Redis); the ids of the others are in ``.unknown_ids`` and ``.rejected_ids``.
    """
    batch = list(events)
    if _sink is not None:
        return [_sink(event, {}) for event in batch]
    ids = [uuid() for _ in batch]
    work: dict[Producer, list[_Item]] = {}
    progress = _Progress()
    try:
        for event, task_id in zip(batch, ids, strict=True):
            producer = current(event.provider)
            account = producer.accounts.choose(event.provider, event.account)
            options = read_options(event, {})
            check_message(event, options)
            work.setdefault(producer, []).append(_Item(event, task_id, account, options))
        for producer, items in work.items():
            _send_items(producer, items, progress)
    except QueueFull as full:
        if progress.enqueued:
            raise progress.error(ids, str(full)) from full
        full.ids = tuple(ids)
        raise
    except LINK_ERRORS as failed:
        raise progress.error(ids, _told(producer, failed)) from None
    made = {item.task_id: _result(producer, item) for producer in work for item in work[producer]}
    return [made[task_id] for task_id in ids]


@dataclass(slots=True)
class _Item:
    """One event and how it is sent."""

    event: Event
    task_id: str
    account: str
    options: Options
    #: Celery's message, as long as somebody is to hear that it was sent.
    message: Any = None

    @property
    def place(self) -> tuple[str, str]:
        """Provider and account's name."""
        return self.event.provider, self.account


@dataclass(slots=True)
class _Progress:
    """What is known of a ``send_many``: ids certainly in, and ids whose reply is awaited."""

    enqueued: list[str] = field(default_factory=list)
    awaited: list[str] = field(default_factory=list)

    def heard(self, refusals: list[Exception | None]) -> None:
        """Note what Redis said of each awaited event.

        Callers go by position: first those that are in, then those of which it is not known. What Redis took behind one
        that it refused (it had room again) is therefore not known, with what lies between.

        Raises:
            redis.RedisError: The first refusal.
        """
        refusal = next(filter(None, refusals), None)
        refused = refusals.index(refusal) if refusal else len(refusals)
        end = max((position for position, why in enumerate(refusals, 1) if not why), default=0)
        self.enqueued += self.awaited[:refused]
        self.awaited = self.awaited[refused:end]
        if refusal:
            raise refusal

    def error(self, ids: list[str], told: str) -> SendError:
        """The error that says how far it got."""
        if not self.enqueued and not self.awaited:
            return NotEnqueued(f"none of {len(ids)} events is in its queue: {told}", ids)
        touched = {*self.enqueued, *self.awaited}
        return PartlyEnqueued(
            f"{len(self.enqueued)} of {len(ids)} events are in their queues, "
            f"of {len(self.awaited)} it is not known: {told}",
            enqueued_ids=self.enqueued,
            unknown_ids=self.awaited,
            rejected_ids=[task_id for task_id in ids if task_id not in touched],
        )


def _send_items(producer: Producer, items: list[_Item], progress: _Progress) -> None:
    """Send in pipelines of ``BATCH_EVENTS``, each one round trip.

    Raises:
        QueueFull: An account has no room for the next event; those before it are in ``progress``.
        redis.RedisError, OSError: ``progress`` says how far it got.
    """
    with producer.link() as link:
        start = 0
        while start < len(items):
            link.check()
            chunk = _fitting(producer, link, items[start : start + BATCH_EVENTS])
            pushed = [_ready(producer, item) for item in chunk]
            progress.awaited = [item.task_id for item in chunk]
            progress.heard(link.push(pushed))
            start += len(chunk)


def _fitting(producer: Producer, link: Link, items: list[_Item]) -> list[_Item]:
    """The items, up to the first whose account has no room for it; 1 or more.

    Raises:
        QueueFull: There is none even for the first.
    """
    rooms = producer.rooms(link, [item.place for item in items])
    for position, item in enumerate(items if rooms else ()):
        room = rooms.get(item.place)
        if room == 0 and position == 0:
            raise _full(producer, item)
        if room == 0:
            return items[:position]
        if room is not None:
            rooms[item.place] = room - 1
    return items
