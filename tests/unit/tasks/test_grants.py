"""Reading what lies in a queue, which anybody may have written."""

from __future__ import annotations

import base64
import json
import time
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.delivery import Report
from tasks.envelopes import Envelope, open_envelope
from tasks.grants import Grants, Half, Settlement
from tasks.rulings import PUT_BACK
from tests.unit.tasks.fakes import Server, account, delivery, grant_of, message
from workers.governor.settle import encoded

#: JSON of any shape, with the names that a message has in it.
_NAMES = st.sampled_from(
    ["body", "headers", "properties", "content-type", "body_encoding", "id", "task", "postback", "postback_at", "expires",
     "compression", "account", "event", "user_id", "event_type", "date"]
)  # fmt: skip
_WORDS = st.sampled_from(
    ["application/json", "base64", "tgtrack.add_event", "tgtrack.on_telegram_webhook", "main", "W10=", "[[],{},{}]",
     "application/x-gzip", "zlib", "attempts=1 first=²", "2020-01-01T00:00:00+99:00", "9999-12-31T23:59:59-14:00",
     "0001-01-01T00:00:00+14:00", "\ud800"]
)  # fmt: skip
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | _WORDS | st.text(max_size=8)
_JSON: st.SearchStrategy[Any] = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4), max_leaves=12
)


def near_message(draw: st.DrawFn) -> bytes:
    """A message with some of its parts replaced by anything."""
    document = json.loads(message())
    arguments = [[], {"account": "main", "event": {"user_id": "1", "event_type": "sale"}}, {}]
    for _ in range(draw(st.integers(0, 3))):
        holder = draw(st.sampled_from([document, document.get("headers"), document.get("properties"), arguments[1]]))
        if isinstance(holder, dict):
            holder[draw(_NAMES)] = draw(_JSON)
    if draw(st.booleans()):
        document["body"] = base64.b64encode(json.dumps(arguments).encode()).decode()
    return json.dumps(document).encode()


MESSAGES = st.composite(near_message)() | _JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200)


class TestAnything:
    @settings(deadline=None, database=None, max_examples=300)
    @given(raw=MESSAGES)
    @example(raw=b"")
    @example(raw=b"[" * 50_000)
    @example(raw=b"9" * 5000)
    @example(raw=b'{"headers": {}, "properties": {}, "headers": null}')
    def test_opens(self, raw: bytes) -> None:
        """Whatever lies in a queue is either an event message or says why not."""
        envelope = open_envelope(raw)
        assert envelope.raw == raw
        assert envelope.defect or (envelope.id and envelope.task and isinstance(envelope.kwargs, dict))

    @settings(deadline=None, database=None, max_examples=300)
    @given(raw=MESSAGES)
    def test_is_delivered_or_buried(self, raw: bytes) -> None:
        """Whatever lies in a queue comes to an end, and its settlement is JSON that Redis takes."""
        report: Report = delivery(account(), Server()).deliver(grant_of(raw))
        assert report.rulings[0].kind in ("delivered", "dead")
        assert "\n" not in json.dumps(encoded(report.grant, report.settlement))


