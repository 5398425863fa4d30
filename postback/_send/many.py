"""Many events through pipelines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from celery.utils import uuid

from postback._events.event import EventData
from postback._send.message import Item, check_message, full, in_one_line, ready, result_of
from postback._send.options import read_options
from postback._send.producer import LINK_ERRORS, Link, Producer, current
from postback._send.ways import ways
from postback.errors import NotEnqueued, PartlyEnqueued, QueueFull, SendError
from postback.results import EventResult

__all__ = ["BATCH_EVENTS", "send_many"]

#: Events per pipeline: large enough to make the round trip vanish, small enough for one reply's time limit.
BATCH_EVENTS: Final = 500


def send_many(events: Iterable[EventData]) -> list[EventResult]:
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
    if ways.sink is not None:
        return [ways.sink(event, {}) for event in batch]
    ids = [uuid() for _ in batch]
    work: dict[Producer, list[Item]] = {}
    progress = _Progress()
    try:
        for event, task_id in zip(batch, ids, strict=True):
            producer = current(event.provider)
            account = producer.accounts.choose(event.provider, event.account)
            options = read_options(event, {})
            check_message(event, options)
            work.setdefault(producer, []).append(Item(event, task_id, account, options))
        for producer, items in work.items():
            _send_items(producer, items, progress)
    except QueueFull as full:
        if progress.enqueued:
            raise progress.error(ids, str(full)) from full
        full.ids = tuple(ids)
        raise
    except LINK_ERRORS as failed:
        raise progress.error(ids, in_one_line(producer, failed)) from None
    made = {item.task_id: result_of(producer, item) for producer in work for item in work[producer]}
    return [made[task_id] for task_id in ids]


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


def _send_items(producer: Producer, items: list[Item], progress: _Progress) -> None:
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
            pushed = [ready(producer, item) for item in chunk]
            progress.awaited = [item.task_id for item in chunk]
            progress.heard(link.push(pushed))
            start += len(chunk)


def _fitting(producer: Producer, link: Link, items: list[Item]) -> list[Item]:
    """The items, up to the first whose account has no room for it; 1 or more.

    Raises:
        QueueFull: There is none even for the first.
    """
    rooms = producer.rooms(link, [item.place for item in items])
    for position, item in enumerate(items if rooms else ()):
        room = rooms.get(item.place)
        if room == 0 and position == 0:
            raise full(producer, item)
        if room == 0:
            return items[:position]
        if room is not None:
            rooms[item.place] = room - 1
    return items
