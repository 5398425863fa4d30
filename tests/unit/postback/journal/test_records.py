"""Reading a record of the journal, which anybody who can write to Redis may have written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from postback.journal.records import MAX_INDEXED, MAX_TEXT, Unreadable, key_hash, read_record


def record(**values: Any) -> str:
    return json.dumps({"grant": "postback:a.1.1", "at": 1_700_000_000_000, "queue": "tgtrack.main", **values})


@pytest.mark.parametrize(
    "raw",
    [b"", b"rubbish", b"[]", b"\xff", "{}", '{"grant": 1, "at": 5}', '{"grant": "g"}', '{"grant": "g", "at": "now"}',
     '{"grant": "g", "at": -1}', '{"grant": "g", "at": NaN}', '{"grant": "g", "at": 9e15}', "[" * 100_000],
)  # fmt: skip
def test_no_record(raw: bytes | str) -> None:
    """It is refused with one error, whatever it is."""
    with pytest.raises(Unreadable):
        read_record(raw)


def test_an_event_takes_what_its_record_says() -> None:
    """Its own values go before those of the record."""
    events = [{"id": "a"}, {"id": "b", "outcome": None, "end": "dead", "place": 7}]
    first, second = read_record(record(outcome="delivered", end="delivered", batch=2, events=events)).entries
    assert (first.place, first.outcome, first.end, first.batch) == (0, "delivered", "delivered", 2)
    assert (second.place, second.outcome, second.end) == (7, "", "dead")


def test_a_key_that_is_known_by_its_hash_alone() -> None:
    """Another Celery client sends no text: the hash stands for it."""
    (entry,) = read_record(record(events=[{"id": "a", "key_hash": "ab"}])).entries
    assert (entry.key, entry.key_hash) == ("ab", "ab")


def test_an_action() -> None:
    """It has no events of its own."""
    read = read_record(record(action="pause", who="ann@ops1", detail="campaign is over"))
    assert read.entries == []
    assert read.action is not None
    assert (read.action.who, read.action.place, read.action.detail) == ("ann@ops1", "tgtrack.main", "campaign is over")


def test_an_action_with_events() -> None:
    """A replay names each event."""
    read = read_record(record(action="replay", who="ann", events=[{"id": "a", "end": "replayed", "reason": "ann"}]))
    assert [(entry.id, entry.end, entry.outcome) for entry in read.entries] == [("a", "replayed", "")]


@pytest.mark.parametrize(
    "event",
    [
        {"status": "200"}, {"status": True and 1 << 40}, {"ms": "fast"}, {"ms": -1}, {"ms": 1e300}, {"also": "x"}, {"also": [1, None]},
        {"batch": -3}, {"enqueued_at": 1e300}, {"place": "x"}, {"duplicate": "yes"}, {"id": 5}, {"user": ["x"]},
    ],
)  # fmt: skip
def test_wrong_values(event: dict[str, Any]) -> None:
    """A value of another type or out of range counts as absent."""
    (entry,) = read_record(record(events=[event])).entries
    assert (entry.status, entry.ms, entry.also, entry.batch, entry.enqueued_ms, entry.place) == (
        None,
        None,
        (),
        0,
        0,
        0,
    )
    assert (entry.possible_duplicate, entry.id, entry.user) == (False, "", "")


def test_long_and_odd_texts() -> None:
    """What is searched is short enough for an index; nothing holds what a database refuses."""
    event = {"id": "i" * 5000, "user": "u" * 5000, "detail": "d" * 50_000, "key": "k\0\ud800"}
    (entry,) = read_record(record(events=[event])).entries
    assert (len(entry.id), len(entry.user), len(entry.detail)) == (MAX_INDEXED, MAX_INDEXED, MAX_TEXT)
    assert entry.key == "k\ufffd?"


def test_events_that_are_none() -> None:
    """They are passed over."""
    assert read_record(record(events=[1, None, "x"])).entries == []
    assert read_record(record(events="x")).entries == []


def test_the_hash_is_that_of_the_messages() -> None:
    """``find --key`` meets what a producer sent."""
    assert key_hash("order-17") == "72a90ea3da8b5dd01bde2f27314e02e217f935182ea573a7ff9b5f5060ef996b"