class TestBody:
    def test_base64(self) -> None:
        """Celery's own encoding on Redis."""
        envelope = open_envelope(message())
        assert envelope.defect == ""
        assert envelope.kwargs["event"]["event_type"] == "sale"

    def test_plain(self) -> None:
        """A body that is text, as other clients send it."""
        document = json.loads(message())
        document["body"] = '[[], {"event": {}}, null]'
        document["properties"] = {}
        assert open_envelope(json.dumps(document).encode()).kwargs == {"event": {}}

    def test_compressed(self) -> None:
        """A body compressed by ``task_compression``."""
        document = json.loads(message(headers={"compression": "application/x-gzip"}))
        document["body"] = base64.b64encode(zlib.compress(base64.b64decode(document["body"]))).decode()
        assert open_envelope(json.dumps(document).encode()).kwargs["account"] == "main"

    def test_compressed_garbage(self) -> None:
        """A body that says it is compressed and is not is a defect, not an exception of the
        decompressor.
        """
        assert (
            open_envelope(message(headers={"compression": "application/x-gzip"})).defect
            == "its body is compressed and damaged"
        )

    def test_compressed_bomb(self) -> None:
        """A megabyte that holds a gigabyte is read up to the bound only."""
        raw = message(headers={"compression": "zlib"})
        document = json.loads(raw)
        document["body"] = base64.b64encode(zlib.compress(b" " * 300_000_000, 9)).decode()
        tracemalloc.start()
        defect = open_envelope(json.dumps(document).encode()).defect
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert defect == "its body has more than 524288 bytes when it is decompressed"
        assert most < 8_000_000

    @pytest.mark.parametrize("compression", ["brotli", "application/zstd", "nonsense"])
    def test_other_compressions(self, compression: str) -> None:
        """What cannot be stopped at a bound is not begun."""
        raw = message(headers={"compression": compression})
        assert open_envelope(raw).defect == "its body is compressed in a way that Postback does not read"

    @pytest.mark.parametrize(
        "properties",
        [{"delivery_info": "tgtrack.main"}, {"delivery_info": [1]}, {"body_encoding": "rot13"}, {"body_encoding": 5}],
        ids=str,
    )
    def test_strange_properties(self, properties: dict[str, Any]) -> None:
        """What Celery's own message class would fail on is a defect, and not a message that kills
        three workers.
        """
        document = json.loads(message())
        document["properties"] |= properties
        assert open_envelope(json.dumps(document).encode()).defect

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32"])
    def test_other_encodings(self, encoding: str) -> None:
        """An entry that the scripts could not read is none: its attempts would never be counted."""
        assert open_envelope(message().decode().encode(encoding)).defect == "not JSON"

    def test_defect_keeps_what_could_be_read(self) -> None:
        """A message with a broken body still tells its id and task, for its dead letter."""
        envelope = open_envelope(message(body=[1], id="event-7"))
        assert (envelope.id, envelope.task) == ("event-7", "tgtrack.add_event")

    def test_owner(self) -> None:
        """The owner of an idempotency key is taken along."""
        assert open_envelope(b"", "event-0").duplicate_of == "event-0"

    @pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord"])
    def test_followers(self, name: str) -> None:
        """``link``, ``link_error``, chains and chords hang on a message."""
        link = {"task": "x", "args": [], "kwargs": {}, "options": {}}
        raw = message(body=[[], {"event": {}}, {name: link if name == "chord" else [link]}])
        assert open_envelope(raw).has_followers

    def test_no_followers(self) -> None:
        """Celery's empty options are none."""
        assert not open_envelope(message()).has_followers


class TestState:
    def test_enqueued_at_first_grant(self) -> None:
        """A message that does not say when it was enqueued was at its first grant."""
        raw = message(headers={"postback_at": None, "postback": "first=1700000000000000"})
        assert open_envelope(raw).enqueued_ms == 1_700_000_000_000

    def test_expires_in_another_zone(self) -> None:
        """``expires`` is a moment, whatever its zone."""
        raw = message(headers={"expires": "2026-01-01T03:00:00+03:00"})
        assert open_envelope(raw).expires == 1_767_225_600


class TestGrant:
    def test_put_back(self) -> None:
        """A grant that was not sent goes back as it was, uncharged."""
        grant = grant_of(message(), message(id="2"))
        assert grant.put_back() == Settlement("none")
        assert [envelope.ruling for envelope in grant.envelopes] == [PUT_BACK, PUT_BACK]

    def test_put_back_a_half(self) -> None:
        """A half of a refused batch goes back as a half with its sibling."""
        grant = grant_of(message(), siblings=[message(id="2")], group=True)
        assert grant.put_back() == Settlement("none", halves=[Half(grant.envelopes, grant.siblings)])

    def test_lease_left(self) -> None:
        """The lease is measured on this machine's own clock."""
        assert 4 < grant_of(message(), lease_end=time.monotonic() + 5).lease_left_s() <= 5


class TestGrants:
    def test_held(self) -> None:
        """What is held is found by its id until it is taken out, by one of all who ask."""
        grants, grant = Grants(), grant_of(message())
        grants.add(grant)
        assert (len(grants), list(grants)) == (1, [grant])
        assert [grants.pop(grant.id), grants.pop(grant.id)] == [grant, None]
        assert (len(grants), list(grants)) == (0, [])

    def test_taken_out_while_looked_through(self) -> None:
        """Looking through them is not disturbed by other threads."""
        grants = Grants()
        grants.add(grant_of(message()))
        assert [grants.pop(grant.id) is grant for grant in grants] == [True]


def test_headers_of_nothing() -> None:
    """An envelope that is no message has no headers."""
    assert Envelope(b"").headers == {}
