"""Promises that broke when things went wrong, seen from outside: real server, real workers, what
the provider got.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from celery import Celery

from postback import tganalytics, tgtrack
from postback.operations import replay, resume
from postback.operations.letters import Filter
from postback.wire import keys
from tests.acceptance.evidence import RawClient, dead_letters
from workers.devkit import Stack, until

FAST = "100000/second"
DAY_MS = 86_400_000


def sale(user: int | str, **more: Any) -> tgtrack.AddEvent:
    """An event."""
    return tgtrack.AddEvent(user_id=str(user), event_type="sale", **more)


def users(stack: Stack) -> list[str]:
    """Whose events the provider recorded."""
    return sorted(event["user_id"] for event in stack.sandbox.events("tgtrack", method="add_event"))


def test_a_forged_number_stops_nobody() -> None:
    """A first grant above 2^53 and a provider that fails twice: Redis goes on answering, and all is
    delivered in the end.
    """
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits=FAST, backoff_s=0.05)
        stack.account("tgtrack.other", limits=FAST, api_key="other-key-1")
        stack.sandbox.fault("503", provider="tgtrack", count=3)
        raw = RawClient(stack)
        for number in range(2):
            raw.push(
                "tgtrack.add_event", {"user_id": f"forged{number}", "event_type": "sale"}, "main", f"forged{number}",
                postback="first=99999999999999999 tries=99999999999999999 due=99999999999999999",
            )  # fmt: skip
        stack.configure_producer()
        stack.start_workers("tgtrack")
        sale("good", account="other").delay()
        stack.sandbox.wait_for(lambda s: s.stats()["events"] == 3, timeout_s=20)
        assert users(stack) == ["forged0", "forged1", "good"]


def test_a_revocation_outlives_all_workers() -> None:
    """Revoked while it waits, all workers killed: it is a dead letter `revoked` and never sent; a
    replay of that letter is sent.
    """
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits=FAST)
        stack.configure_producer()
        client = stack.client()
        (worker,) = stack.start_workers("tgtrack")
        client.hset(keys.meta("tgtrack.main"), mapping={"paused": -1, "reason": "operator"})
        revoked = sale("revoked").delay()
        sale("good").delay()
        control = Celery("operator", broker=stack.redis.url, set_as_current=False).control
        assert control.revoke(revoked.id, reply=True, timeout=5, limit=1)
        worker.kill()
        stack.start_workers("tgtrack")
        binary = stack.redis.client()
        resume(binary, "tgtrack.main")
        (letter,) = dead_letters(stack, "tgtrack.main", 1)
        assert (letter.id, letter.reason) == (revoked.id, "revoked")
        stack.sandbox.wait_for(lambda s: s.stats()["events"] == 1, timeout_s=10)
        assert users(stack) == ["good"]
        assert not client.exists(keys.REVOKED)
        replay(binary, "tgtrack", Filter())
        stack.sandbox.wait_for(lambda s: s.stats()["events"] == 2, timeout_s=10)
        assert users(stack) == ["good", "revoked"]


def test_a_revocation_in_a_batch() -> None:
    """One of twenty events of a batch is revoked, by a worker that is gone: nineteen are
    delivered.
    """
    with Stack() as stack:
        stack.account("tganalytics.docs", limits=FAST)
        stack.configure_producer()
        client = stack.client()
        ids = [
            tganalytics.Event(user_id=n, event_name="app-init", session_id="10c574d9-6d2c-4e6d-a141-ce6da141ce6d").delay().id
            for n in range(20)
        ]  # fmt: skip
        client.zadd(keys.REVOKED, {ids[7]: time.time() * 1000})
        stack.start_workers("tganalytics")
        (letter,) = dead_letters(stack, "tganalytics.docs", 1)
        assert (letter.id, letter.reason) == (ids[7], "revoked")
        stack.sandbox.wait_for(lambda s: s.stats()["events"] == 19, timeout_s=10)
        assert 7 not in {event["user_id"] for event in stack.sandbox.events("tganalytics")}


def test_eight_days_of_backlog_and_one_fault() -> None:
    """Waiting is not failing: an event that was enqueued eight days ago and meets one 503 is tried
    again (I7).
    """
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits=FAST, backoff_s=0.05)
        stack.sandbox.fault("503", provider="tgtrack", count=1)
        RawClient(stack).push(
            "tgtrack.add_event", {"user_id": "old", "event_type": "sale"}, "main", "old",
            postback_at=int(time.time() * 1000) - 8 * DAY_MS,
        )  # fmt: skip
        stack.start_workers("tgtrack")
        stack.sandbox.wait_for(lambda s: s.stats()["events"] == 1, timeout_s=10)
        assert dead_letters(stack, "tgtrack.main") == []


def test_the_longest_wait() -> None:
    """With `max_wait_s`, what has waited longer is `expired` without a request; what has not is
    sent.
    """
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits=FAST, max_wait_s=3600)
        raw = RawClient(stack)
        for name, age_ms in (("old", 2 * 3_600_000), ("young", 60_000)):
            event = {"user_id": name, "event_type": "sale"}
            raw.push("tgtrack.add_event", event, "main", name, postback_at=int(time.time() * 1000) - age_ms)
        stack.start_workers("tgtrack")
        (letter,) = dead_letters(stack, "tgtrack.main", 1)
        assert (letter.id, letter.reason) == ("old", "expired")
        assert "max_wait_s" in letter.detail
        stack.sandbox.wait_for(lambda s: s.stats()["requests"] == 1, timeout_s=10)
        assert users(stack) == ["young"]


def test_few_retries_count_their_own() -> None:
    """Two server faults and then one 203 of Telegram Analytics: not a dead letter yet."""
    with Stack() as stack:
        stack.account("tganalytics.docs", limits=FAST, backoff_s=0.05, linger_s=0)
        stack.configure_producer()
        for fault, count in (("500", 2), ("203", 1)):
            stack.sandbox.fault(fault, provider="tganalytics", count=count)
        tganalytics.Event(user_id=1, event_name="app-init", session_id="10c574d9-6d2c-4e6d-a141-ce6da141ce6d").delay()
        stack.start_workers("tganalytics")
        stack.sandbox.wait_for(lambda s: s.stats()["events"] >= 1, timeout_s=15)
        until(lambda: stack.waiting("tganalytics.docs") == 0, 10)
        assert dead_letters(stack, "tganalytics.docs") == []


@pytest.mark.parametrize("cause", ["credentials", "operator"])
def test_a_pause_is_one_warning(cause: str) -> None:
    """A refused key, or an operator, pauses an account of two workers: one WARNING that says what
    to do, and one when it goes on.
    """
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits=FAST, api_key="refused-key-1")
        stack.configure_producer()
        if cause == "credentials":
            stack.sandbox.revoke("tgtrack", "refused-key-1")
        else:
            paused = {"paused": -1, "reason": "operator", "detail": "month's end"}
            stack.client().hset(keys.meta("tgtrack.main"), mapping=paused)
        for user in range(5):
            sale(user).delay()
        stack.start_workers("tgtrack", count=2)

        def warnings() -> list[str]:
            return sorted(line for line in stack.logs().splitlines() if re.search(r"WARNING.*tgtrack\.main", line))

        (line,) = until(warnings, 15, "a warning")
        assert "is paused" in line
        assert "`postback resume tgtrack.main`" in line
        assert ("key" in line) == (cause == "credentials")
        assert "refused-key-1" not in stack.logs()
        stack.sandbox.restore("tgtrack", "refused-key-1")
        resume(stack.redis.client(), "tgtrack.main")
        stack.sandbox.wait_for(lambda s: s.stats()["events"] == 5, timeout_s=15)
        until(lambda: len(warnings()) == 2, 10, "a second warning")
        assert warnings()[1].endswith("tgtrack.main is no longer paused")


def test_equal_messages_with_an_eta() -> None:
    """2,000 copies of one message with a future `eta` wait; a good event behind them is delivered
    at once, and none is lost.
    """
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits=FAST)
        stack.configure_producer()
        raw = RawClient(stack)
        raw.push("tgtrack.add_event", {"user_id": "1", "event_type": "sale"}, "main", "same", eta="2100-01-01T00:00:00")
        client = stack.client()
        (one,) = client.lrange("tgtrack.main", 0, -1)
        client.lpush("tgtrack.main", *[one] * 1999)
        sale("good").delay()
        stack.start_workers("tgtrack")
        stack.sandbox.wait_for(lambda s: s.stats()["events"] == 1, timeout_s=10)
        until(lambda: client.zcard(keys.delayed("tgtrack.main")) == 2000, 10)
        assert {json.loads(text)["headers"]["id"] for text in client.zrange(keys.delayed("tgtrack.main"), 0, -1)} == {
            "same"
        }
