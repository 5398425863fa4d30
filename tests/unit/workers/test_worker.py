"""A worker's parts, and the queues that kombu must never read."""

from __future__ import annotations

import fakeredis
import pytest

from tasks.delivery import Report
from tasks.grants import Settlement
from tests.unit.tasks.fakes import Server, account, grant_of, message
from workers.governor import Server as RedisOf
from workers.transport import is_governed
from workers.worker import Worker


def test_everyone_is_told() -> None:
    """Each observer hears of each report, in their order."""
    worker = Worker(RedisOf(fakeredis.FakeRedis), {"tgtrack.main": account()}, Server())
    told: list[tuple[str, Report]] = []
    worker.observers += [lambda report: told.append(("a", report)), lambda report: told.append(("b", report))]
    report = Report(grant_of(message()), Settlement())
    worker.observe(report)
    assert told == [("a", report), ("b", report)]


def test_an_account_that_is_gone() -> None:
    """The accounts may change; what is asked for is what there is now."""
    worker = Worker(RedisOf(fakeredis.FakeRedis), {"tgtrack.main": account()}, Server())
    assert worker.account("tgtrack.main") is not None
    worker.accounts = {}
    assert worker.account("tgtrack.main") is None


@pytest.mark.parametrize(
    ("queue", "governed"),
    [("tgtrack.main", True), ("tgtrack.dead", True), ("tgtrack.gone", True), ("celery", False), ("shop.mail", False)],
)
def test_governed(queue: str, governed: bool) -> None:
    """No queue of a provider is ever consumed kombu's way, which would pop its events without a
    token; others are.
    """
    assert is_governed(queue) is governed
