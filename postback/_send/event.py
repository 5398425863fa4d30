"""Events as producers see them: what they are, and how they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from postback._events import event as data
from postback._send import one

if TYPE_CHECKING:
    from celery.canvas import Signature

    from postback.results import EventResult

__all__ = ["EVENTS", "Event", "event_class"]


class Event(data.EventData):
    """One event for one provider: immutable, equal to any event with the same fields, safe to share between threads.

    Attributes:
        account: Which account's credentials and quota carry it; None is the provider's only account or the one named
            ``main``. It is not part of what the provider gets.
    """

    def delay(self) -> EventResult:
        """Put the event into its account's queue.

        Takes at most ``POSTBACK_SEND_TIMEOUT_S`` (2 s), whatever Redis does.

        Returns:
            A Celery AsyncResult; ``.id`` is the event's id.

        Raises:
            UnknownAccount: The provider's accounts are known and this is none of them.
            MessageTooLarge: A carried payload becomes too long for a message; nothing was sent.
            NotEnqueued: Redis is away or full; the event is certainly not in the queue.
            QueueFull: The account has its ``max_queued`` of events waiting; a ``NotEnqueued``.
            EnqueueUnknown: Redis fell silent after it was written to.
        """
        return one.send(self, {})

    def apply_async(self, **options: Any) -> EventResult:
        """Put the event into its account's queue with Celery's options.

        Args:
            **options: ``countdown`` (s), ``eta``, ``expires``, ``priority`` (0 is first … 9), ``link``,
                ``link_error``, ``task_id``, ``headers`` (merged), and Celery's others; ``idempotency_key`` (str):
                within the horizon (7 days) a
                second event of the account with the same key is dropped.

        Raises:
            TypeError: There is no such option, or it cannot be chosen.
            UnknownAccount, MessageTooLarge, NotEnqueued, EnqueueUnknown: As for :meth:`delay`.
        """
        return one.send(self, options)

    def si(self, **options: Any) -> Signature[Any]:
        """An immutable Celery signature, for ``link=``, chains and beat schedules, also of another Celery app.

        Its time is left open: a worker sets it when it first takes the event.

        Args:
            **options: As for :meth:`apply_async`.
        """
        return one.signature(self, options)

    async def adelay(self, **options: Any) -> EventResult:
        """:meth:`apply_async` in a thread, for bots and asynchronous views."""
        return await asyncio.to_thread(one.send, self, options)

    def delay_on_commit(self, *, using: str | None = None, **options: Any) -> None:
        """Send the event when Django's transaction commits (at once outside of one); never if it is rolled back.

        If the send fails then, the commit stands and nothing is raised: the logger ``postback`` gets one ERROR line
        with the event's id, and the event is lost. :meth:`delay_via_outbox` loses none.

        Args:
            using: Which database's transaction.
            **options: As for :meth:`apply_async`.
        """
        one.send_on_commit(self, options, using)

    def delay_via_outbox(self, *, using: str | None = None, **options: Any) -> EventResult:
        """Write the event into Django's database, in the transaction that is open; ``postback_relay`` sends it.

        It is committed and rolled back with the rest of the transaction. Redis is not asked. Its time, ``countdown``
        and ``expires`` count from now.

        Args:
            using: Which database; None is the one that Django's routers choose for the outbox.
            **options: As for :meth:`apply_async`.

        Returns:
            A Celery AsyncResult; ``.id`` is the event's id in the outbox, in Redis and in Flower.

        Raises:
            ConfigurationError: ``postback.contrib.django`` is not installed or not migrated, or its settings are wrong.
            TypeError: There is no such option, or it cannot be chosen, or it is not JSON.
            MessageTooLarge: With its options it is too long for a message; nothing was written.
        """
        return one.send_via_outbox(self, options, using)


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
