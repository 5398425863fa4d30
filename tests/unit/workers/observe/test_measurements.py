"""What one worker process measures of its own work."""

from __future__ import annotations

import re

import pytest
from prometheus_client import generate_latest
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.accounts import build_account
from tasks.delivery import Report
from tasks.grants import Settlement
from tasks.outcomes import Outcome, Verdict
from tasks.rulings import Dead, Delivered, Ruling
from tests.unit.tasks.fakes import Server, grant_of, message, ruled
from workers.governor import Server as RedisOf
from workers.observe.measurements import Measurements, reason_of
from workers.worker import Worker
from workers.writes import Client


def away() -> Client:
    """A connection to a Redis that is not there."""
    return Client(port=1, retry=Retry(NoBackoff(), 0))


class TestMeasurements:
    """:class:`workers.observe.measurements.Measurements`."""

    def measured(self, *rulings: Ruling, verdict: Verdict | None = None, batch_max: int = 20) -> str:
        account = build_account("mytracker", "main", {"id_app": 1, "token": "t", "batch_max": batch_max})
        grant = ruled(grant_of(*[message()] * len(rulings), queue="mytracker.main"), *rulings)
        worker, measurements = Worker(RedisOf(away), {"mytracker.main": account}, Server()), Measurements(200)
        measurements.watch(worker)
        for number in range(2):
            lost = grant_of(message())
            lost.id, lost.settlement = f"postback:lost.{number}", lost.put_back()
            worker.grants.add(lost)
            worker.governor.settle(lost)
        worker.grants.add(grant)
        worker.observe(Report(grant, Settlement(), verdict, 0.2))
        measurements.ran("take", 0.0004)
        return generate_latest(measurements.registry).decode()

    def test_outcomes(self) -> None:
        """Each event counts, with its outcome and reason; the request counts once."""
        rulings = (Delivered(), Delivered(possible_duplicate=True), Dead("rejected 422 no", "{}"))
        page = self.measured(*rulings, verdict=Verdict(Outcome.DELIVERED))
        own = 'account="main"'
        assert f'postback_worker_events_total{{{own},outcome="delivered",provider="mytracker",reason=""}} 1.0' in page
        assert f'{{{own},outcome="delivered",provider="mytracker",reason="possible_duplicate"}} 1.0' in page
        assert f'{{{own},outcome="dead",provider="mytracker",reason="rejected"}} 1.0' in page
        assert f'postback_worker_requests_total{{{own},answer="delivered",provider="mytracker"}} 1.0' in page
        assert f'postback_worker_request_seconds_sum{{{own},provider="mytracker"}} 0.2' in page
        assert f'postback_worker_batch_fill_ratio_sum{{{own},provider="mytracker"}} 0.15' in page
        assert f'postback_worker_requests_in_flight{{{own},provider="mytracker"}} 1.0' in page
        assert "postback_worker_unsent_settlements 2.0" in page
        assert 'postback_worker_script_seconds_count{script="take"} 1.0' in page

    def test_more_accounts_than_series(self) -> None:
        """The first have series of their own; the others share one, in which nothing is lost."""
        measurements = Measurements(2)
        accounts = {
            f"tgtrack.a{number}": build_account("tgtrack", f"a{number}", {"api_key": "k"}) for number in range(5)
        }
        worker = Worker(RedisOf(away), accounts, Server())
        measurements.watch(worker)
        for queue in accounts:
            worker.observe(Report(ruled(grant_of(message(), queue=queue), Delivered()), Settlement(), None, 0.2))
        page = generate_latest(measurements.registry).decode()
        counts = re.findall(r'postback_worker_events_total\{account="([^"]+)".*\} (.+)', page)
        assert counts == [("a0", "1.0"), ("a1", "1.0"), ("*", "3.0")]
        assert page.count("postback_worker_requests_in_flight{") == 3

    def test_nothing_sent(self) -> None:
        """What was not sent is no request."""
        assert "requests_total{" not in self.measured(Dead("invalid x", "{}"))

    def test_no_batches(self) -> None:
        """An account that does not batch has no fill."""
        page = self.measured(Delivered(), verdict=Verdict(Outcome.DELIVERED), batch_max=1)
        assert "fill_ratio_count{" not in page

    @pytest.mark.parametrize("text", ["ivan@mail.ru", "987654321 is wrong", ""])
    def test_labels_are_bounded(self, text: str) -> None:
        """A label's value is one of a few words, never what somebody wrote."""
        assert reason_of(Dead(text, "{}")) == "other"
