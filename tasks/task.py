"""The Celery tasks: one per event class, all with the same behaviour.

A worker delivers events without running them as tasks. A task runs only for an event with
followers (:mod:`tasks.followers`). It tells Celery the event's ruling in Celery's terms: a return
value (SUCCESS), ``Retry`` (RETRY: the event waits in Redis, not in Celery), or
:class:`~postback.errors.DeadLettered` (FAILURE).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, Protocol

from celery import Celery, Task
from celery.exceptions import Retry

from config.accounts import Account
from postback._events.event import EVENTS
from postback.errors import DeadLettered, UnknownAccount
from tasks.delivery import Delivery
from tasks.envelopes import Envelope
from tasks.followers import RULED
from tasks.grants import Grant
from tasks.outcomes import Delayed
from tasks.providers import PROVIDERS
from tasks.request import Sender
from tasks.rulings import Dead, Delivered, Duplicate, Ruling


class Runtime(Protocol):
    """The worker, as its tasks see it. ``workers.worker`` has the real one: imports go one way."""

    @property
    def accounts(self) -> Mapping[str, Account]:
        """The accounts that it serves, by queue."""

    @property
    def sender(self) -> Sender:
        """Sends the events of tasks that are called by hand."""

    def scrub(self, text: str, /) -> str:
        """The text with every known credential masked."""


class DeliveryTask(Task):  # type: ignore[type-arg]  # Celery 5.6 cannot be subscripted
    """An event, as Celery knows it."""

    abstract = True
    # The worker validates: a message with wrong arguments must become a dead letter, not an
    # exception at the client.
    typing: bool = False
    acks_late: bool = True
    # Attempts are counted by Postback, in the message.
    max_retries: int | None = None
    # Expected: one line in the log, no traceback.
    throws: tuple[type[Exception], ...] = (DeadLettered,)
    #: The worker in which it runs.
    runtime: ClassVar[Runtime]

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Return or raise an event's ruling. A call by hand (``task.apply()``) delivers it first.

        Raises:
            UnknownAccount: Called by hand, for an account that the accounts file does not have.
        """
        ruling: Ruling | None = getattr(self.request, RULED, None)
        return _celery_result(ruling or self._deliver(kwargs))

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


def _celery_result(ruling: Ruling) -> Any:
    """A ruling in Celery's terms."""
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
            # Flower shows a result's first characters, and a look-up's result may name a person:
            # it shows none.
            attributes["resultrepr_maxsize"] = 1
        app.register_task(type(event_class.__name__, (DeliveryTask,), attributes)())
