"""The metrics of one worker process: outcomes, requests, batches, round trips to Redis."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tasks.delivery import Report
from tasks.rulings import Delivered, Duplicate, Ruling
from workers.worker import Worker

#: Upper bounds in seconds; a request's total limit is 10 s by default.
REQUEST_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Upper bounds in seconds of a script's run, with the round trip.
SCRIPT_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
#: Upper bounds of a batch's fill, 1 for a full one.
FILL: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)

#: First words of a ruling's text that may be a label. A label must not hold a provider's or a
#: producer's words.
REASONS: Final = frozenset(
    {
        "rejected", "invalid", "expired", "exhausted", "not_final", "malformed", "crashed", "revoked", "unknown_account",
        "ambiguous", "retry", "quota", "credentials", "pending",
    }
)  # fmt: skip

#: Label of all accounts that have no series of their own. No account can have this name.
OTHERS: Final = "*"


class Measurements:
    """One process's metrics.

    Attributes:
        registry: The metrics to serve.
    """

    def __init__(self, most_accounts: int) -> None:
        """All metrics are zero.

        Args:
            most_accounts: So many accounts have their own series, those that send first. All others
                share the series ``*``.
        """
        self.registry = CollectorRegistry()
        self._labels: dict[str, tuple[str, str]] = {}
        self._most_accounts = most_accounts
        ProcessCollector(registry=self.registry)
        account = ("provider", "account")
        self._events = Counter(
            "postback_worker_events",
            "Outcomes of events: delivered, duplicate, retry, wait, dead; an event that is sent twice has two",
            (*account, "outcome", "reason"),
            registry=self.registry,
        )
        self._requests = Counter(
            "postback_worker_requests",
            "HTTP requests by what their answer meant (quota: a 429)",
            (*account, "answer"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "postback_worker_request_seconds",
            "Time from sending a request to the end of its answer",
            account,
            buckets=REQUEST_S,
            registry=self.registry,
        )
        self._fill = Histogram(
            "postback_worker_batch_fill_ratio",
            "Events in a request, of the most that it may carry; batching accounts only",
            account,
            buckets=FILL,
            registry=self.registry,
        )
        self._scripts = Histogram(
            "postback_worker_script_seconds",
            "Time of a script in Redis, the way there and back included",
            ("script",),
            buckets=SCRIPT_S,
            registry=self.registry,
        )

    def watch(self, worker: Worker) -> None:
        """Count a worker's outcomes. Each scrape reads the requests that it holds."""
        worker.observers.append(partial(self.observe, worker))
        self.registry.register(_Held(worker, self.labels))

    def labels(self, queue: str) -> tuple[str, str]:
        """An account's labels: its provider, and its name or ``*``. Any thread."""
        labels = self._labels.get(queue)
        if labels is None:
            provider, _, account = queue.partition(".")
            if len(self._labels) >= self._most_accounts:
                return provider, OTHERS
            labels = self._labels[queue] = provider, account
        return labels

    def observe(self, worker: Worker, report: Report) -> None:
        """Count a report. Any thread."""
        grant = report.grant
        provider, name = self.labels(grant.queue)
        outcomes = Counts((ruling.kind, reason_of(ruling)) for ruling in report.rulings)
        for (kind, reason), count in outcomes.items():
            self._events.labels(provider, name, kind, reason).inc(count)
        if report.verdict is None:
            return
        self._requests.labels(provider, name, report.verdict.outcome.value).inc()
        self._seconds.labels(provider, name).observe(report.elapsed_s)
        account = worker.account(grant.queue)
        if account is not None and account.batch_max > 1:
            self._fill.labels(provider, name).observe(len(grant.envelopes) / account.batch_max)

    def ran(self, script: str, seconds: float) -> None:
        """Count a script's run. Any thread."""
        self._scripts.labels(script).observe(seconds)


def reason_of(ruling: Ruling) -> str:
    """A ruling's reason as a label.

    One of :data:`REASONS`, ``possible_duplicate`` if it was delivered, ``other``, or empty.
    """
    if isinstance(ruling, Delivered):
        return "possible_duplicate" if ruling.possible_duplicate else ""
    if isinstance(ruling, Duplicate):
        return ""
    word = ruling.text.partition(" ")[0]
    return word if word in REASONS else "other"


class _Held(Collector):
    """The requests and settlements that the process holds at the moment of the scrape."""

    def __init__(self, worker: Worker, labels: Callable[[str], tuple[str, str]]) -> None:
        self._worker, self._labels = worker, labels

    def collect(self) -> Iterable[GaugeMetricFamily]:
        requests = GaugeMetricFamily(
            "postback_worker_requests_in_flight", "Requests that this process holds", labels=("provider", "account")
        )
        counts = Counts(dict.fromkeys(map(self._labels, self._worker.accounts), 0))
        counts.update(self._labels(grant.queue) for grant in self._worker.grants)
        for labels, count in counts.items():
            requests.add_metric(labels, count)
        yield requests
        yield GaugeMetricFamily(
            "postback_worker_unsent_settlements",
            "Answers that Redis has not been told yet",
            value=self._worker.governor.unsent,
        )
