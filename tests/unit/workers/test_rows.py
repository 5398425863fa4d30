"""Task events for what Celery does not tell, and what Flower may show of arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tasks.delivery import Fate, Report
from tasks.grants import REGISTRY, Settlement
from tests.unit.tasks.fakes import account, grant_of, message
from workers import process, rows


class Dispatcher:
    """Keeps what it is told."""

    enabled = True

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, kind: str, **fields: Any) -> None:
        self.sent.append({"type": kind, **fields})


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    dispatcher = Dispatcher()
    rows.use(dispatcher)
    yield dispatcher
    rows.use(None)


def report(*fates: Fate) -> Report:
    return Report(Settlement(), list(fates), elapsed_s=0.5)


def test_single(dispatcher: Dispatcher) -> None:
    """Celery tells of a single event by itself; one that it closed without a run is told here."""
    grant = grant_of(message())
    rows.observe(grant, report(Fate("dead", "rejected 422")))
    assert dispatcher.sent == []
    rows.observe_closed(grant, report(Fate("dead", "revoked")))
    (row,) = dispatcher.sent
    assert (row["type"], row["uuid"], row["name"]) == ("task-failed", "event-1", "tgtrack.add_event")
    assert row["exception"] == "DeadLettered('revoked')"


def test_batch(dispatcher: Dispatcher) -> None:
    """Each event of a batch has a row of its own state."""
    grant = grant_of(*(message(id=str(number)) for number in range(3)))
    rows.observe(
        grant,
        report(Fate("delivered", "delivered"), Fate("retry", "retry 503"), Fate("dead", "rejected 422 it's wrong")),
    )
    assert {row["uuid"]: row["type"] for row in dispatcher.sent} == {
        "0": "task-succeeded",
        "1": "task-retried",
        "2": "task-failed",
    }
    assert len(dispatcher.sent) == 3
    assert dispatcher.sent[-1]["exception"] == 'DeadLettered("rejected 422 it\'s wrong")'


def gather(dispatcher: Dispatcher, listened: bool) -> list[object]:
    """Rows of two delivered events, gathered; returns what was armed."""
    armed: list[object] = []
    rows.use(dispatcher, lambda: listened, lambda delay_s, function: armed.append(function))
    rows.observe(
        grant_of(*(message(id=str(number)) for number in range(2))),
        report(Fate("delivered", "delivered"), Fate("delivered", "delivered")),
    )
    assert dispatcher.sent == []
    rows.flush()
    return armed


def test_gathered_rows_are_sent_to_a_listener(dispatcher: Dispatcher) -> None:
    """Deliveries are gathered for a moment and then told, one timer for all of them."""
    armed = gather(dispatcher, listened=True)
    assert [row["uuid"] for row in dispatcher.sent] == ["0", "1"]
    assert armed == [rows.flush]


def test_nobody_listens(dispatcher: Dispatcher) -> None:
    """Without a monitor they are dropped."""
    gather(dispatcher, listened=False)
    assert dispatcher.sent == []


def test_a_failed_question_counts_as_yes() -> None:
    """If Redis does not say whether anybody listens, somebody does."""

    class Away:
        connection_pool = type("Pool", (), {"connection_kwargs": {}})()

        def publish(self, channel: str, text: str) -> int:
            raise redis.ConnectionError

    assert rows.Listeners(Away())()  # type: ignore[arg-type]


def test_defect_in_a_batch(dispatcher: Dispatcher) -> None:
    """A member that is no message has a row under an id that is made for it, and the name of refused messages."""
    grant = grant_of(b"no message", message())
    rows.observe(grant, report(Fate("dead", "malformed x"), Fate("delivered", "delivered")))
    first, second = dispatcher.sent
    assert (first["name"], second["name"]) == ("postback.refused", "tgtrack.add_event")
    assert first["uuid"] != second["uuid"]
    assert first["uuid"]


@pytest.mark.parametrize("on", [False, None])
def test_no_events(on: bool | None) -> None:
    """Without a dispatcher, or with events off, nothing is sent and nothing fails."""
    dispatcher = Dispatcher()
    dispatcher.enabled = bool(on)
    rows.use(dispatcher if on is False else None)
    rows.observe_closed(grant_of(message()), report(Fate("dead", "revoked")))
    rows.use(None)
    assert dispatcher.sent == []


def test_arguments(dispatcher: Dispatcher) -> None:
    """The SDK's own words are shown; another client's are its arguments, with a person in them."""
    ours = grant_of(message(headers={"kwargsrepr": "event_type=sale user=98…21"}))
    other = grant_of(message(headers={"kwargsrepr": "{'user_id': '987654321'}", "postback_at": None}))
    assert rows.kwargs_shown(ours.envelopes[0], "tgtrack.main") == "event_type=sale user=98…21"
    assert rows.kwargs_shown(other.envelopes[0], "tgtrack.main") == "<tgtrack.add_event of tgtrack.main>"


class Governor:
    """Settles in memory."""

    def __init__(self) -> None:
        self.settled: list[str] = []

    def settle(self, grant: Any) -> None:
        self.settled.append(grant.id)
        REGISTRY.pop(grant.id, None)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Report]]:
    """A worker process; what it is told of closed grants."""
    told: list[Report] = []
    worker: Any = process.Process(Governor(), {"tgtrack.main": account()})  # type: ignore[arg-type]
    monkeypatch.setattr(process, "_process", worker)
    process.on_closed(lambda grant, report: told.append(report))
    yield told
    REGISTRY.clear()


@pytest.mark.parametrize(
    ("headers", "sent", "fate"),
    [
        ({"expires": "2020-01-01T00:00:00"}, False, Fate("dead", "expired")),
        ({}, False, Fate("dead", "malformed Celery cannot take it (it was discarded)")),
        ({}, True, Fate("retry", "ambiguous: the worker's own code failed")),
        ({"postback": "attempts=7"}, True, Fate("dead", "exhausted the worker's own code failed")),
    ],
)
def test_closed_without_a_run(closed: list[Report], headers: dict[str, Any], sent: bool, fate: Fate) -> None:
    """What became of an event that Celery closed without its task having decided anything is told once, after it is settled."""
    grant = grant_of(message(headers=headers), sent=sent)
    REGISTRY[grant.id] = grant
    process.close_grant(grant.id)
    process.close_grant(grant.id)
    assert [one.fates for one in closed] == [[fate]]


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (TypeError("secret"), Fate("dead", "malformed Celery cannot take it (TypeError)")),
        (RecursionError("secret"), Fate("dead", "malformed Celery cannot take it (RecursionError)")),
        (RuntimeError("can't start new thread"), Fate("wait", "put back")),
        (MemoryError(), Fate("wait", "put back")),
    ],
)
def test_not_handed_over(closed: list[Report], error: Exception, fate: Fate) -> None:
    """A message that Celery cannot take is a dead letter at once; where the process lacks threads or memory it goes back."""
    grant = grant_of(message())
    REGISTRY[grant.id] = grant
    process.refuse_grant(grant, error)
    process.refuse_grant(grant, error)
    assert [one.fates for one in closed] == [[fate]]
    assert grant.id not in REGISTRY


def test_not_handed_over_after_it_was_sent(closed: list[Report]) -> None:
    """A grant whose request is on the wire is settled by its task alone."""
    grant = grant_of(message(), sent=True)
    REGISTRY[grant.id] = grant
    process.refuse_grant(grant, TypeError())
    assert closed == []
    assert grant.settlement is None


def test_a_batch_that_is_not_handed_over(closed: list[Report]) -> None:
    """A batch's message is our own: its events are tried again, and none is buried."""
    grant = grant_of(message(id="1"), message(id="2"))
    REGISTRY[grant.id] = grant
    process.refuse_grant(grant, TypeError())
    assert grant.settlement is not None
    assert [line[1] for line in grant.settlement.messages] == ["poll", "poll"]


