"""Task events for what Celery does not tell, and what Flower may show of arguments."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from celery.events.state import State

from tasks.delivery import Report
from tasks.grants import Grant, Settlement
from tasks.rulings import Again, Dead, Delivered, Ruling
from tests.unit.tasks.fakes import account, grant_of, message, ruled
from workers.observe.rows import AFTER_LOSS_S, LOOK_FOR_MONITOR_S, Listeners, Rows, kwargs_shown


class Dispatcher:
    """Keeps what it is told."""

    enabled = True

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

        self._buffer: list[dict[str, Any]] = []

    def send(self, kind: str, **fields: Any) -> None:
        self._buffer.append({"type": kind, **fields})

    def flush(self) -> None:
        self.sent, self._buffer = self.sent + self._buffer, []


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher()


@pytest.fixture
def rows(dispatcher: Dispatcher) -> Rows:
    rows = Rows({"tgtrack.main": account(max_attempts=8)}.get)
    rows.use(dispatcher)
    return rows


def report(grant: Grant, *rulings: Ruling) -> Report:
    return Report(ruled(grant, *rulings), Settlement(), elapsed_s=0.5)


def test_single(rows: Rows, dispatcher: Dispatcher) -> None:
    """A single event has its row too: Celery runs no message for it."""
    grant = grant_of(message())
    rows.observe(report(grant, Dead("revoked", "{}")))
    (row,) = dispatcher.sent
    assert (row["type"], row["uuid"], row["name"]) == ("task-failed", "event-1", "tgtrack.add_event")
    assert row["exception"] == "revoked; dead letter"


def test_batch(rows: Rows, dispatcher: Dispatcher) -> None:
    """Each event of a batch has a row of its own state."""
    grant = grant_of(*(message(id=str(number)) for number in range(3)))
    rows.observe(report(grant, Delivered(), Again(1, "retry 503"), Dead("rejected 422 it's wrong", "{}")))
    assert {row["uuid"]: row["type"] for row in dispatcher.sent} == {
        "0": "task-succeeded",
        "1": "task-retried",
        "2": "task-failed",
    }
    assert len(dispatcher.sent) == 3
    assert dispatcher.sent[0]["exception"].startswith("503; attempt 1 of 8, again at ")
    assert dispatcher.sent[-1]["exception"] == "rejected 422 it's wrong; dead letter"


def test_an_end_after_a_wait() -> None:
    """A monitor keeps what it was told before: a delivered event must not look as if it waits."""
    state, client = State(), Dispatcher()
    rows = Rows({}.get)
    rows.use(client)
    for ruling in (Again(1, "retry 503"), Delivered()):
        rows.observe(report(grant_of(message()), ruling))
        told = client.sent[-1]
        state.event({**told, "hostname": "w", "timestamp": 1.0, "local_received": 1.0, "clock": len(client.sent)})
    task = state.tasks["event-1"]
    assert (task.state, task.exception, task.traceback) == ("SUCCESS", None, None)


def gather(rows: Rows, dispatcher: Dispatcher, listened: bool) -> list[object]:
    """Rows of two delivered events, gathered; returns what was armed."""
    armed: list[object] = []
    rows.use(dispatcher, lambda: listened, lambda delay_s, function: armed.append(function))
    rows.observe(report(grant_of(*(message(id=str(number)) for number in range(2))), Delivered(), Delivered()))
    assert dispatcher.sent == []
    rows.flush()
    return armed


def test_gathered_rows_are_sent_to_a_listener(rows: Rows, dispatcher: Dispatcher) -> None:
    """Deliveries are gathered for a moment and then told, one timer for all of them."""
    armed = gather(rows, dispatcher, listened=True)
    assert [row["uuid"] for row in dispatcher.sent] == ["0", "1"]
    assert armed == [rows.flush]


def test_what_waits_is_told_at_once(rows: Rows, dispatcher: Dispatcher) -> None:
    """Another worker may tell the event's end a moment later: what is gathered would come after
    that.
    """
    rows.use(dispatcher, lambda: True, lambda delay_s, function: None)
    rows.observe(report(grant_of(message(id="1"), message(id="2")), Again(1, "retry 503"), Delivered()))
    assert [row["uuid"] for row in dispatcher.sent] == ["1"]


def test_nobody_listens(rows: Rows, dispatcher: Dispatcher) -> None:
    """Without a monitor they are dropped."""
    gather(rows, dispatcher, listened=False)
    assert dispatcher.sent == []


def test_a_monitor_that_was_cut_off(rows: Rows, dispatcher: Dispatcher) -> None:
    """Where somebody has listened a moment ago rows are kept until he is back, in their order."""
    listens, armed = [True], list[float]()
    rows.use(dispatcher, lambda: listens[0], lambda delay_s, function: armed.append(delay_s))
    rows.observe(report(grant_of(message(id="1")), Delivered()))
    rows.flush()
    listens[0] = False
    for name in ("2", "3"):
        rows.observe(report(grant_of(message(id=name)), Delivered()))
        rows.flush()
    assert [row["uuid"] for row in dispatcher.sent] == ["1"]
    assert armed[-1] == LOOK_FOR_MONITOR_S
    listens[0] = True
    rows.flush()
    assert [row["uuid"] for row in dispatcher.sent] == ["1", "2", "3"]


def test_a_failed_question_counts_as_yes() -> None:
    """If Redis does not say whether anybody listens, somebody does."""

    class Away:
        connection_pool = type("Pool", (), {"connection_kwargs": {}})()

        def publish(self, channel: str, text: str) -> int:
            raise redis.ConnectionError

    assert Listeners(Away())()  # type: ignore[arg-type]


def test_defect_in_a_batch(rows: Rows, dispatcher: Dispatcher) -> None:
    """A member that is no message has a row under an id that is made for it, and the name of
    refused messages.
    """
    grant = grant_of(b"no message", message())
    rows.observe(report(grant, Dead("malformed x", "{}"), Delivered()))
    first, second = dispatcher.sent
    assert (first["name"], second["name"]) == ("postback.refused", "tgtrack.add_event")
    assert first["uuid"] != second["uuid"]
    assert first["uuid"]


def test_events_off() -> None:
    """With events off nothing is sent and nothing fails."""
    dispatcher, rows = Dispatcher(), Rows({}.get)
    dispatcher.enabled = False
    rows.use(dispatcher)
    rows.observe(report(grant_of(message()), Dead("revoked", "{}")))
    assert dispatcher.sent == []


@pytest.mark.parametrize("ruling", [Dead("revoked", "{}"), Again(1, "retry 503"), Delivered()])
def test_without_a_connection(rows: Rows, dispatcher: Dispatcher, ruling: Ruling) -> None:
    """Rows of the time without a connection are sent over the next one, when monitors are back
    too.
    """
    armed: list[float] = []
    rows.use(None)
    rows.observe(report(grant_of(message()), ruling))
    rows.flush()
    assert dispatcher.sent == []
    rows.use(dispatcher, lambda: True, lambda delay_s, function: armed.append(delay_s))
    assert armed == [AFTER_LOSS_S]
    rows.flush()
    assert len(dispatcher.sent) == 1


def test_arguments() -> None:
    """The SDK's own words are shown; another client's are its arguments, with a person in them."""
    ours = grant_of(message(headers={"kwargsrepr": "event_type=sale user=98…21"}))
    other = grant_of(message(headers={"kwargsrepr": "{'user_id': '987654321'}", "postback_at": None}))
    assert kwargs_shown(ours.envelopes[0], "tgtrack.main") == "event_type=sale user=98…21"
    assert kwargs_shown(other.envelopes[0], "tgtrack.main") == "<tgtrack.add_event of tgtrack.main>"
