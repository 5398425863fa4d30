"""Metrics of what is in Redis: queues, quotas, pauses, dead letters, the journal's streams.

It needs no worker and no credential.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from postback.operations import AccountStatus, Snapshot, snapshot
from postback.operations.journal_status import JournalStatus
from postback.operations.sites import RedisAway, Site
from postback.operations.totals import Totals, foremost, totals
from workers.observe.metrics_server import plain

logger = logging.getLogger(__name__)

#: Seconds for which a snapshot is kept. Each takes Redis 3 us per dead letter.
KEPT_S: Final = 5.0
#: Why an account may be paused.
PAUSES: Final = ("operator", "credentials", "quota", "outage", "retrying")

_ACCOUNT: Final = ("provider", "account")
_WINDOW: Final = (*_ACCOUNT, "window")
_STREAM: Final = ("redis", "provider")

#: Metric -> its help text, its labels.
GAUGES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "postback_events": ("Events that wait or are on their way: queued, delayed, in_flight", (*_ACCOUNT, "state")),
    "postback_requests_in_flight": ("Requests that have been granted and not settled", _ACCOUNT),
    "postback_oldest_waiting_seconds": ("Age of the longest waiting event at the front of the queue; 0: none", _ACCOUNT),
    "postback_backlog_seconds": ("Time until the last waiting event can be sent, as the quota allows; +Inf: paused until resumed", _ACCOUNT),
    "postback_dead_letters": ("Dead letters; account is empty where a letter does not say it", (*_ACCOUNT, "reason")),
    "postback_dead_notices": ("Dead letters of which POSTBACK_ON_DEAD has not been told yet", ("provider",)),
    "postback_quota_limit": ("Requests that a window allows", _WINDOW),
    "postback_quota_used": ("Requests that count in a window now", _WINDOW),
    "postback_quota_remaining": ("Requests that a window still allows", _WINDOW),
    "postback_quota_resets_seconds": ("Time until the next slot of a window returns; 0: all are free", _WINDOW),
    "postback_paused": ("1 if the account is paused for this reason", (*_ACCOUNT, "reason")),
    "postback_failures_in_a_row": ("Failed requests since the last healthy answer", _ACCOUNT),
    "postback_account_served": ("1 if a live worker serves the account", _ACCOUNT),
    "postback_account_orphaned": ("1 if the account has events and no worker has ever announced it", _ACCOUNT),
    "postback_last_success_timestamp_seconds": ("Time of the last healthy answer", _ACCOUNT),
    "postback_last_failure_timestamp_seconds": ("Time of the last failed request", _ACCOUNT),
    "postback_workers": ("Worker processes that are alive; provider is all for those that serve every one", ("provider",)),
    "postback_journal_entries": ("Records that wait in Redis for the journal's database", _STREAM),
    "postback_journal_lag_seconds": ("Age of the oldest record that waits; 0: none", _STREAM),
    "postback_journal_lost_entries": ("Records that a full stream has lost since a journal process last noted such a gap", _STREAM),
    "postback_journal_last_written_timestamp_seconds": ("Time at which a process last wrote the journal's database; absent: never", ("redis",)),
    "postback_redis_up": ("1 if this Redis answers", ("redis",)),
    "postback_redis_memory_bytes": ("Memory that Redis uses", ("redis",)),
    "postback_redis_memory_max_bytes": ("Memory that Redis may use; 0: no limit of its own", ("redis",)),
    "postback_redis_append_only": ("1 if Redis keeps an append-only file", ("redis",)),
}  # fmt: skip
#: The same for all accounts of a provider together.
TOTALS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "postback_provider_accounts": ("Accounts: all of them, and how many of them are unserved or paused", ("provider", "state")),
    "postback_provider_events": ("Events of all accounts: queued, delayed, in_flight, dead", ("provider", "state")),
    "postback_provider_oldest_waiting_seconds": ("Age of the longest waiting event at the front of a queue; 0: none", ("provider",)),
}  # fmt: skip
COUNTERS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "postback_delivered_events": ("Events that the provider has recorded", _ACCOUNT),
    "postback_died_events": ("Events that became dead letters", _ACCOUNT),
    "postback_quota_answers": ("Answers 429", _ACCOUNT),
    "postback_provider_delivered_events": ("Events that the provider has recorded, of all accounts", ("provider",)),
    "postback_provider_died_events": ("Events that became dead letters, of all accounts", ("provider",)),
    "postback_provider_quota_answers": ("Answers 429, of all accounts", ("provider",)),
}


class Exporter(Collector):
    """Takes a snapshot when it is scraped, at most once in :data:`KEPT_S`."""

    def __init__(self, sites: Sequence[Site], most_accounts: int) -> None:
        """Nothing is sent yet.

        Args:
            sites: The Redis servers.
            most_accounts: So many accounts have their own series; see
                :func:`~postback.operations.totals.foremost`.
        """
        self._sites, self._most_accounts = sites, most_accounts
        self._lock = threading.Lock()
        self._taken_s = 0.0
        #: Each Redis and its snapshot; None if it is away.
        self._snapshots: list[tuple[str, Snapshot | None]] = []
        #: Redis that is away -> the warning that was logged.
        self._warned: dict[str, str] = {}

    def describe(self) -> Iterable[Metric]:
        """The metrics without values: registering them must not ask Redis."""
        return list(_families().values())

    def collect(self) -> Iterable[Metric]:
        """The metrics."""
        families = _families()
        for url, taken in self._current():
            families["postback_redis_up"].add_metric((url,), float(taken is not None))
            if taken is not None:
                _fill(families, taken, self._most_accounts)
        return list(families.values())

    def workers_page(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        """The addresses of the workers' own metrics, for Prometheus' ``http_sd_configs``."""
        snapshots = [taken for _, taken in self._current() if taken]
        if len(snapshots) < len(self._sites):
            # Prometheus keeps its last list.
            return plain(start_response, "503 Service Unavailable", "a Redis is away")
        targets = sorted({worker.metrics for taken in snapshots for worker in taken.workers if worker.metrics})
        document = [{"targets": targets, "labels": {}}] if targets else []
        return plain(start_response, "200 OK", json.dumps(document), "application/json")

    def _current(self) -> list[tuple[str, Snapshot | None]]:
        with self._lock:
            if not self._snapshots or time.monotonic() - self._taken_s >= KEPT_S:
                self._snapshots = [(site.broker.shown, self._ask(site)) for site in self._sites]
                self._taken_s = time.monotonic()
            return self._snapshots

    def _ask(self, site: Site) -> Snapshot | None:
        shown = site.broker.shown
        try:
            with site.asked() as client:
                taken = snapshot(client, site.providers, url=shown)
        except RedisAway as away:
            if self._warned.get(shown) != str(away):
                logger.warning("%s", away)
            self._warned[shown] = str(away)
            return None
        if self._warned.pop(shown, ""):
            logger.info("Redis at %s is back", shown)
        return taken


def _families() -> dict[str, Any]:
    gauges = {
        name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in {**GAUGES, **TOTALS}.items()
    }
    counters = {name: CounterMetricFamily(name, text, labels=labels) for name, (text, labels) in COUNTERS.items()}
    return {**gauges, **counters}


def _fill(families: dict[str, Any], taken: Snapshot, most_accounts: int) -> None:
    """Add a snapshot's values."""
    totals_of = totals(taken.accounts)
    for provider, total in totals_of.items():
        for name, labels, value in _provider_values(total, taken.at_ms):
            families[name].add_metric((provider, *labels), value)
    for account in foremost(taken.accounts, most_accounts):
        own = (account.provider, account.account)
        for name, labels, value in _account_values(account):
            families[name].add_metric((*own, *labels), value)
    for provider, count in taken.dead.items():
        of_accounts = totals_of[provider].dead if provider in totals_of else 0
        if count > of_accounts:
            families["postback_dead_letters"].add_metric((provider, "", "unknown"), count - of_accounts)
    for provider, count in taken.notices.items():
        families["postback_dead_notices"].add_metric((provider,), count)
    alive = {provider: 0 for provider in taken.dead if provider in totals_of}
    for worker in taken.workers:
        alive[worker.provider or "all"] = alive.get(worker.provider or "all", 0) + 1
    for provider, count in alive.items():
        families["postback_workers"].add_metric((provider,), count)
    for server in taken.redis:
        families["postback_redis_memory_bytes"].add_metric((server.url,), server.used_bytes)
        families["postback_redis_memory_max_bytes"].add_metric((server.url,), server.max_bytes)
        families["postback_redis_append_only"].add_metric((server.url,), float(server.append_only))
    for journal in taken.journals:
        _fill_journal(families, journal)


