"""Entries of queues and records of the journal: which of them somebody looks for."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import zlib
from typing import Any

import pytest

from postback.journal.query import Query
from postback.journal.records import Entry
from postback.journal.traces import Live
from postback.operations.places import Part
from postback.operations.search import Latest, Wanted, _in_base64

ME, OTHER = "987654321", "987654320"
HASH = hashlib.sha256(b"order-17").hexdigest()


def raw(
    event_id: str = "e1",
    user: Any = ME,
    *,
    task: str = "tgtrack.add_event",
    body: Any = None,
    encoding: str | None = "base64",
    compression: str | None = None,
    **headers: Any,
) -> bytes:
    """A message as some Celery client writes it."""
    kwargs = {"account": "main", "event": {"user_id": user, "event_type": "sale"}} if body is None else body
    text = json.dumps([[], kwargs, {}]).encode()
    if compression:
        headers["compression"], text = compression, zlib.compress(text)
    shown = base64.b64encode(text).decode() if encoding == "base64" else text.decode()
    properties = {"delivery_info": {"routing_key": "tgtrack.main"}, **({"body_encoding": encoding} if encoding else {})}
    return json.dumps(
        {"headers": {"id": event_id, "task": task, **headers}, "body": shown, "properties": properties}
    ).encode()


def met(query: Query, *raws: bytes, most: int | None = None, **part: Any) -> list[Live]:
    """The events of a part that are wanted."""
    latest = Latest(most)
    usual: dict[str, Any] = {"key": "tgtrack.main", "queue": "tgtrack.main", "state": "waiting"}
    Wanted(query).meet(Part(**{**usual, **part}, raws=list(raws)), 5.0, latest)
    return list(latest)


@pytest.mark.parametrize("length", range(1, 16))
def test_in_base64(length: int) -> None:
    """A text is recognised in base64 wherever it begins and whatever stands around it."""
    chance = random.Random(length)
    for before in range(7):
        text = bytes(chance.choices(b"0123456789abcdef", k=length))
        encoded = base64.b64encode(chance.randbytes(before) + text + chance.randbytes(chance.randrange(5)))
        ways = _in_base64(text)
        assert not ways or any(way in encoded for way in ways)
    assert bool(_in_base64(b"x" * length)) is (length > 1)


@pytest.mark.parametrize(
    "entry",
    [
        raw(),
        raw(user=int(ME)),
        raw(encoding=None),
        raw(compression="zlib"),
        raw(body={"event": {"user_id": ME, "event_type": "sale", "pad": "x"}}),
        raw(body={"event": {"event_type": "é", "user_id": ME}}),
    ],
)
def test_a_person(entry: bytes) -> None:
    """A person's event is found in every encoding of a body, and the neighbour's is not."""
    assert [live.user for live in met(Query(user=ME), entry)] == [ME]
    assert met(Query(user=OTHER), entry) == []


@pytest.mark.parametrize("user", ["7", "Ann B", "кот", 'a"b', "a\\b", "a/b"])
def test_unusual_people(user: str) -> None:
    """An id that JSON or base64 hides is found too: every entry is decoded."""
    assert [live.id for live in met(Query(user=user), raw("e1", user), raw("e2"))] == ["e1"]


def test_the_same_digits_elsewhere() -> None:
    """Digits that are no person's id are no person's event."""
    assert (
        met(Query(user=ME), raw(user=OTHER, body={"event": {"user_id": OTHER, "amount": int(ME)}}), raw(ME, OTHER))
        == []
    )


def test_ids() -> None:
    """Each of several ids is found; an id that is part of another text is not taken for it."""
    entries = [raw("e1"), raw("e2"), raw("e33"), raw("other", kwargsrepr="e3")]
    assert {live.id for live in met(Query(ids=frozenset({"e1", "e2", "e3"})), *entries)} == {"e1", "e2"}
    many = frozenset(f"e{number}" for number in range(100))
    assert {live.id for live in met(Query(ids=many), *entries)} == {"e1", "e2", "e33"}
    assert [live.id for live in met(Query(ids=frozenset({"é"})), raw("é"))] == ["é"]


def test_a_key() -> None:
    """By the key's hash; its clear text comes along if the message has it."""
    (plain, clear) = met(
        Query(key="order-17"),
        raw("e1", postback_key=HASH),
        raw("e2", postback_key=HASH, postback_key_text="order-17"),
        raw("e3", postback_key="0" * 64),
        raw("e4", link=HASH),
    )
    assert [(plain.id, plain.key, plain.key_hash), (clear.id, clear.key)] == [("e1", "", HASH), ("e2", "order-17")]


def test_all_conditions_must_hold() -> None:
    """Task, account, key, id and user together."""
    query = Query(frozenset({"e1"}), "order-17", ME, "tgtrack", "main", "tgtrack.add_event")
    assert len(met(query, raw(postback_key=HASH))) == 1
    assert met(query, raw("e2", postback_key=HASH), raw(user=OTHER, postback_key=HASH), raw(postback_key="0")) == []
    assert met(query, raw(task="tgtrack.add_event2", postback_key=HASH)) == []
    assert met(query, raw(postback_key=HASH), queue="tgtrack.shop") == []


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\xff",
        b"7",
        b"{}",
        b'{"headers": 7}',
        b'{"headers": {"id": 7}}',
        b"[" * 100_000,
        raw(""),
        b"postback:missing",
    ],
)
def test_what_is_no_event(entry: bytes) -> None:
    """What has no id is nobody's event, and stops nothing."""
    assert met(Query(), entry) == []
    assert [live.id for live in met(Query(), entry, raw())] == ["e1"]


