"""How an event gets into its account's queue: one Celery protocol-2 message, one LPUSH, never retried by itself.

The message's headers beyond Celery's own: ``postback_at`` (when it was enqueued, ms), ``postback_size`` (bytes of the
event) and ``postback_key`` (SHA-256 of the idempotency key).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from celery.canvas import Signature
from celery.utils import uuid
from kombu import exceptions as kombu_exceptions

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
from postback.producer import LINK_ERRORS, REFUSALS, Link, Producer, RefusedInPart, current
from postback.results import EventResult
from postback.size import check_size, may_be_too_large

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


#: Raised by kombu 5.7 when a pipeline fails; older ones have no pipelines.
_BATCH_ERROR: Final[type[Exception]] = getattr(kombu_exceptions, "BatchPublishError", kombu_exceptions.OperationalError)


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
        account = producer.accounts.choose(event.provider, event.account)
        message = _message(producer, event, account, task_id, options)
        if may_be_too_large(event, options):
            check_size(event, message)
        with producer.link() as link:
            link.check()
            if producer.rooms(link, [(event.provider, account)]).get((event.provider, account)) == 0:
                raise _full(producer, event, account, task_id)
            try:
                _publish(producer, link, event, account, message, options)
            except REFUSALS:
                raise
            except LINK_ERRORS as lost:
                raise EnqueueUnknown(
                    f"{event.title()} {task_id} may be in the queue or not: {_told(producer, lost)}", [task_id]
                ) from None
    except LINK_ERRORS as away:
        raise NotEnqueued(
            f"{event.title()} {task_id} is not in the queue: {_told(producer, away)}", [task_id]
        ) from None
    return _result(producer, event, task_id, options)


def _full(producer: Producer, event: Event, account: str, task_id: str) -> QueueFull:
    return QueueFull(
        f"{event.title()} {task_id} is not in the queue",
        [task_id],
        provider=event.provider,
        account=account,
        max_queued=producer.accounts.cap(event.provider, account),
    )


def _message(producer: Producer, event: Event, account: str, task_id: str, options: Options) -> Any:
    """The Celery message, not yet serialised."""
    now_s = time.time()
    headers = _headers(event, options)
    headers["postback_at"] = int(now_s * 1000)
    wire = event.with_time(now_s)._wire()
    message = producer.app.amqp.create_task_message(
        task_id,
        event.task_name,
        [],
        {"account": account, "event": wire},
        argsrepr="()",
        kwargsrepr=_repr(event, account, wire),
        ignore_result=options.ignore_result,
        **options.for_message(producer.app),
    )
    message.headers.update(headers)
    return message


def check_message(event: Event, options: Options) -> None:
    """Refuse now what :func:`send` would refuse later for its size. Redis is not asked.

    Raises:
        MessageTooLarge, TypeError: See :func:`postback.size.check_size`.
    """
    if may_be_too_large(event, options):
        message = _message(
            current(event.provider), event, event.account or DEFAULT_ACCOUNT, options.task_id or uuid(), options
        )
        check_size(event, message, later=True)


def _headers(event: Event, options: Options) -> dict[str, Any]:
    headers = {**options.headers, "postback_size": event.size()}
    if options.key is not None:
        headers["postback_key"] = options.key
    return headers


def _repr(event: Event, account: str, wire: Any) -> str:
    """What Flower and the logs show of the message's arguments."""
    return f"{account} {event.summary(wire)}".rstrip()


def _publish(producer: Producer, link: Link, event: Event, account: str, message: Any, options: Options) -> None:
    producer.app.amqp.send_task_message(
        link.kombu,
        event.task_name,
        message,
        queue=keys.queue(event.provider, account),
        # The anonymous exchange leads straight to the list: declaring a queue or an exchange would only cost a round
        # trip.
        declare=(),
        retry=False,
        priority=options.priority,
    )


def _result(producer: Producer, event: Event, task_id: str, options: Options) -> EventResult:
    result = EventResult(
        task_id, app=producer.app, provider=event.provider, has_result=event.has_result and not options.ignore_result
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
    except (_BATCH_ERROR, *LINK_ERRORS) as failed:
        raise progress.error(ids, _told(producer, progress.learn(failed.__cause__ or failed))) from None
    made = {
        item.task_id: _result(producer, item.event, item.task_id, item.options)
        for producer in work
        for item in work[producer]
    }
    return [made[task_id] for task_id in ids]


@dataclass(slots=True)
class _Item:
    """One event of a ``send_many``."""

    event: Event
    task_id: str
    account: str
    options: Options

    @property
    def place(self) -> tuple[str, str]:
        """Provider and account's name."""
        return self.event.provider, self.account


@dataclass(slots=True)
class _Progress:
    """What is known of a ``send_many``: ids certainly in, and ids whose reply is awaited."""

    enqueued: list[str] = field(default_factory=list)
    awaited: list[str] = field(default_factory=list)

    def learn(self, failure: BaseException) -> BaseException:
        """Note what Redis said of each awaited event, if it answered; returns the reason to give.

        Callers go by position: first those that are in, then those of which it is not known. What Redis took behind one
        that it refused (it had room again) is therefore not known, with what lies between.
        """
        if isinstance(failure, RefusedInPart):
            refused = failure.taken.index(False)
            end = max((position for position, taken in enumerate(failure.taken, 1) if taken), default=0)
            self.enqueued += self.awaited[:refused]
            self.awaited = self.awaited[refused:end]
            return failure.__cause__ or failure
        if isinstance(failure, REFUSALS) and len(self.awaited) == 1:
            self.awaited = []
        return failure

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
    """Publish in pipelines of ``BATCH_EVENTS``, each one round trip; one by one if kombu or its settings cannot.

    Raises:
        QueueFull: An account has no room for the next event; those before it are in ``progress``.
    """
    with producer.link() as link:
        size = BATCH_EVENTS if getattr(link.kombu, "supports_batch_publish", False) else 1
        start = 0
        while start < len(items):
            link.check()
            chunk = _fitting(producer, link, items[start : start + size])
            messages = [_message(producer, item.event, item.account, item.task_id, item.options) for item in chunk]
            # One more than the chunk: nothing is flushed before the block's end, so a failure concerns it as a whole.
            with link.kombu.batch(max_size=size + 1) if size > 1 else nullcontext():
                if size == 1:
                    progress.awaited = [chunk[0].task_id]
                for item, message in zip(chunk, messages, strict=True):
                    _publish(producer, link, item.event, item.account, message, item.options)
                progress.awaited = [item.task_id for item in chunk]
            progress.enqueued += progress.awaited
            progress.awaited = []
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
            raise _full(producer, item.event, item.account, item.task_id)
        if room == 0:
            return items[:position]
        if room is not None:
            rooms[item.place] = room - 1
    return items