def test_closed_after_a_run(closed: list[Report]) -> None:
    """A task that has run has told of its events itself."""
    grant = grant_of(message())
    grant.settlement = Settlement(delivered=1)
    REGISTRY[grant.id] = grant
    process.close_grant(grant.id)
    assert closed == []


def test_closed_before_its_links_were_published(closed: list[Report]) -> None:
    """Delivered, and then something of Celery's failed before its links went out: sent again and flagged, never delivered (I3)."""
    grant = grant_of(message())
    grant.sent, grant.decided = True, Settlement(delivered=1)
    REGISTRY[grant.id] = grant
    process.close_grant(grant.id)
    assert grant.settlement is not None
    assert [line[:2] + line[3:4] for line in grant.settlement.messages] == [[1, "retry", 1]]
    assert [report.fates[0].kind for report in closed] == ["retry"]


def test_closed_with_nothing_sent(closed: list[Report]) -> None:
    """What was decided without a request stays as it was decided."""
    grant = grant_of(message())
    grant.decided = Settlement("none", messages=[[1, "dead", 0, 0, '{"reason": "invalid", "detail": ""}']])
    REGISTRY[grant.id] = grant
    process.close_grant(grant.id)
    assert grant.settlement is grant.decided


@pytest.mark.parametrize(
    ("queue", "governed"),
    [("tgtrack.main", True), ("tgtrack.dead", True), ("tgtrack.gone", True), ("celery", False), ("shop.mail", False)],
)
def test_governed(closed: list[Report], queue: str, governed: bool) -> None:
    """No queue of a provider is ever consumed kombu's way, which would pop its events without a token; others are."""
    assert process.is_governed(queue) is governed


def test_no_worker() -> None:
    """Outside of a worker nothing is governed."""
    assert not process.is_governed("tgtrack.main")
