"""What Celery is told of events that something hangs on, and what a task does when it is called by
hand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from celery import Celery, states
from celery.exceptions import Retry

from config.accounts import Account
from postback._send.event import EVENTS
from postback.errors import DeadLettered, UnknownAccount
from tasks import task
from tasks.envelopes import Envelope
from tasks.followers import RULED, follow_up
from tasks.request import Answer, NotSent
from tasks.rulings import PUT_BACK, Again, Back, Dead, Delivered, Duplicate, Halved, Poll, Ruling
from tests.shared.hostile import LINK
from tests.unit.tasks.fakes import EVENTS as VALID
from tests.unit.tasks.fakes import OK, Server, account, grant_of, message

USER = Answer(200, {}, b'{"status": "OK", "data": {"user_id": "1", "first_name": "Jane"}}')


@dataclass
class Worker:
    """A worker, as its tasks see it."""

    sender: Server
    accounts: dict[str, Account]
    app: Celery = field(default_factory=lambda: Celery("test", set_as_current=False, backend="cache+memory://"))

    def __post_init__(self) -> None:
        task.register(self.app, self)

    def scrub(self, text: str, /) -> str:
        return text

    def told(self, ruling: Ruling, name: str = "tgtrack.add_event") -> Any:
        """What a task makes of a ruling."""
        running: Any = self.app.tasks[name]
        running.push_request(**{RULED: ruling})
        try:
            return running.run()
        finally:
            running.pop_request()


@pytest.fixture
def worker() -> Worker:
    queues = {f"{name}.main": account(name) for name in ("tgtrack", "mytracker", "tonapi", "tonai", "tganalytics")}
    return Worker(Server(OK), queues)


class TestTold:
    def test_delivered(self, worker: Worker) -> None:
        """A delivered event is a SUCCESS that says so; a look-up's result is its data."""
        assert worker.told(Delivered()) == "delivered"
        assert worker.told(Delivered({"user_id": "1"})) == {"user_id": "1"}

    def test_duplicate(self, worker: Worker) -> None:
        """A dropped duplicate is a SUCCESS that names its twin."""
        assert worker.told(Duplicate("event-0")) == "duplicate of event-0"

    def test_dead(self, worker: Worker) -> None:
        """A dead letter is a FAILURE whose first word is the reason."""
        with pytest.raises(DeadLettered, match=r"^rejected 400 Bad$"):
            worker.told(Dead("rejected 400 Bad", "{}"))

    @pytest.mark.parametrize(
        ("ruling", "when"),
        [(Again(3.0, "retry 500"), 3.0), (Poll(2.0, "pending"), 2.0), (Back("quota 429", 7.0), 7.0), (PUT_BACK, None),
         (Halved("rejected 400: in a batch of 3, halving it"), None)],
    )  # fmt: skip
    def test_waits(self, worker: Worker, ruling: Ruling, when: float | None) -> None:
        """An event that waits in Redis is a RETRY with its reason, and after how many seconds where
        that is known.
        """
        with pytest.raises(Retry) as retry:
            worker.told(ruling)
        assert (str(retry.value.exc), retry.value.when) == (ruling.text, when)


def event(name: str, ruling: Ruling, **embed: Any) -> Envelope:
    """An event with a ruling, and what hangs on it."""
    body = [
        [],
        {"account": "main", "event": VALID[name]},
        {"callbacks": None, "errbacks": None, "chain": None, **embed},
    ]
    (envelope,) = grant_of(message(name, body=body)).envelopes
    envelope.ruling = ruling
    return envelope


