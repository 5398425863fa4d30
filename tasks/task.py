"""The Celery tasks: one per event class, all of one behaviour.

A task finds its grant by delivery tag, delivers it, and tells Celery the outcome in Celery's own words: a return value (SUCCESS), ``Retry`` (RETRY,
the event waits in Redis and not in Celery), or :class:`~tasks.outcomes.DeadLettered` (FAILURE).
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NoReturn

from celery import Celery, Task, states
from celery.exceptions import Ignore, Retry

from postback.events import EVENTS
from tasks import runtime
from tasks.delivery import Delivery, Fate, Report, unsettled
from tasks.followers import DECIDED, follow_up
from tasks.grants import REGISTRY, Grant
from tasks.outcomes import DeadLettered, Delayed
from tasks.registry import PROVIDERS

#: Runs for messages that are no events of ours, so that Flower shows why they became dead letters.
REFUSED_TASK: Final = "postback.refused"


class DeliveryTask(Task[Any, Any]):
    """Delivers one event, or a batch of one task that the transport put together."""

    abstract = True
    # The worker validates: a message whose arguments are wrong must become a dead letter, not an exception of the client's.
    typing: bool = False
    acks_late: bool = True
    # Attempts are counted by Postback, in the message.
    max_retries: int | None = None
    # Expected: one line in the log, no traceback.
    throws: tuple[type[Exception], ...] = (DeadLettered,)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Deliver the grant that this message stands for."""
        decided: Fate | None = getattr(self.request, DECIDED, None)
        if decided is not None:
            return _told_one(decided)
        grant = self._grant()
        if grant is None:
            # Its lease ran out while it waited for a thread; Redis has queued its events again.
            raise Ignore
        running = runtime.current()
        account = running.account(grant.queue)
        if account is None:
            grant.settlement = grant.put_back()
            raise Retry("the account is gone from the accounts file", exc=Delayed("account removed"))
        delivery = Delivery(account, PROVIDERS[account.provider], running.sender, running.scrub)
        report = delivery.deliver(grant)
        grant.decided = report.settlement
        if len(grant.envelopes) > 1:
            self._follow_up(grant, report)
        running.observe(grant, report)
        if all(fate.kind in ("retry", "wait") for fate in report.fates):
            # Nothing is published for what waits, and Celery calls no `after_return`: the acknowledgement settles it.
            grant.settlement = grant.decided
        if grant.envelopes[0].duplicate_of == self.request.id and not self.ignore_result:
            # A second copy of a look-up that has its result: a result of its own would replace that.
            grant.settlement = grant.decided
            raise Ignore
        return _told(report)

    def _follow_up(self, grant: Grant, report: Report) -> None:
        """What hangs on single events of a batch is published before the batch settles."""
        for position, (envelope, fate) in enumerate(zip(grant.envelopes, report.fates, strict=True)):
            if not follow_up(self.app, envelope, fate):
                # The provider has it, what hangs on it was not published: once more, and flagged.
                settlement = report.settlement
                settlement.delivered -= int(fate.kind == "delivered")
                settlement.messages = [line for line in settlement.messages if line[0] != position + 1]
                settlement.messages.append([position + 1, "retry", 1000, 1])
                report.fates[position] = Fate("retry", "ambiguous what hangs on it could not be published")

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Settle. Celery calls this when links are published and the result is stored, in the thread that ran the task."""
        grant = self._grant()
        if grant is None:
            return
        running = runtime.current()
        grant.settlement = grant.settlement or grant.decided
        if grant.settlement is None or (status == states.FAILURE and not isinstance(retval, DeadLettered)):
            # The provider may have the event, but what hangs on it was not published: once more, and flagged.
            grant.settlement = unsettled(grant, running.account(grant.queue), ran=True)
        running.settle(grant)

    def _grant(self) -> Grant | None:
        properties = self.request.properties or {}
        return REGISTRY.get(properties.get("delivery_tag", ""))


def _told(report: Report) -> Any:
    """The outcome in Celery's words."""
    if len(report.fates) == 1:
        return _told_one(report.fates[0])
    counts = Counter(fate.kind for fate in report.fates)
    words = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    if counts.keys() <= {"retry", "wait"}:
        _wait(Fate("wait", f"{report.fates[0].text} ({words})", again_in_s=report.fates[0].again_in_s))
    if counts.keys() == {"dead"}:
        raise DeadLettered(f"{report.fates[0].text} ({words})")
    return words


def _told_one(fate: Fate) -> Any:
    if fate.kind == "dead":
        raise DeadLettered(fate.text)
    if fate.kind in ("retry", "wait"):
        _wait(fate)
    return fate.text if fate.result is None else fate.result


def _wait(fate: Fate) -> NoReturn:
    raise Retry(fate.text, exc=Delayed(fate.text), when=fate.again_in_s)  # type: ignore[arg-type]


def register(app: Celery) -> None:
    """Add the tasks of all providers to an app."""
    for name, event_class in EVENTS.items():
        attributes: dict[str, Any] = {
            "name": name,
            "ignore_result": not event_class.has_result,
            "__doc__": event_class.__doc__,
            "__module__": __name__,
        }
        if event_class.has_result:
            # Flower shows a result's first characters, and what a look-up finds may name a person: leave it none.
            attributes["resultrepr_maxsize"] = 1
        app.register_task(type(event_class.__name__, (DeliveryTask,), attributes)())
    refused = {
        "name": REFUSED_TASK,
        "ignore_result": True,
        "__doc__": "A message that is no event.",
        "__module__": __name__,
    }
    app.register_task(type("Refused", (DeliveryTask,), refused)())
