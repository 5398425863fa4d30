"""What an event is, from what stands in Redis and what the journal says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from postback.journal.life import STATES, Change, EventRecord
from postback.journal.records import Entry
from postback.journal.traces import Live, Trace, merge

#: When the search began.
NOW = 1_796_090_000_000
QUEUE = "tgtrack.main"


def at(ms: float) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def entry(at_ms: int, **fields: Any) -> Entry:
    """A request that failed, unless the fields say something else."""
    usual = {
        "outcome": "retry",
        "status": 503,
        "batch": 1,
        "worker": "w1",
        "user": "7000100",
        "task": "tgtrack.add_event",
    }
    return Entry(f"grant.{at_ms}", 0, at_ms, QUEUE, **{"id": "e1", **usual, **fields})


def ended(at_ms: int, end: str, **fields: Any) -> Entry:
    return entry(at_ms, **{"outcome": "delivered", "status": 200, "end": end, "ms": 50.0, **fields})


def done(at_ms: int, what: str, who: str = "ann@ops1") -> Entry:
    """What an operator did."""
    return entry(at_ms, outcome="", status=None, batch=0, worker="", end=what, reason=who)


def live(state: Any, **fields: Any) -> Live:
    return Live(**{"id": "e1", "state": state, "queue": QUEUE, "seen_ms": NOW, "task": "tgtrack.add_event", **fields})


def merged(*entries: Entry, live: Live | None = None) -> EventRecord:
    return merge(Trace("e1", live, entries))


@pytest.mark.parametrize("state", ["waiting", "delayed", "in_flight", "held", "dead"])
def test_redis_wins(state: Any) -> None:
    """What stands in Redis is so, whatever an earlier record says."""
    record = merged(entry(NOW - 9000), ended(NOW - 5000, "dead"), live=live(state))
    assert record.state == state


@pytest.mark.parametrize("end", ["delivered", "duplicate", "dead", "cancelled"])
def test_an_end(end: str) -> None:
    """An event that is nowhere in Redis is what its last record says, since the answer."""
    record = merged(entry(NOW - 9000), ended(NOW - 5000, end))
    assert (record.state, record.ended_at) == (end, at(NOW - 4950))


@pytest.mark.parametrize("at_ms", [NOW, NOW + 1])
def test_it_ended_meanwhile(at_ms: int) -> None:
    """An event that waited when the search began, and was granted later, has ended."""
    assert merged(ended(at_ms, "delivered"), live=live("waiting", seen_ms=NOW + 0.7)).state == "delivered"


def test_it_ended_before() -> None:
    """One whose grant is earlier than the search is a second message with the same id: it waits."""
    assert merged(ended(NOW - 1, "delivered"), live=live("waiting")).state == "waiting"


def test_the_grant_in_which_it_was_met() -> None:
    """An event that was on the wire has ended if that very grant did, however long ago it began."""
    on_wire = live("in_flight", grant=f"grant.{NOW - 20_000}")
    assert merged(ended(NOW - 20_000, "delivered"), live=on_wire).state == "delivered"
    assert merged(ended(NOW - 30_000, "dead"), live=on_wire).state == "in_flight"


@pytest.mark.parametrize("entries", [[], [entry(NOW - 10)], [ended(NOW - 20, "dead"), entry(NOW - 10)]])
def test_lost(entries: list[Entry]) -> None:
    """An event that goes on and is nowhere is lost: unknown, with what is known of it."""
    trace = Trace("e1", None, entries)
    record = merge(trace)
    assert trace.is_lost
    assert (record.state, record.ended_at, record.reason, record.id) == ("unknown", None, None, "e1")


def test_a_replay() -> None:
    """A replayed dead letter goes on; who replayed it stands in its history."""
    before = [ended(NOW - 9000, "dead", outcome="rejected", reason="rejected"), done(NOW - 5000, "replayed")]
    assert Trace("e1", None, before).is_lost
    record = merged(*before, live=live("waiting"))
    assert (record.state, record.reason) == ("waiting", None)
    assert record.history == (Change(at(NOW - 5000), "replayed", "ann@ops1"),)
    assert merged(*before, ended(NOW - 100, "delivered")).state == "delivered"


def test_a_drop() -> None:
    """A dropped dead letter is still dead, for its reason; who dropped it stands in its history."""
    record = merged(ended(NOW - 9000, "dead", reason="rejected"), done(NOW - 5000, "dropped"))
    assert (record.state, record.reason, record.ended_at) == ("dead", "rejected", at(NOW - 8950))
    assert [(change.what, change.who) for change in record.history] == [("dropped", "ann@ops1")]


def test_a_drop_alone() -> None:
    """If the record of its death is missing, it is dead for no known reason."""
    record = merged(done(NOW - 5000, "dropped"))
    assert (record.state, record.reason) == ("dead", None)


def test_an_end_without_a_request() -> None:
    """It is no attempt. Its words stand in the history."""
    record = merged(
        entry(NOW - 10, outcome="", status=None, batch=0, end="dead", reason="invalid", detail="amount is text")
    )
    assert (record.state, record.reason, record.attempts) == ("dead", "invalid", ())
    assert record.history == (Change(at(NOW - 10), "dead", None, "amount is text"),)
    assert record.first_sent_at is None


def test_a_duplicate_of_itself() -> None:
    """A second message with the same id and key does not change what became of the first one."""
    first, second = ended(NOW - 9000, "delivered"), ended(NOW - 10, "duplicate", outcome="", reason="e1")
    assert (merged(first, second).state, merged(first, second).reason) == ("delivered", None)
    assert merged(second).state == "duplicate"
    other = merged(ended(NOW - 10, "duplicate", outcome="", reason="another"))
    assert (other.state, other.reason) == ("duplicate", "another")


def test_an_unknown_end() -> None:
    """A word for an end that this edition does not know is no error."""
    assert merged(ended(NOW - 10, "vanished")).state == "unknown"


def test_a_dead_letter() -> None:
    """What the letter says is shown while it is there, also if the journal knows nothing."""
    letter = live("dead", ended_ms=NOW - 70, reason="rejected", possible_duplicate=True)
    record = merged(live=letter)
    assert (record.reason, record.ended_at, record.possible_duplicate) == ("rejected", at(NOW - 70), True)


def test_attempts() -> None:
    """Each request is an attempt; a worker that died leaves one without an answer."""
    died = entry(NOW - 9000, outcome="unknown", status=None, worker="", user="", possible_duplicate=True, batch=3)
    record = merged(died, ended(NOW - 5000, "delivered", possible_duplicate=True))
    assert [(one.outcome, one.status, one.batch) for one in record.attempts] == [
        ("unknown", None, 3),
        ("delivered", 200, 1),
    ]
    assert (record.first_sent_at, record.user, record.possible_duplicate) == (at(NOW - 9000), "7000100", True)


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ({}, None),
        ({"key": "order-17", "key_hash": "ab" * 32}, "order-17"),
        ({"key": "ab" * 32, "key_hash": "ab" * 32}, "ab" * 32),
        ({"key_hash": "ab" * 32}, "ab" * 32),
    ],
)
def test_a_key(keys: dict[str, str], shown: str | None) -> None:
    """The key as its producer wrote it, from wherever it stands; else its hash."""
    assert merged(entry(NOW - 9, **keys), live=live("waiting", key_hash=keys.get("key_hash", ""))).key == shown
    assert merged(entry(NOW - 9, key_hash=keys.get("key_hash", "")), live=live("waiting", **keys)).key == shown


@pytest.mark.parametrize("ms", [0, 1 << 53, 1e18])
def test_impossible_times(ms: float) -> None:
    """A time that no calendar has is none: anybody may have written it."""
    record = merged(entry(NOW - 9, first_ms=ms), live=live("delayed", enqueued_ms=ms, due_ms=ms, seen_ms=NOW))
    assert (record.enqueued_at, record.due_at) == (None, None)


def test_as_json() -> None:
    """One object with exactly these names; times are ISO 8601 UTC, and what is absent is null."""
    first = entry(NOW - 9000, enqueued_ms=NOW - 9500, detail="busy", ms=12.5)
    document = json.loads(
        json.dumps(merged(first, done(NOW - 10, "replayed"), live=live("delayed", due_ms=NOW + 5)).as_json())
    )
    assert list(document) == [
        "id", "task", "provider", "account", "user", "key", "state", "enqueued_at", "due_at", "first_sent_at", "ended_at",
        "possible_duplicate", "reason", "attempts", "history",
    ]  # fmt: skip
    assert document["attempts"] == [
        {
            "at": "2026-12-01T01:53:11.000Z", "outcome": "retry", "status": 503, "detail": "busy", "ms": 12.5, "worker": "w1",
            "batch": 1,
        }
    ]  # fmt: skip
    assert document["history"] == [
        {"at": "2026-12-01T01:53:19.990Z", "what": "replayed", "who": "ann@ops1", "detail": ""}
    ]
    assert (document["due_at"], document["enqueued_at"]) == ("2026-12-01T01:53:20.005Z", "2026-12-01T01:53:10.500Z")
    assert (document["ended_at"], document["key"], document["account"]) == (None, None, "main")


def test_its_repr() -> None:
    """A log that shows a record shows neither the person nor the key."""
    shown = repr(merged(entry(NOW - 9000, key="order-17", key_hash="ab" * 32)))
    assert "e1" in shown
    assert "7000100" not in shown
    assert "order-17" not in shown


def test_the_latest_thing() -> None:
    """An event is as recent as the last thing that happened to it, not as the time it waits for."""
    record = merged(entry(NOW - 9000), live=live("delayed", due_ms=NOW + 10**6, enqueued_ms=NOW - 9500))
    assert record.latest == at(NOW - 9000)
    assert replace(record, attempts=(), first_sent_at=None).latest == at(NOW - 9500)
    assert merge(Trace("e1")).latest.year == 1


def test_what_may_be_asked_for() -> None:
    """Every state but ``unknown``."""
    assert STATES == ("waiting", "delayed", "in_flight", "held", "delivered", "duplicate", "dead", "cancelled")