class TestFollowUp:
    @pytest.fixture(autouse=True)
    def runs(self, monkeypatch: pytest.MonkeyPatch, worker: Worker) -> list[Any]:
        """What Celery's tracer was asked to run."""
        self.traced: list[Any] = []
        self.info: Any = None

        def trace(task: Any, uuid: str, args: Any, kwargs: Any, request: Any, app: Any) -> Any:
            self.traced.append((uuid, request))
            return type("Traced", (), {"info": self.info})

        monkeypatch.setattr("tasks.followers.trace_task", trace)
        return self.traced

    def test_nothing_hangs_on_it(self, worker: Worker) -> None:
        """Most events never meet Celery."""
        assert follow_up(worker.app, "here", event("tgtrack.add_event", Delivered()))
        assert self.traced == []

    @pytest.mark.parametrize("ruling", [Delivered(), Duplicate("x"), Dead("rejected", "{}")])
    def test_at_the_end(self, worker: Worker, ruling: Ruling) -> None:
        """What hangs on an event is published when it has ended, with the worker's name and the
        ruling.
        """
        assert follow_up(worker.app, "here", event("tgtrack.add_event", ruling, callbacks=[LINK]))
        ((uuid, request),) = self.traced
        assert (uuid, request["hostname"], request[RULED]) == ("event-1", "here", ruling)
        assert request["callbacks"] == [LINK]

    @pytest.mark.parametrize("ruling", [Again(1, "retry"), Poll(1, "pending"), PUT_BACK])
    def test_not_before(self, worker: Worker, ruling: Ruling) -> None:
        """Nothing is published for what waits."""
        assert follow_up(worker.app, "here", event("tgtrack.add_event", ruling, callbacks=[LINK]))
        assert self.traced == []

    def test_a_look_up_that_waits(self, worker: Worker) -> None:
        """Its caller sees RETRY, and nothing is published yet."""
        assert follow_up(worker.app, "here", event("tonapi.get_event", Poll(1, "pending"), callbacks=[LINK]))
        ((_, request),) = self.traced
        assert "callbacks" not in request

    def test_could_not_be_published(self, worker: Worker) -> None:
        """If it could not be published the event must not settle as delivered; a dead letter's
        failure is its own.
        """
        self.info = object()
        assert not follow_up(worker.app, "here", event("tgtrack.get_user_info", Delivered({})))
        assert follow_up(worker.app, "here", event("tgtrack.get_user_info", Dead("rejected", "{}")))
        assert follow_up(worker.app, "here", event("tgtrack.get_user_info", Again(1, "retry")))

    def test_a_second_copy_of_a_look_up(self, worker: Worker) -> None:
        """It leaves the first one's result alone."""
        copy = event("tgtrack.get_user_info", Duplicate("event-1"))
        copy.duplicate_of = "event-1"
        assert follow_up(worker.app, "here", copy)
        assert self.traced == []

    @pytest.mark.parametrize("raw", [b"hello", message("tgtrack.nothing")])
    def test_no_event(self, worker: Worker, raw: bytes) -> None:
        """What is no event of ours has nobody who waits."""
        (envelope,) = grant_of(raw).envelopes
        assert follow_up(worker.app, "here", envelope)
        assert self.traced == []


def test_stored_where_its_caller_looks(worker: Worker) -> None:
    """Through Celery's real tracer a look-up's result is stored under the event's id."""
    assert follow_up(worker.app, "here", event("tgtrack.get_user_info", Delivered({"user_id": "1"})))
    assert worker.app.AsyncResult("event-1").get(timeout=1) == {"user_id": "1"}
    assert follow_up(worker.app, "here", event("tgtrack.get_user_info", Dead("rejected 404 no", "{}")))
    assert worker.app.AsyncResult("event-1").state in (states.SUCCESS, states.FAILURE)


class TestByHand:
    """``task.apply()`` and a plain call deliver one event."""

    def test_delivered(self, worker: Worker) -> None:
        """The request goes out, and its outcome is the result."""
        done = worker.app.tasks["tgtrack.add_event"].apply(
            kwargs={"account": "main", "event": VALID["tgtrack.add_event"]}
        )
        assert (done.state, done.result) == (states.SUCCESS, "delivered")
        assert len(worker.sender.requests) == 1

    def test_look_up(self, worker: Worker) -> None:
        """A look-up returns what it found."""
        worker.sender.answers = [USER]
        done = worker.app.tasks["tgtrack.get_user_info"].apply(kwargs={"event": {"user_id": "1"}})
        assert done.get() == {"user_id": "1", "first_name": "Jane"}

    def test_refused(self, worker: Worker) -> None:
        """What the worker would bury is a failure with its reason."""
        done = worker.app.tasks["tgtrack.add_event"].apply(kwargs={"event": {}})
        assert done.state == states.FAILURE
        assert str(done.result).startswith("invalid ")

    def test_not_sent(self, worker: Worker) -> None:
        """What the worker would send again later is a RETRY."""
        worker.sender.answers = [NotSent("connection refused")]
        done = worker.app.tasks["tgtrack.add_event"].apply(kwargs={"event": VALID["tgtrack.add_event"]})
        assert done.state == states.RETRY

    def test_unknown_account(self, worker: Worker) -> None:
        """An account that is not there is named."""
        with pytest.raises(UnknownAccount, match="nobody"):
            worker.app.tasks["tgtrack.add_event"](account="nobody", event={})


class TestRegister:
    def test_every_event(self, worker: Worker) -> None:
        """There is one task for each event class."""
        assert set(EVENTS) <= set(worker.app.tasks)

    def test_only_reads_keep_results(self, worker: Worker) -> None:
        """Results are stored for the two look-ups and nothing else."""
        keeping = {name for name in EVENTS if not worker.app.tasks[name].ignore_result}
        assert keeping == {"tgtrack.get_user_info", "tonapi.get_event"}

    def test_results_are_not_shown(self, worker: Worker) -> None:
        """Celery's events carry the start of a result to Flower: of a look-up, there is none."""
        from celery.utils.saferepr import saferepr

        size = worker.app.tasks["tgtrack.get_user_info"].resultrepr_maxsize
        shown = saferepr({"user_id": "987654321", "first_name": "Jane"}, size)
        assert "Jane" not in shown
        assert "987654321" not in shown


def test_failure_is_short() -> None:
    """The exception that Flower shows is its text and nothing else."""
    assert json.dumps(str(DeadLettered("rejected 400 Bad"))) == '"rejected 400 Bad"'
