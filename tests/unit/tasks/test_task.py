"""What Celery is told: states, results, and that nothing but our own task settles a grant."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from celery import Celery, states
from celery.exceptions import Ignore, Retry

from config.accounts import Account
from postback.events import EVENTS
from tasks import task
from tasks.delivery import Report
from tasks.grants import Grant, Grants, Settlement
from tasks.outcomes import DeadLettered
from tasks.request import Answer, NotSent
from tasks.rulings import PUT_BACK, Again, Delivered
from tests.unit.tasks.fakes import OK, Server, account, grant_of, letter_of, message

TRACKED = Answer(200, {}, b'{"message": "OK"}')
USER = Answer(200, {}, b'{"status": "OK", "data": {"user_id": "1", "first_name": "Jane"}}')


@dataclass
class Worker:
    """A worker process without Celery's own machinery."""

    server: Server
    accounts: dict[str, Account]
    settled: list[Grant] = field(default_factory=list)
    observed: list[Report] = field(default_factory=list)
    app: Celery = field(default_factory=lambda: Celery("test", set_as_current=False))

    grants: Grants = field(default_factory=Grants)

    def __post_init__(self) -> None:
        task.register(self.app, self)

    @property
    def sender(self) -> Server:
        return self.server

    def account(self, queue: str) -> Account | None:
        return self.accounts.get(queue)

    def settle(self, grant: Grant) -> None:
        self.settled.append(grant)

    def scrub(self, text: str) -> str:
        return text

    def observe(self, report: Report) -> None:
        self.observed.append(report)

    def run(self, grant: Grant, name: str = "tgtrack.add_event") -> Any:
        """Run the task of a grant as Celery does, up to its return value or exception; then settle."""
        self.grants.add(grant)
        running: Any = self.app.tasks[name]
        running.push_request(id="event-1", properties={"delivery_tag": grant.id})
        status: str = states.SUCCESS
        try:
            value = running.run(account="main", event={})
        except Retry as retry:
            # Celery does not call after_return for a retry: the acknowledgement settles it.
            return retry
        except Exception as error:
            status, value = states.FAILURE, error
        try:
            running.after_return(status, value, "event-1", (), {}, None)
        finally:
            running.pop_request()
        if isinstance(value, Exception):
            raise value
        return value


@pytest.fixture
def worker() -> Worker:
    queues = {f"{name}.main": account(name) for name in ("tgtrack", "mytracker", "tonapi", "tonai", "tganalytics")}
    return Worker(Server(OK), queues)


def batch(count: int, **more: Any) -> Grant:
    return grant_of(*(message("mytracker.login", id=str(number), **more) for number in range(count)),
                    queue="mytracker.main")  # fmt: skip