def _fill_journal(families: dict[str, Any], journal: JournalStatus) -> None:
    """Add the values of a Redis' journal."""
    for provider, stream in journal.streams.items():
        labels = (journal.url, provider)
        families["postback_journal_entries"].add_metric(labels, stream.entries)
        families["postback_journal_lag_seconds"].add_metric(labels, stream.lag_s)
        families["postback_journal_lost_entries"].add_metric(labels, stream.lost)
    if journal.written_ms:
        families["postback_journal_last_written_timestamp_seconds"].add_metric(
            (journal.url,), journal.written_ms / 1000
        )


def _provider_values(total: Totals, now_ms: float) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Metric, further labels, value."""
    yield "postback_provider_accounts", ("all",), total.accounts
    yield "postback_provider_accounts", ("unserved",), total.unserved
    yield "postback_provider_accounts", ("paused",), total.paused.total()
    for state in ("queued", "delayed", "in_flight", "dead"):
        yield "postback_provider_events", (state,), getattr(total, state)
    age_s = max(0.0, (now_ms - total.oldest_ms) / 1000) if total.oldest_ms else 0.0
    yield "postback_provider_oldest_waiting_seconds", (), age_s
    yield "postback_provider_delivered_events", (), total.delivered
    yield "postback_provider_died_events", (), total.died
    yield "postback_provider_quota_answers", (), total.quota_answers


def _account_values(account: AccountStatus) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Metric, further labels, value."""
    yield "postback_events", ("queued",), account.queued
    yield "postback_events", ("delayed",), account.delayed
    yield "postback_events", ("in_flight",), account.in_flight
    yield "postback_requests_in_flight", (), account.requests_in_flight
    now_ms = account.log.now_ms
    yield (
        "postback_oldest_waiting_seconds",
        (),
        max(0.0, (now_ms - account.oldest_ms) / 1000) if account.oldest_ms else 0.0,
    )
    backlog_s = account.eta_s()
    yield "postback_backlog_seconds", (), float("inf") if backlog_s is None else backlog_s
    reasons: Counter[str] = Counter()
    for reason, count in account.dead_reasons.items():
        reasons[_reason(reason)] += count
    for reason, count in reasons.items():
        yield "postback_dead_letters", (reason,), count
    for usage in account.usage:
        window = (usage.window.text,)
        yield "postback_quota_limit", window, usage.window.limit
        yield "postback_quota_used", window, usage.used
        yield "postback_quota_remaining", window, usage.remaining
        yield "postback_quota_resets_seconds", window, usage.resets_in_s
    paused = account.paused.reason if account.paused else ""
    for reason in dict.fromkeys([*PAUSES, *filter(None, [paused])]):
        yield "postback_paused", (reason,), float(reason == paused)
    yield "postback_failures_in_a_row", (), account.failures
    yield "postback_account_served", (), float(account.served)
    yield (
        "postback_account_orphaned",
        (),
        float(account.is_orphan and account.queued + account.delayed + account.in_flight > 0),
    )
    for name, at_ms in (("success", account.last_success_ms), ("failure", account.last_failure_ms)):
        if at_ms:
            yield f"postback_last_{name}_timestamp_seconds", (), at_ms / 1000
    yield "postback_delivered_events", (), account.delivered
    yield "postback_died_events", (), account.died
    yield "postback_quota_answers", (), account.quota_answers


def _reason(word: str) -> str:
    """A reason as a label. Anybody who can write into Redis may write a letter with any reason."""
    return word if word.isidentifier() and len(word) <= 32 else "unknown"