def test_what_a_message_says() -> None:
    """Its times and its delivery state; of a held one until when it is held."""
    (live,) = met(
        Query(),
        raw(postback="attempts=2 first=1732240000000000 duplicate=1 due=1732240005000", postback_at=1732239999000),
        state="held",
    )
    assert (live.first_ms, live.enqueued_ms, live.due_ms, live.possible_duplicate) == (
        1732240000000,
        1732239999000,
        1732240005000,
        True,
    )
    (live,) = met(Query(), raw(), state="delayed", due_ms={raw(): 99.0})
    assert live.due_ms == 99
    (live,) = met(Query(), raw(), state="in_flight", grant="g1", granted_ms=77)
    assert (live.grant, live.first_ms) == ("g1", 77)
    (live,) = met(Query(), raw(postback="due=x first=99999999999999999999", postback_at="soon"), state="held")
    assert (live.first_ms, live.enqueued_ms, live.due_ms) == (0, 0, 0)


@pytest.mark.parametrize(
    ("eta", "state", "due_ms"),
    [
        ("1970-01-01T00:00:09Z", "delayed", 9000),
        ("1970-01-01T00:00:00", "waiting", 0),
        ("soon", "waiting", 0),
        (7, "waiting", 0),
    ],
)
def test_not_due_yet(eta: Any, state: str, due_ms: float) -> None:
    """What was sent for later is delayed, also while no worker has put it aside yet."""
    (live,) = met(Query(), raw(eta=eta))
    assert (live.state, live.due_ms) == (state, due_ms)


def test_a_dead_letter() -> None:
    """Its account is that of its queue; its reason and its end are in its header."""
    letter = {"reason": "rejected", "failed_at": "1970-01-01T00:00:09Z", "possible_duplicate": True}
    (live,) = met(Query(account="main"), raw(postback_dead=letter), state="dead", queue="tgtrack")
    assert (live.queue, live.reason, live.ended_ms, live.possible_duplicate) == ("tgtrack.main", "rejected", 9000, True)
    assert met(Query(account="shop"), raw(postback_dead=letter), state="dead", queue="tgtrack") == []


def test_the_latest() -> None:
    """Of very many events the latest stay, and the older ones are not decoded any more."""
    entries = [raw(f"e{number}", postback_at=1000 + number) for number in range(1000)]
    kept = met(Query(), *entries, most=3)
    assert {"e999", "e998", "e997"} <= {live.id for live in kept}
    assert len(kept) < 100
    assert met(Query(), *entries[::-1], most=3)[0].id == "e999"
    letters = [
        raw(f"d{n}", postback_dead={"failed_at": f"2026-01-{n:02}T00:00:00Z"}, postback_at=9 - n) for n in range(1, 29)
    ]
    assert "d28" in {live.id for live in met(Query(), *letters, most=1, state="dead", queue="tgtrack")}


def test_met_twice() -> None:
    """An event that is met again counts where it was met last."""
    latest = Latest(None)
    for state in ("delayed", "waiting"):
        Wanted(Query()).meet(Part("k", "tgtrack.main", state, [raw()]), 5.0, latest)  # type: ignore[arg-type]
    assert [live.state for live in latest] == ["waiting"]


ENTRY = Entry(
    "g", 0, 1000, "tgtrack.main", "e1", "tgtrack.add_event", ME, ("77",), key="order-17", key_hash=HASH, end="dead"
)


@pytest.mark.parametrize(
    ("query", "taken"),
    [
        (Query(), True),
        (Query(ids=frozenset({"e1", "e2"})), True),
        (Query(ids=frozenset({"e2"})), False),
        (Query(key="order-17"), True),
        (Query(key="order-18"), False),
        (Query(user=ME), True),
        (Query(user="77"), True),
        (Query(user=OTHER), False),
        (Query(provider="tgtrack", account="main"), True),
        (Query(provider="tgtrack", account="shop"), False),
        (Query(provider="mytracker"), False),
        (Query(task="tgtrack.add_event"), True),
        (Query(task="tgtrack.send_reach_goal"), False),
        (Query(outcome="dead"), True),
        (Query(outcome="delivered"), False),
        (Query(since_ms=1000), True),
        (Query(since_ms=1001), False),
    ],
)
def test_entries(query: Query, taken: bool) -> None:
    """An entry of the journal is taken if all conditions hold."""
    assert Wanted(query).takes(ENTRY) is taken


def test_an_entry_without_an_id() -> None:
    """It is nobody's."""
    assert not Wanted(Query()).takes(Entry("g", 0, 1000, "tgtrack.main"))


def test_records_that_may_tell() -> None:
    """Records are read only if an id or the person stands in their bytes."""
    raws = [b'{"id": "e1", "user": "987654321"}', b'{"id": "e2", "key_hash": "x"}']
    assert list(Wanted(Query(ids=frozenset({"e1"}))).may_tell(raws)) == raws[:1]
    assert list(Wanted(Query(user=ME)).may_tell(raws)) == raws[:1]
    assert list(Wanted(Query(key="x")).may_tell(raws)) == raws
    assert list(Wanted(Query(user="é")).may_tell(raws)) == raws
