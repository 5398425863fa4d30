"""Never over quota, and all of it used: four worker processes on one account, against windows of unknown phase."""

from __future__ import annotations

import bisect
import time
from collections.abc import Sequence

import postback
from postback import tgtrack
from workers.devkit import Stack, until

LIMITS = "3/second; 20 per 10 seconds; 45 per 30 seconds"
#: How long the run is watched, seconds.
WATCHED_S = 62.0


def possible_with(windows: Sequence[tuple[int, float]], watched_s: float) -> int:
    """Requests that a policy that does not know the phases could send at most, with no latency at all."""
    sent: list[float] = []
    while True:
        waits = [sent[-limit] + window_s for limit, window_s in windows if len(sent) >= limit]
        at = max([0.0, *waits])
        if at >= watched_s:
            return len(sent)
        sent.append(at)


def test_four_workers_never_earn_a_429() -> None:
    """0-300 ms of latency and a slow tail: no 429, and at least 90 % of what any phase-blind policy could send."""
    with Stack(limits={"tgtrack": LIMITS}, latency_ms=(0, 300), slow=(0.02, 2000)) as stack:
        stack.account("tgtrack.main", limits=LIMITS)
        stack.configure_producer()
        postback.send_many([tgtrack.AddEvent(user_id=str(user), event_type="sale") for user in range(300)])
        stack.start_workers("tgtrack", count=4)
        stack.sandbox.wait_for(lambda s: s.stats()["requests"] >= 1, timeout_s=30)
        first = stack.sandbox.ledger("tgtrack")[0].mono
        until(lambda: time.monotonic() > first + WATCHED_S, WATCHED_S + 10, "the end of the run", every_s=0.2)
        records = stack.sandbox.ledger("tgtrack")
        arrived = [record.mono - first for record in records]
        sent = bisect.bisect_left(arrived, WATCHED_S)
        most = possible_with(((3, 1.0), (20, 10.0), (45, 30.0)), WATCHED_S)
        print(f"{sent} requests in {WATCHED_S:g} s, {most} possible; 429s: {stack.sandbox.stats()['429']}")
        assert stack.sandbox.stats()["429"] == 0
        assert sent >= 0.9 * most
        assert len({record.events[0]["user_id"] for record in records}) == len(records)