class TestOneEvent:
    def test_delivered(self, worker: Worker) -> None:
        """A delivered event is a SUCCESS that says so, and is settled once."""
        grant = grant_of(message())
        assert worker.run(grant) == "delivered"
        assert worker.settled == [grant]
        assert grant.settlement == Settlement("ok")
        assert grant.envelopes[0].ruling == Delivered()

    def test_read(self, worker: Worker) -> None:
        """A look-up's result is its data."""
        worker.server.answers = [USER]
        result = worker.run(grant_of(message("tgtrack.get_user_info")), "tgtrack.get_user_info")
        assert result == {"user_id": "1", "first_name": "Jane"}

    def test_write_has_no_result(self, worker: Worker) -> None:
        """What an answer says of a person is not a write's result."""
        worker.server.answers = [USER]
        assert worker.run(grant_of(message())) == "delivered"

    @pytest.mark.parametrize(
        ("raw", "first_word"),
        [
            (b"hello", "malformed"),
            (message(event={}), "invalid"),
            (message(account="shop"), "unknown_account"),
            (message(headers={"expires": "2020-01-01T00:00:00"}), "expired"),
        ],
    )
    def test_dead_unsent(self, worker: Worker, raw: bytes, first_word: str) -> None:
        """A dead letter is a FAILURE whose first word is the reason, and is settled as it was decided."""
        grant = grant_of(raw)
        with pytest.raises(DeadLettered, match=f"^{first_word}"):
            worker.run(grant)
        assert grant.settlement is not None
        assert letter_of(grant)["reason"] == first_word

    def test_rejected(self, worker: Worker) -> None:
        """A refusal is a FAILURE with the provider's words."""
        worker.server.answers = [Answer(400, {}, b'{"status":"error","error_code":400,"error_description":"Bad"}')]
        with pytest.raises(DeadLettered, match=r"^rejected 400 Bad$"):
            worker.run(grant_of(message()))

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (Answer(500, {}, b""), "retry 500"),
            (Answer(200, {}, b""), "ambiguous 200 unknown answer"),
            (Answer(429, {"retry-after": "7"}, b""), "quota 429"),
            (Answer(401, {}, b""), "credentials 401"),
            (NotSent("connection refused"), "retry connection refused"),
        ],
    )
    def test_waits(self, worker: Worker, answer: Any, words: str) -> None:
        """An event that waits in Redis is a RETRY with its reason, decided but settled by the acknowledgement."""
        worker.server.answers = [answer]
        grant = grant_of(message())
        retry = worker.run(grant)
        assert isinstance(retry, Retry)
        assert str(retry.exc) == words == str(retry.message)
        assert grant.settlement is not None
        assert worker.settled == []

    def test_says_when(self, worker: Worker) -> None:
        """A RETRY tells after how many seconds."""
        worker.server.answers = [Answer(429, {"retry-after": "7"}, b"")]
        assert worker.run(grant_of(message())).when == 7.0

    def test_pending(self, worker: Worker) -> None:
        """A trace that is not final is a RETRY in two seconds."""
        worker.server.answers = [Answer(200, {}, b'{"event_id": "ab", "in_progress": true}')]
        retry = worker.run(grant_of(message("tonapi.get_event"), queue="tonapi.main"), "tonapi.get_event")
        assert (str(retry.exc), retry.when) == ("pending 200 its trace is not finished yet", 2.0)

    def test_duplicate(self, worker: Worker) -> None:
        """A dropped duplicate is a SUCCESS that names its twin."""
        grant = grant_of(message("tonai.conversion"), queue="tonai.main")
        grant.envelopes[0].duplicate_of = "event-0"
        assert worker.run(grant, "tonai.conversion") == "duplicate of event-0"


class TestBatch:
    def run(self, worker: Worker, grant: Grant, *answers: Answer) -> Any:
        worker.server.answers = list(answers)
        return worker.run(grant, "mytracker.login")

    def test_delivered(self, worker: Worker) -> None:
        """A batch's own message says how many."""
        assert self.run(worker, batch(3), TRACKED) == "3 delivered"

    def test_mixed(self, worker: Worker) -> None:
        """What became of a batch's events is counted by kind."""
        grant = grant_of(b"hello", message("mytracker.login"), queue="mytracker.main")
        assert self.run(worker, grant, TRACKED) == "1 dead, 1 delivered"

    def test_all_dead(self, worker: Worker) -> None:
        """If nothing of a batch is left, it is a FAILURE."""
        with pytest.raises(DeadLettered, match=r"^invalid .*\(2 dead\)$"):
            self.run(worker, batch(2, event={}), TRACKED)

    @pytest.mark.parametrize("status", [400, 403, 429, 500])
    def test_all_wait(self, worker: Worker, status: int) -> None:
        """If all of a batch waits, it is a RETRY."""
        assert isinstance(self.run(worker, batch(3), Answer(status, {}, b"{}")), Retry)


