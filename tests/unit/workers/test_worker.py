"""What becomes of grants that Celery drops, and of the feeder of a lost connection."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest

from tasks.delivery import Report
from tasks.grants import Grant, Settlement
from tasks.rulings import Again, Dead, Ruling
from tests.unit.tasks.fakes import Server, account, grant_of, message
from workers.governor import Server as RedisOf
from workers.rounds.transport import is_governed
from workers.worker import Worker

FAILED = "the worker's own code failed"


class Told(Worker):
    """A worker that keeps what its observers are told, and which grants it settled."""

    def __init__(self) -> None:
        super().__init__(RedisOf(fakeredis.FakeRedis), {"tgtrack.main": account()}, Server())
        self.told: list[Report] = []
        self.observers.append(self.told.append)

    def held(self, grant: Grant) -> Grant:
        self.grants.add(grant)
        return grant

    @property
    def rulings(self) -> list[tuple[str, str]]:
        return [(ruling.kind, ruling.text) for report in self.told for ruling in report.rulings]


@pytest.fixture
def worker() -> Told:
    return Told()


@pytest.mark.parametrize(
    ("headers", "sent", "ruling"),
    [
        ({"expires": "2020-01-01T00:00:00"}, False, ("dead", "expired")),
        ({}, False, ("dead", "malformed Celery cannot take it (it was discarded)")),
        ({}, True, ("retry", f"ambiguous: {FAILED}")),
        ({"postback": "attempts=7"}, True, ("dead", f"exhausted {FAILED}")),
    ],
)
def test_closed_without_a_run(worker: Told, headers: dict[str, Any], sent: bool, ruling: tuple[str, str]) -> None:
    """What became of an event that Celery closed without its task having decided anything is told once, after it is settled."""
    grant = worker.held(grant_of(message(headers=headers), sent=sent))
    worker.close(grant.id)
    worker.close(grant.id)
    assert worker.rulings == [ruling]
    assert not worker.told[0].ran


@pytest.mark.parametrize(
    ("error", "ruling"),
    [
        (TypeError("secret"), ("dead", "malformed Celery cannot take it (TypeError)")),
        (RecursionError("secret"), ("dead", "malformed Celery cannot take it (RecursionError)")),
        (RuntimeError("can't start new thread"), ("wait", "put back")),
        (MemoryError(), ("wait", "put back")),
        (NotImplementedError(), ("wait", "put back")),
    ],
)
def test_not_handed_over(worker: Told, error: Exception, ruling: tuple[str, str]) -> None:
    """A message that Celery cannot take is a dead letter at once; where the process lacks threads or memory it goes back."""
    grant = worker.held(grant_of(message()))
    worker.refuse(grant, error)
    worker.refuse(grant, error)
    assert worker.rulings == [ruling]
    assert grant.id not in worker.grants


def test_not_handed_over_after_it_was_sent(worker: Told) -> None:
    """A grant whose request is on the wire is settled by its task alone."""
    grant = worker.held(grant_of(message(), sent=True))
    worker.refuse(grant, TypeError())
    assert worker.told == []
    assert grant.settlement is None


def test_a_batch_that_is_not_handed_over(worker: Told) -> None:
    """A batch's message is our own: its events are tried again, and none is buried."""
    grant = worker.held(grant_of(message(id="1"), message(id="2")))
    worker.refuse(grant, TypeError())
    assert worker.rulings == [("wait", "put back")] * 2


def test_closed_after_a_run(worker: Told) -> None:
    """A task that has run has told of its events itself."""
    grant = worker.held(grant_of(message()))
    grant.settlement = Settlement()
    worker.close(grant.id)
    assert worker.told == []
    assert grant.id not in worker.grants


def test_closed_before_its_links_were_published(worker: Told) -> None:
    """Delivered, and then something of Celery's failed before its links went out: sent again and flagged (I3)."""
    grant = worker.held(grant_of(message()))
    grant.sent, grant.decided = True, Settlement()
    worker.close(grant.id)
    assert grant.envelopes[0].ruling == Again(2, f"ambiguous: {FAILED}", ambiguous=True)
    assert worker.rulings == [("retry", f"ambiguous: {FAILED}")]


def test_closed_with_nothing_sent(worker: Told) -> None:
    """What was decided without a request stays as it was decided."""
    grant = worker.held(grant_of(message()))
    ruling: Ruling = Dead("invalid", '{"reason": "invalid", "detail": ""}')
    grant.envelopes[0].ruling, grant.decided = ruling, Settlement("none")
    worker.close(grant.id)
    assert grant.settlement is grant.decided
    assert grant.envelopes[0].ruling is ruling


def test_closed_by_somebody_else(worker: Told) -> None:
    """A grant that is not held here is nothing to do with us."""
    worker.close("postback:gone.1")
    assert worker.told == []


class Feeder:
    """Counts stops."""

    def __init__(self) -> None:
        self.stopped = 0
        self.asked: list[str] = []

    def stop(self) -> None:
        self.stopped += 1

    def kick(self) -> None: ...

    def look_again(self, queue: str) -> None: ...

    def ask(self, queue: str) -> None:
        self.asked.append(queue)


def test_a_new_connection(worker: Told) -> None:
    """The feeder of a lost connection is stopped, and the new one is asked from then on."""
    worker.ask("tgtrack.main")
    old: Any = Feeder()
    new: Any = Feeder()
    for feeder in (old, old, new):
        worker.feed_from(feeder)
    worker.ask("tgtrack.main")
    assert (old.stopped, new.stopped, old.asked, new.asked) == (1, 0, [], ["tgtrack.main"])


@pytest.mark.parametrize(
    ("queue", "governed"),
    [("tgtrack.main", True), ("tgtrack.dead", True), ("tgtrack.gone", True), ("celery", False), ("shop.mail", False)],
)
def test_governed(queue: str, governed: bool) -> None:
    """No queue of a provider is ever consumed kombu's way, which would pop its events without a token; others are."""
    assert is_governed(queue) is governed
