"""Never over quota, and all of it used: four worker processes on one account, against windows of
unknown phase.
"""

from __future__ import annotations

import bisect
import time

import postback
from postback import tgtrack
from tests.acceptance.evidence import possible_with
from workers.devkit import Stack, until

WINDOWS = ((3, 1.0), (10, 4.0), (20, 10.0))
LIMITS = "3/second; 10 per 4 seconds; 20 per 10 seconds"
#: How long the run is watched, seconds: the longest window twice.
WATCHED_S = 20.0


def test_four_workers_never_earn_a_429() -> None:
    """0-300 ms of latency and a slow tail: no 429, and at least 90 % of what any phase-blind policy
    could send.
    """
    with Stack(limits={"tgtrack": LIMITS}, latency_ms=(0, 300), slow=(0.02, 2000)) as stack:
        stack.account("tgtrack.main", limits=LIMITS)
        stack.configure_producer()
        postback.send_many([tgtrack.AddEvent(user_id=str(user), event_type="sale") for user in range(100)])
        stack.start_workers("tgtrack", count=4)
        stack.sandbox.wait_for(lambda s: s.stats()["requests"] >= 1, timeout_s=30)
        first = stack.sandbox.ledger("tgtrack")[0].mono
        until(lambda: time.monotonic() > first + WATCHED_S, WATCHED_S + 10, "the end of the run", every_s=0.2)
        records = stack.sandbox.ledger("tgtrack")
        arrived = [record.mono - first for record in records]
        sent = bisect.bisect_left(arrived, WATCHED_S)
        most = possible_with(WINDOWS, WATCHED_S)
        print(f"{sent} requests in {WATCHED_S:g} s, {most} possible; 429s: {stack.sandbox.stats()['429']}")
        assert stack.sandbox.stats()["429"] == 0
        assert sent >= 0.9 * most
        assert len({record.events[0]["user_id"] for record in records}) == len(records)
