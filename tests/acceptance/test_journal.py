"""Every event can be told of: followed on its way, and found after everything was killed."""

from __future__ import annotations

import json
import signal
from typing import Any

from postback import tgtrack
from tests.chaos import Chaos
from workers.devkit import Stack, until

KEY = "order-17"


def told(stack: Stack, *words: str) -> dict[str, Any]:
    """What ``postback find WORDS --json`` says of the one event."""
    done = stack.postback("find", *words, "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    event: dict[str, Any] = json.loads(line)
    return event


def outcomes(event: dict[str, Any]) -> list[tuple[str, int | None]]:
    return [(attempt["outcome"], attempt["status"]) for attempt in event["attempts"]]


def test_an_event_is_followed() -> None:
    """Waiting, a 503, a 429, a crash, its delivery: at each stage `find` says where it is and what
    has happened to it so far.
    """
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", timeout_s=5, lease_s=11, backoff_s=0.05, backoff_max_s=0.05)
        stack.configure_producer()
        stack.start_journal()
        stack.sandbox.fault("503", count=1)
        stack.sandbox.fault("429", count=1, retry_after=1)
        stack.sandbox.fault("timeout_after", count=1, seconds=60)
        sent = tgtrack.AddEvent(user_id="7000100", event_type="sale").apply_async(idempotency_key=KEY)

        event = told(stack, "--key", KEY)
        assert (event["id"], event["state"], event["attempts"]) == (sent.id, "waiting", [])
        assert (event["user"], event["key"], event["task"]) == ("7000100", KEY, "tgtrack.add_event")

        (worker,) = stack.start_workers("tgtrack")
        until(lambda: len(stack.sandbox.ledger("tgtrack")) == 3, 20, "the request that hangs")
        worker.process.send_signal(signal.SIGSTOP)  # it must not give up meanwhile
        event = told(stack, "--id", sent.id)
        assert (event["state"], outcomes(event)) == ("in_flight", [("retry", 503), ("quota", 429)])
        worker.kill()

        stack.start_workers("tgtrack")
        until(lambda: stack.waiting("tgtrack.main") == 0, 30, "its delivery")
        event = told(stack, "--user", "7000100")
        assert event["state"] == "delivered"
        assert outcomes(event) == [("retry", 503), ("quota", 429), ("unknown", None), ("delivered", 200)]
        assert event["possible_duplicate"]
        assert event["first_sent_at"] <= event["ended_at"]
        print(stack.postback("find", "--key", KEY).stdout)

        second = tgtrack.AddEvent(user_id="7000100", event_type="sale").apply_async(idempotency_key=KEY)
        until(lambda: stack.waiting("tgtrack.main") == 0, 30, "its end")
        event = told(stack, "--id", second.id)
        assert (event["state"], event["reason"], event["attempts"]) == ("duplicate", sent.id, [])


def test_everything_is_killed() -> None:
    """10,000 events, workers and the journal's process killed at random: of each event the journal
    tells one end, and of each request that reached the provider an attempt.
    """
    with Stack(limits={"tgtrack": None}, latency_ms=(0, 20)) as stack:
        # What a killed worker held comes back soon.
        stack.account("tgtrack.main", limits="100000/second", lease_s=8, timeout_s=2, backoff_s=0.1, max_attempts=50)
        chaos = Chaos(stack, seed=18, journal=True)
        chaos.send("main", 10_000)
        stack.sandbox.fault("503", probability=0.02)
        chaos.start()
        for number in range(1, 13):
            until(lambda number=number: len(stack.sandbox.ledger("tgtrack")) >= 700 * number, 60, "some progress")
            chaos.random.choice((chaos.kill_worker, chaos.kill_journal))()
        chaos.kill_journal()
        chaos.drain(120)
        print(chaos.tally.table())
        assert not chaos.tally.lost
        journal = chaos.tally.journal
        assert journal is not None
        assert not journal.untold
        assert not journal.ended_twice
        assert not journal.without_attempt
        assert not journal.gaps
