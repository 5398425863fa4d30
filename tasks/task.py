"""The Celery tasks: one per event class, all of one behaviour.

A task finds its grant by delivery tag, delivers it, and tells Celery the outcome in Celery's own words: a return value
(SUCCESS), ``Retry`` (RETRY, the event waits in Redis and not in Celery), or :class:`~tasks.outcomes.DeadLettered`
(FAILURE).
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar, Final, NoReturn

from celery import Celery, Task, states
from celery.exceptions import Ignore, Retry

from postback.events import EVENTS
from tasks.delivery import Delivery
from tasks.followers import RULED, follow_up
from tasks.grants import Grant
from tasks.judge import judge_undecided
from tasks.outcomes import DeadLettered, Delayed
from tasks.providers import PROVIDERS
from tasks.rulings import Again, Dead, Delivered, Duplicate, Ruling, Waiting
from tasks.runtime import Runtime

#: Runs for messages that are no events of ours, so that Flower shows why they became dead letters.
REFUSED_TASK: Final = "postback.refused"


class DeliveryTask(Task[Any, Any]):
    """Delivers one event, or a batch of one task that the transport put together."""

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
        """Deliver the grant that this message stands for."""
        ruling: Ruling | None = getattr(self.request, RULED, None)
        if ruling is not None:
            return _told(ruling)
        grant = self._grant()
        if grant is None:
            # Its lease ran out while it waited for a thread; Redis has queued its events again.
            raise Ignore
        running = self.runtime
        account = running.account(grant.queue)
        if account is None:
            grant.settlement = grant.put_back()
            raise Retry("the account is gone from the accounts file", exc=Delayed("account removed"))
        report = Delivery(account, PROVIDERS[account.provider], running.sender, running.scrub).deliver(grant)
        grant.decided = report.settlement
        if len(grant.envelopes) > 1:
            self._follow_up(grant)
        running.observe(report)
        if all(isinstance(ruling, Waiting) for ruling in report.rulings):
            # Nothing is published for what waits, and Celery calls no `after_return`: the
            # acknowledgement settles it.
            grant.settlement = grant.decided
        if grant.envelopes[0].duplicate_of == self.request.id and not self.ignore_result:
            # A second copy of a look-up that has its result: a result of its own would replace that.
            grant.settlement = grant.decided
            raise Ignore
        return _told(report.rulings[0]) if len(report.rulings) == 1 else _told_together(report.rulings)

    def _follow_up(self, grant: Grant) -> None:
        """What hangs on single events of a batch is published before the batch settles."""
        for envelope in grant.envelopes:
            if not follow_up(self.app, envelope):
                # The provider has it, what hangs on it was not published: once more, and flagged.
                words = "ambiguous what hangs on it could not be published"
                envelope.ruling = Again(1.0, words, ambiguous=True)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Settle.

        Celery calls this when links are published and the result is stored, in the thread that ran the task.
        """
        grant = self._grant()
        if grant is None:
            return
        grant.settlement = grant.settlement or grant.decided
        if grant.settlement is None or (status == states.FAILURE and not isinstance(retval, DeadLettered)):
            # The provider may have the event, but what hangs on it was not published: once more, and
            # flagged.
            grant.settlement = judge_undecided(grant, self.runtime.account(grant.queue), ran=True)
        self.runtime.settle(grant)

    def _grant(self) -> Grant | None:
        properties = self.request.properties or {}
        return self.runtime.grants.get(properties.get("delivery_tag", ""))


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


def _told_together(rulings: list[Ruling]) -> str:
    """Those of a batch."""
    counts, first = Counter(ruling.kind for ruling in rulings), rulings[0]
    words = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    if isinstance(first, Waiting) and counts.keys() <= {"retry", "wait"}:
        _wait(f"{first.text} ({words})", first.after_s)
    if counts.keys() == {"dead"}:
        raise DeadLettered(f"{first.text} ({words})")
    return words


def _wait(text: str, after_s: float | None) -> NoReturn:
    raise Retry(text, exc=Delayed(text), when=after_s)  # type: ignore[arg-type]


def register(app: Celery, runtime: Runtime) -> None:
    """Add the tasks of all providers to a worker's app."""
    for name, event_class in EVENTS.items():
        attributes: dict[str, Any] = {"ignore_result": not event_class.has_result, "__doc__": event_class.__doc__}
        if event_class.has_result:
            # Flower shows a result's first characters, and what a look-up finds may name a person:
            # leave it none.
            attributes["resultrepr_maxsize"] = 1
        _add(app, runtime, event_class.__name__, name, attributes)
    _add(app, runtime, "Refused", REFUSED_TASK, {"ignore_result": True, "__doc__": "A message that is no event."})


def _add(app: Celery, runtime: Runtime, class_name: str, name: str, attributes: dict[str, Any]) -> None:
    attributes |= {"name": name, "runtime": runtime, "__module__": __name__}
    app.register_task(type(class_name, (DeliveryTask,), attributes)())
