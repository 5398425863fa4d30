"""Many events through pipelines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from celery.utils import uuid

from postback._events.event import EventData
from postback._send.connections import CONNECTION_ERRORS, Connection
from postback._send.options import read_options
from postback._send.outgoing import Outgoing, check_message, in_one_line, prepare, queue_full, result_of
from postback._send.producer import Producer, current
from postback._send.redirects import redirects
from postback.errors import NotEnqueued, PartlyEnqueued, QueueFull, SendError
from postback.results import EventResult

__all__ = ["BATCH_EVENTS", "send_many"]

#: Events per pipeline: enough to make the round trip vanish, few enough for one reply's time limit.
BATCH_EVENTS: Final = 500


def send_many(events: Iterable[EventData]) -> list[EventResult]:
    """Enqueue many events through pipelines of 500: all of them, or an error that says how many.

    All accounts and sizes are checked before the first event is sent.

    Args:
        events: Any number, of any providers and accounts.

    Returns:
        The results, in the order of the events.

    Raises:
        UnknownAccount, MessageTooLarge: Nothing was sent.
        NotEnqueued: None of the events is in its queue. It is a :class:`~postback.errors.QueueFull`
            if an account has its ``max_queued`` of events waiting; Redis is asked before each
            pipeline.
        PartlyEnqueued: ``.enqueued`` events are certainly in their queues: the first ones, if all
            providers share one Redis. The ids of the others are in ``.unknown_ids`` and
            ``.rejected_ids``.
    """
    batch = list(events)
    sink = redirects.sink_in_place()
    if sink is not None:
        return [sink(event, {}) for event in batch]
    ids = [uuid() for _ in batch]
    by_producer: dict[Producer, list[Outgoing]] = {}
    progress = _Progress()
    try:
        for event, task_id in zip(batch, ids, strict=True):
            producer = current(event.provider)
            account = producer.accounts.choose(event.provider, event.account)
            options = read_options(event, {})
            check_message(event, options)
            by_producer.setdefault(producer, []).append(Outgoing(event, task_id, account, options))
        for producer, outgoing in by_producer.items():
            _send_all(producer, outgoing, progress)
    except QueueFull as full:
        if progress.enqueued:
            raise progress.error(ids, str(full)) from full
        full.ids = tuple(ids)
        raise
    except CONNECTION_ERRORS as failed:
        raise progress.error(ids, in_one_line(producer, failed)) from None
    results = {sent.task_id: result_of(producer, sent) for producer in by_producer for sent in by_producer[producer]}
    return [results[task_id] for task_id in ids]


@dataclass(slots=True)
class _Progress:
    """How far a ``send_many`` has come.

    Attributes:
        enqueued: Ids of events that are certainly in their queues.
        awaited: Ids of events whose reply has not come yet.
    """

    enqueued: list[str] = field(default_factory=list)
    awaited: list[str] = field(default_factory=list)

    def note_replies(self, refusals: list[Exception | None]) -> None:
        """Note what Redis answered about each awaited event.

        Callers go by position: the enqueued events come first, the unknown ones follow. Redis may
        have room again and take an event behind one that it refused. That event and all between
        the two then count as unknown.

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

    def error(self, ids: list[str], reason: str) -> SendError:
        """The error that says how far it came.

        Args:
            ids: Of all events of the call.
            reason: Why it stopped, in one line.
        """
        if not self.enqueued and not self.awaited:
            return NotEnqueued(f"none of {len(ids)} events is in its queue: {reason}", ids)
        touched = {*self.enqueued, *self.awaited}
        return PartlyEnqueued(
            f"{len(self.enqueued)} of {len(ids)} events are in their queues, "
            f"for {len(self.awaited)} it is unknown: {reason}",
            enqueued_ids=self.enqueued,
            unknown_ids=self.awaited,
            rejected_ids=[task_id for task_id in ids if task_id not in touched],
        )


def _send_all(producer: Producer, outgoing: list[Outgoing], progress: _Progress) -> None:
    """Send in pipelines of ``BATCH_EVENTS``, each one round trip; note it in ``progress``.

    Raises:
        QueueFull: An account has no room for the next event.
        redis.RedisError, OSError: Redis refused, or its reply was lost.
    """
    with producer.connection() as connection:
        start = 0
        while start < len(outgoing):
            connection.check()
            chunk = _fitting(producer, connection, outgoing[start : start + BATCH_EVENTS])
            entries = [prepare(producer, item) for item in chunk]
            progress.awaited = [item.task_id for item in chunk]
            progress.note_replies(connection.push(entries))
            start += len(chunk)


def _fitting(producer: Producer, connection: Connection, outgoing: list[Outgoing]) -> list[Outgoing]:
    """The events before the first one whose account has no room; at least one.

    Raises:
        QueueFull: The first one's account has no room.
    """
    rooms = producer.rooms(connection, [item.place for item in outgoing])
    for position, item in enumerate(outgoing if rooms else ()):
        room = rooms.get(item.place)
        if room == 0 and position == 0:
            raise queue_full(producer, item)
        if room == 0:
            return outgoing[:position]
        if room is not None:
            rooms[item.place] = room - 1
    return outgoing
