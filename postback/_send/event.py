"""Events as producers see them: what they are, and how they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack, cast

from postback._events import event as data
from postback._send import one

if TYPE_CHECKING:
    from celery.canvas import Signature

    from postback._send.options import SendOptions
    from postback.results import EventResult

__all__ = ["EVENTS", "Event", "event_class"]


class Event(data.EventData):
    """One event for one provider.

    It is immutable, equal to any event with the same fields, and safe to share between threads.

    Attributes:
        account: The account whose credentials and quota carry it. None is the provider's only
            account, or the one named ``main``. The provider does not get it.
    """

    def delay(self) -> EventResult:
        """Put the event into its account's queue.

        It takes at most ``POSTBACK_SEND_TIMEOUT_S`` (2 s), whatever Redis does.

        Returns:
            A Celery AsyncResult. Its ``.id`` is the event's id.

        Raises:
            UnknownAccount: The provider has no such account.
            MessageTooLarge: A carried payload is too long for a message; nothing was sent.
            NotEnqueued: Redis is away or full; the event is certainly not in the queue.
            QueueFull: A ``NotEnqueued``: the account has its ``max_queued`` of events waiting.
            EnqueueUnknown: Redis did not answer; the event may be in the queue or not.
        """
        return one.send(self, {})

    def apply_async(self, **options: Unpack[SendOptions]) -> EventResult:
        """Put the event into its account's queue with Celery's options.

        Args:
            **options: Celery's own, and ``idempotency_key``; see
                :class:`~postback._send.options.SendOptions`.

        Returns:
            A Celery AsyncResult. Its ``.id`` is the event's id.

        Raises:
            TypeError: There is no such option, an event cannot have it, or its type is wrong.
            ValueError: An option is out of range.
            UnknownAccount, MessageTooLarge, NotEnqueued, EnqueueUnknown: As for :meth:`delay`.
        """
        return one.send(self, {**options})

    def si(self, **options: Unpack[SendOptions]) -> Signature[Any]:
        """An immutable Celery signature for ``link=``, chains and beat schedules of any app.

        The event's time is left open. A worker sets it when it first takes the event.

        Args:
            **options: As for :meth:`apply_async`.
        """
        return one.signature(self, {**options})

    async def adelay(self, **options: Unpack[SendOptions]) -> EventResult:
        """:meth:`apply_async` in a thread, for bots and asynchronous views.

        Args:
            **options: As for :meth:`apply_async`.
        """
        return await asyncio.to_thread(one.send, self, {**options})

    def delay_on_commit(self, *, using: str | None = None, **options: Unpack[SendOptions]) -> EventResult:
        """Send the event when Django's transaction commits, or at once if none is open.

        It is not sent if the transaction is rolled back. If the send itself fails after the commit,
        the event is lost: nothing is raised, and the logger ``postback`` gets one ERROR line with
        the event's id. :meth:`delay_via_outbox` loses no event.

        Args:
            using: Alias of the database; None is the default one.
            **options: As for :meth:`apply_async`.

        Returns:
            A Celery AsyncResult. Its ``.id`` is the event's id, in the log line too.

        Raises:
            UnknownAccount: The provider has no such account. It is raised at the call, as all that
                is wrong is. If Redis is away, the name is not checked.
            TypeError, ValueError, MessageTooLarge: As for :meth:`apply_async`.
            ConfigurationError: Django is not installed, or its settings are wrong.
        """
        return one.send_on_commit(self, {**options}, using)

    def delay_via_outbox(self, *, using: str | None = None, **options: Unpack[SendOptions]) -> EventResult:
        """Write the event into Django's database. ``postback_relay`` sends it.

        It is committed or rolled back with the open transaction. Redis is asked for the names of
        the accounts, once in 30 s, and not needed. The event's time, ``countdown`` and ``expires``
        count from now.

        Args:
            using: Alias of the database; None is the one that Django's routers choose for the
                outbox.
            **options: As for :meth:`apply_async`.

        Returns:
            A Celery AsyncResult. Its ``.id`` is the event's id in the outbox, in Redis and in
            Flower.

        Raises:
            ConfigurationError: ``postback.contrib.django`` is not installed or not migrated, or its
                settings are wrong.
            UnknownAccount: The provider has no such account. If Redis is away, the name is not
                checked, and the relay marks the event as failed.
            TypeError: As for :meth:`apply_async`, or an option is not JSON.
            ValueError: An option is out of range.
            MessageTooLarge: The event and its options are too long for a message; nothing was
                written.
        """
        return one.send_via_outbox(self, {**options}, using)


#: Task name -> event class, over all providers.
EVENTS = cast(Mapping[str, type[Event]], data.EVENTS)  # every class with a method is made from Event


def event_class(task_name: str) -> type[Event]:
    """The class of a task's events.

    Args:
        task_name: ``"tgtrack.add_event"``.

    Raises:
        KeyError: No event has this task.
    """
    return EVENTS[task_name]
