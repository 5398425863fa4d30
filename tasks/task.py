"""The Celery tasks: one per event class, all of one behaviour.

A worker delivers events without running them as tasks. A task tells Celery what became of an event that something hangs
on, in Celery's own words: a return value (SUCCESS), ``Retry`` (RETRY, the event waits in Redis and not in Celery), or
:class:`~tasks.outcomes.DeadLettered` (FAILURE).
"""

from __future__ import annotations

import math
import time
from typing import Any, ClassVar, NoReturn

from celery import Celery, Task
from celery.exceptions import Retry

from postback._events.event import EVENTS
from postback.errors import UnknownAccount
from tasks.delivery import Delivery
from tasks.envelopes import Envelope
from tasks.followers import RULED
from tasks.grants import Grant
from tasks.outcomes import DeadLettered, Delayed
from tasks.providers import PROVIDERS
from tasks.rulings import Dead, Delivered, Duplicate, Ruling
from tasks.runtime import Runtime


class DeliveryTask(Task):  # type: ignore[type-arg]  # Celery 5.6 cannot be subscripted
    """An event, as Celery knows it."""

    abstract = True
    # The worker validates: a message whose arguments are wrong must become a dead letter, not an
    # exception of the client's.
    typing: bool = False
    acks_late: bool = True
    # Attempts are counted by Postback, in the message.
    max_retries: int | None = None
    # Expected: one line in the log, no traceback.
    throws: tuple[type[Exception], ...] = (DeadLettered,)
    #: The worker that it runs in.
    runtime: ClassVar[Runtime]

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Say what became of an event; called by hand or eagerly (``task.apply()``), deliver it first.

        Raises:
            UnknownAccount: Called by hand, for an account that the accounts file does not have.
        """
        ruling: Ruling | None = getattr(self.request, RULED, None)
        return _told(ruling or self._deliver(kwargs))

    def _deliver(self, kwargs: dict[str, Any]) -> Ruling:
        provider, name = self.name.partition(".")[0], kwargs.get("account", "main")
        accounts = self.runtime.accounts
        account = accounts.get(f"{provider}.{name}")
        if account is None:
            raise UnknownAccount(provider, str(name), [queue.partition(".")[2] for queue in accounts])
        event = Envelope(raw=b"", id=self.request.id or "", task=self.name, kwargs=kwargs, document={"properties": {}})
        grant = Grant("", account.queue, [event], granted_us=time.time_ns() // 1000, lease_end=math.inf)
        Delivery(account, PROVIDERS[provider], self.runtime.scrub).deliver(grant, self.runtime.sender)
        return event.ruling


def _told(ruling: Ruling) -> Any:
    """A ruling in Celery's words."""
    match ruling:
        case Dead():
            raise DeadLettered(ruling.text)
        case Delivered():
            return ruling.text if ruling.result is None else ruling.result
        case Duplicate():
            return ruling.text
        case _:
            _wait(ruling.text, ruling.after_s)


def _wait(text: str, after_s: float | None) -> NoReturn:
    raise Retry(text, exc=Delayed(text), when=after_s)  # type: ignore[arg-type]


def register(app: Celery, runtime: Runtime) -> None:
    """Add the tasks of all providers to a worker's app."""
    for name, event_class in EVENTS.items():
        attributes: dict[str, Any] = {
            "name": name,
            "runtime": runtime,
            "ignore_result": not event_class.has_result,
            "__doc__": event_class.__doc__,
            "__module__": __name__,
        }
        if event_class.has_result:
            # Flower shows a result's first characters, and what a look-up finds may name a person:
            # leave it none.
            attributes["resultrepr_maxsize"] = 1
        app.register_task(type(event_class.__name__, (DeliveryTask,), attributes)())