class TestSettling:
    def test_observed_once(self, worker: Worker) -> None:
        """Logs and metrics hear of each grant once."""
        worker.run(grant_of(message()))
        assert [report.rulings[0].kind for report in worker.observed] == ["delivered"]

    def test_lost_grant(self, worker: Worker) -> None:
        """A message whose lease ran out while it waited for a thread is not sent a second time."""
        running: Any = worker.app.tasks["tgtrack.add_event"]
        running.push_request(id="event-1", properties={"delivery_tag": "postback:gone.1"})
        with pytest.raises(Ignore):
            running.run()
        running.after_return(states.SUCCESS, None, "event-1", (), {}, None)
        running.pop_request()
        assert (worker.server.requests, worker.settled) == ([], [])

    @pytest.mark.parametrize("properties", [None, {}, {"delivery_tag": None}, {"delivery_tag": "uuid"}])
    def test_foreign_message(self, worker: Worker, properties: Any) -> None:
        """A task that did not come through the governor does nothing: no token, no request."""
        running: Any = worker.app.tasks["tgtrack.add_event"]
        running.push_request(id="event-1", properties=properties)
        with pytest.raises(Ignore):
            running.run(account="main", event={"user_id": "1", "event_type": "sale"})
        running.pop_request()
        assert worker.server.requests == []

    def test_account_gone(self, worker: Worker) -> None:
        """If the accounts file lost the account, the event waits for it to come back."""
        worker.accounts.clear()
        grant = grant_of(message())
        assert isinstance(worker.run(grant), Retry)
        assert grant.settlement == Settlement("none")
        assert grant.envelopes[0].ruling == PUT_BACK
        assert worker.server.requests == []

    def test_our_own_failure(self, worker: Worker) -> None:
        """An exception of ours after the request may have gone out is ambiguous, never delivered."""
        worker.server.answers = [RuntimeError("a bug")]
        grant = grant_of(message())
        with pytest.raises(RuntimeError):
            worker.run(grant)
        words = "ambiguous: the worker's own code failed"
        assert grant.settlement == Settlement("unknown", words)
        assert grant.envelopes[0].ruling == Again(2, words, ambiguous=True)
        assert worker.settled == [grant]

    def test_link_was_not_published(self, worker: Worker) -> None:
        """If what hangs on a delivered event could not be published, the event is sent again and flagged."""
        grant = grant_of(message(headers={"expires": "2099-01-01T00:00:00"}))
        worker.run(grant)
        running: Any = worker.app.tasks["tgtrack.add_event"]
        running.push_request(id="event-1", properties={"delivery_tag": grant.id})
        running.after_return(states.FAILURE, ConnectionError("Redis is away"), "event-1", (), {}, None)
        running.pop_request()
        assert grant.settlement is not None
        assert grant.settlement.health == "unknown"
        assert grant.envelopes[0].ruling.kind == "retry"

    def test_dead_letter_stays_as_decided(self, worker: Worker) -> None:
        """A dead letter's FAILURE is no failure of ours."""
        grant = grant_of(message(event={}))
        with pytest.raises(DeadLettered):
            worker.run(grant)
        assert grant.settlement is not None
        assert letter_of(grant)["attempts"] == 0


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

    def test_refused(self, worker: Worker) -> None:
        """Messages that are no events run a task of their own, which buries them."""
        with pytest.raises(DeadLettered, match=r"^malformed not JSON$"):
            worker.run(grant_of(b"hello"), task.REFUSED_TASK)

    @pytest.mark.parametrize("option", ["acks_late", "typing", "max_retries"])
    def test_options(self, worker: Worker, option: str) -> None:
        """Acknowledged late, never refused for their arguments, counted by Postback and not by Celery."""
        wanted = {"acks_late": True, "typing": False, "max_retries": None}
        assert all(getattr(worker.app.tasks[name], option) == wanted[option] for name in EVENTS)


def test_failure_is_short() -> None:
    """The exception that Flower shows is its text and nothing else."""
    assert json.dumps(str(DeadLettered("rejected 400 Bad"))) == '"rejected 400 Bad"'
