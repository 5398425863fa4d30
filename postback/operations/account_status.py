"""What there is to see of one account at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from postback.operations.quota import Log, Usage, share_s
from postback.wire.time import iso
from postback.wire.windows import Window

__all__ = ["AccountStatus", "Pause"]


@dataclass(frozen=True, slots=True)
class Pause:
    """Why and until when an account waits.

    Attributes:
        reason: ``operator`` and ``credentials`` end by a resume; ``quota``, ``outage`` and
            ``retrying`` by themselves.
        until_ms: When it ends; None: when somebody resumes it.
        since_ms: When it began; 0 if that is not known.
        detail: A few words for people.
    """

    reason: str
    until_ms: float | None
    since_ms: float
    detail: str


@dataclass(frozen=True, kw_only=True)
class AccountStatus:
    """One account at one moment.

    Counts are events, except ``requests_in_flight``. Times are Redis time in ms.
    """

    queue: str
    #: A worker has announced it at some time. Otherwise its queue is an orphan.
    announced: bool
    #: A worker that is alive serves it.
    served: bool
    queued: int
    #: Events that wait for a due time or a back-off, and those held aside in a run of failures.
    delayed: int
    in_flight: int
    requests_in_flight: int
    dead: int
    dead_reasons: Mapping[str, int] = field(default_factory=dict)
    paused: Pause | None = None
    #: Failures in a row.
    failures: int = 0
    windows: tuple[Window, ...] = ()
    batch_max: int = 1
    #: Most events that producers may let wait; 0: no cap.
    max_queued: int = 0
    #: The log of its quota, then the logs of former quotas that still bind it (ADR 33).
    logs: tuple[Log, ...]
    #: Names its quota and its credential (ADR 33); empty before its first request.
    quota: str = ""
    credential: str = ""
    #: Other accounts that share its quota.
    quota_with: tuple[str, ...] = ()
    #: Those of them that have its key.
    key_with: tuple[str, ...] = ()
    #: Their requests that go before its last waiting event. The accounts take turns.
    before: int = 0
    #: When the longest waiting event was enqueued; None if none waits or its message does not say.
    oldest_ms: float | None = None
    #: When the last delayed event is due.
    last_due_ms: float | None = None
    last_success_ms: float | None = None
    last_failure_ms: float | None = None
    last_failure: str = ""
    #: Since the account exists: delivered events, dead letters, answers 429.
    delivered: int = 0
    died: int = 0
    quota_answers: int = 0

    @property
    def provider(self) -> str:
        """``tgtrack``."""
        return self.queue.partition(".")[0]

    @property
    def account(self) -> str:
        """``main``."""
        return self.queue.partition(".")[2]

    @property
    def log(self) -> Log:
        """The log of its quota."""
        return self.logs[0]

    @property
    def usage(self) -> list[Usage]:
        """Its quota, window by window. Where several logs bind, the fullest counts."""
        return [
            max((log.usage(window) for log in self.logs), key=lambda usage: (usage.used, usage.resets_in_s))
            for window in self.windows
        ]

    @property
    def is_orphan(self) -> bool:
        """Whether no worker has ever announced it."""
        return not self.announced

    def requests(self, events: int) -> int:
        """Requests that so many events take, if their batches are full."""
        return -(-events // self.batch_max)

    def eta_s(self, more: int = 0) -> float | None:
        """Seconds until all waiting events can have gone out; None if a pause has no end.

        Batches are taken to be full and answers to be immediate. The last event does not go before
        the last delayed one is due.

        Args:
            more: Events to be added to those that wait.
        """
        events = self.queued + self.delayed + more
        if not events:
            return 0.0
        begin_s = 0.0
        if self.paused:
            if self.paused.until_ms is None:
                return None
            begin_s = max(0.0, (self.paused.until_ms - self.log.now_ms) / 1000)
        requests = self.requests(events) + self.before
        drained_s = max(log.drain_s(self.windows, requests, begin_s=begin_s) for log in self.logs)
        due_s = (self.last_due_ms - self.log.now_ms) / 1000 if self.last_due_ms else 0.0
        return max(drained_s, due_s)

    def share_s(self, events: int) -> float:
        """Seconds in which the quota allows so many events."""
        return share_s(self.windows, self.requests(events))

    def as_json(self) -> dict[str, Any]:
        """For machines; times are ISO 8601 in UTC."""
        eta_s = self.eta_s()
        return {
            "provider": self.provider,
            "account": self.account,
            "queued": self.queued,
            "delayed": self.delayed,
            "max_queued": self.max_queued,
            "in_flight": self.in_flight,
            "dead": self.dead,
            "paused": self.paused
            and {
                "reason": self.paused.reason,
                "until": _iso(self.paused.until_ms),
                "since": _iso(self.paused.since_ms),
                "detail": self.paused.detail,
            },
            "quota": [
                {
                    "limit": usage.window.limit,
                    "window_s": usage.window.window_s,
                    "used": usage.used,
                    "remaining": usage.remaining,
                    "resets_in_s": round(usage.resets_in_s, 3),
                    "all_back_in_s": round(usage.all_back_in_s, 3),
                    "text": usage.window.text,
                }
                for usage in self.usage
            ],
            "quota_shared_with": list(self.quota_with),
            "key_shared_with": list(self.key_with),
            "backlog_eta_s": None if eta_s is None else round(eta_s, 3),
            "backlog_quota_s": round(self.share_s(self.queued + self.delayed), 3),
            "oldest_waiting": _iso(self.oldest_ms),
            "last_success": _iso(self.last_success_ms),
            "last_failure": _iso(self.last_failure_ms),
            "last_failure_text": self.last_failure,
            "failures_in_a_row": self.failures,
            "requests_in_flight": self.requests_in_flight,
            "delivered": self.delivered,
            "dead_reasons": dict(self.dead_reasons),
            "announced": self.announced,
            "served": self.served,
        }


def _iso(epoch_ms: float | None) -> str | None:
    return iso(epoch_ms) if epoch_ms else None
