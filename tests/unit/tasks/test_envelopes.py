"""Each part of a message has a rule; what breaks it is a defect that names the part and never its
value.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from postback._events.payload import MAX_MESSAGE_BYTES
from postback.wire.formats import MESSAGE_FORMAT
from tasks.envelopes import MAX_NESTING, open_envelope
from tasks.links import MAX_DEPTH, MAX_SIGNATURES, LinkRules
from tests.unit.tasks.fakes import message

#: Values that are wrong almost everywhere.
STRANGE: tuple[Any, ...] = ({}, 5, -1, [], [1], "x" * 20_000, True, 1.5, 10**30, {"a": {"b": 1}})
TEXTS = ("root_id", "parent_id", "group", "shadow", "lang", "origin", "argsrepr", "kwargsrepr", "postback_key_text")
COUNTS = ("group_index", "retries", "replaced_task_nesting")


def defect(*, link: Any = None, name: str = "callbacks", properties: Any = None, **headers: Any) -> str:
    """Why a message with these headers, properties or links is none."""
    document = json.loads(message(headers=headers, body=[[], {"account": "main", "event": {}}, {name: link}]))
    document["properties"] |= properties or {}
    return open_envelope(json.dumps(document).encode()).defect


def link(**options: Any) -> dict[str, Any]:
    """A signature as Celery writes it."""
    return {
        "task": "shop.thanks",
        "args": [],
        "kwargs": {},
        "options": options,
        "subtask_type": None,
        "immutable": True,
    }


#: What is no list of signatures.
NO_SIGNATURES: tuple[Any, ...] = (
    5, {}, "x", [5], [None], [{}], [{"task": "x"}], [{**link(), "task": 5}], [{**link(), "args": {}}], [{**link(), "kwargs": []}],
    [{**link(), "options": []}], [{**link(), "more": 1}], [{**link(), "immutable": {}}], [{**link(), "chord_size": "x"}],
    [{**link(), "subtask_type": "chunks"}], [{**link(), "subtask_type": {}}], [{**link(), "subtask_type": "chain", "task": "celery.chain"}],
)  # fmt: skip


class TestHeaders:
    @pytest.mark.parametrize("name", TEXTS)
    @pytest.mark.parametrize("value", STRANGE, ids=lambda value: str(value)[:12])
    def test_texts(self, name: str, value: Any) -> None:
        """An id, a name or a text for people is a text of some length."""
        told = defect(**{name: value})
        assert told.startswith(f"its header `{name}` must be a text")
        assert "xxx" not in told

    @pytest.mark.parametrize("name", COUNTS)
    @pytest.mark.parametrize("value", ["1", -1, True, 1.5, 10**30, {}])
    def test_counts(self, name: str, value: Any) -> None:
        """How often, how deep, which one of a group: whole numbers."""
        assert defect(**{name: value}) == f"its header `{name}` must be a whole number, 0 or more"

    @pytest.mark.parametrize("name", ["expires", "eta"])
    @pytest.mark.parametrize("value", [{}, 5, [], "tomorrow", "9" * 5000, "2026-13-01T00:00:00", True])
    def test_times(self, name: str, value: Any) -> None:
        """A time is one."""
        assert defect(**{name: value}) == f"its header `{name}` must be a time in ISO 8601"

    @pytest.mark.parametrize("value", [{}, 5, [1], [1, 2, 3], ["1", None], [-1, None], "60"])
    def test_time_limits(self, value: Any) -> None:
        """Celery's two time limits."""
        assert defect(timelimit=value) == "its header `timelimit` must be two numbers of seconds"

    @pytest.mark.parametrize(
        "headers",
        [{"stamps": []}, {"stamped_headers": [5]}, {"stamped_headers": "x"}, {"ignore_result": 1}, {"compression": {}}],
        ids=str,
    )
    def test_others(self, headers: dict[str, Any]) -> None:
        """Stamps, flags, compression."""
        assert defect(**headers).startswith(f"its header `{next(iter(headers))}`")

    @pytest.mark.parametrize(
        "properties",
        [
            {"priority": "3"},
            {"priority": -1},
            {"priority": True},
            {"reply_to": {}},
            {"correlation_id": 5},
            {"delivery_info": []},
        ],
        ids=str,
    )
    def test_properties(self, properties: dict[str, Any]) -> None:
        """What kombu reads of a message."""
        assert defect(properties=properties).startswith(f"its property `{next(iter(properties))}`")

    def test_as_celery_writes_them(self) -> None:
        """All of a real message's headers pass."""
        full = {
            "expires": "2100-01-01T00:00:00+00:00", "timelimit": [None, 30], "retries": 0, "group_index": None, "stamps": {"a": ["b"]},
            "stamped_headers": ["a"], "shadow": None, "ignore_result": True, "replaced_task_nesting": 0, "origin": "gen1@host",
        }  # fmt: skip
        assert defect(**full) == ""

    @pytest.mark.parametrize("number", [MESSAGE_FORMAT + 1, 0, -1, "1", True, 1.0, {}])
    def test_newer_format(self, number: Any) -> None:
        """A message of a format that this worker does not know says so."""
        words = defect(postback_format=number)
        assert (
            words
            == f"its header `postback_format` must be from 1 to {MESSAGE_FORMAT}, the newest format that this worker reads"
        )

    @pytest.mark.parametrize("number", [None, *range(1, MESSAGE_FORMAT + 1)])
    def test_known_format(self, number: Any) -> None:
        """Without a format a message has the first one."""
        assert defect(postback_format=number) == ""

    def test_unknown_headers_stay_in_redis(self) -> None:
        """A header that Celery does not know passes, and does not reach Celery."""
        envelope = open_envelope(message(headers={"tenant": {"deep": [1]}, "hostname": 5}))
        assert envelope.defect == ""
        assert not {"tenant", "hostname"} & envelope.for_celery.keys()

    @pytest.mark.parametrize("value", ["utf-16", "gzip", 5, {}])
    def test_content_encoding(self, value: Any) -> None:
        """A body is UTF-8."""
        document = json.loads(message())
        document["content-encoding"] = value
        assert open_envelope(json.dumps(document).encode()).defect.startswith("its `content-encoding` must be")

    @pytest.mark.parametrize("args", [None, {}, 0, "", [1]])
    def test_arguments(self, args: Any) -> None:
        """An event is the only argument, by name."""
        raw = message(body=[args, {"account": "main", "event": {}}, {}])
        assert open_envelope(raw).defect == "it has positional arguments"


class TestTwoReaders:
    """The scripts read a message as text, Python as JSON: what they would read differently is no
    message.
    """

    def test_a_name_twice(self) -> None:
        """Of two `postback` headers the scripts would read the first and Python the last."""
        raw = message(headers={"postback": "attempts=1"}).replace(b'"lang"', b'"postback": "attempts=0", "lang"')
        assert open_envelope(raw).defect == "a name stands in it twice"

    @pytest.mark.parametrize("first", [b"", b'\\"', b"x" * 3000, b'","headers":{"postback":""},"a":"'])
    @pytest.mark.parametrize("state", [b'"headers": {"postback": "attempts=1"}', b'"properties": {}, "headers": {}'])
    def test_a_part_twice(self, first: bytes, state: bytes) -> None:
        """Wherever the body is, and however long."""
        raw = b'{"body": "' + first + b'", ' + state + b", " + message()[1:]
        assert "twice" in open_envelope(raw).defect

    def test_a_hidden_name(self) -> None:
        r"""`\u0070ostback` is `postback` to Python, and nothing to the scripts."""
        raw = message(headers={"postback": "attempts=1"}).replace(b'"postback":', b'"\\u0070ostback":')
        assert open_envelope(raw).defect == "a name in it is hidden behind escapes"

    def test_escapes_in_values(self) -> None:
        """Escapes in values harm nobody."""
        raw = message(headers={"origin": "caf\u00e9 \u001f"})
        assert b"\\u00" in raw
        assert open_envelope(raw).defect == ""


class TestSize:
    @pytest.mark.parametrize("part", ["headers", "properties", "body"])
    def test_nested(self, part: str) -> None:
        """A message that is nested deeper than any reader or writer bears is none, wherever the
        nest is.
        """
        nest: Any = []
        for _ in range(MAX_NESTING):
            nest = [nest]
        if part == "body":
            raw = message(body=[[], {"account": nest, "event": {}}, None])
        else:
            document = json.loads(message())
            document[part]["x"] = nest
            raw = json.dumps(document).encode()
        assert open_envelope(raw).defect == f"it is nested deeper than {MAX_NESTING} levels"

    def test_many_lists(self) -> None:
        """Many lists beside one another are no nest."""
        assert open_envelope(message(headers={"x": [[]] * 1000})).defect == ""

    def test_too_large(self) -> None:
        """A message over the bound is not even parsed."""
        raw = message(headers={"pad": "x" * MAX_MESSAGE_BYTES})
        assert open_envelope(raw).defect == f"it has {len(raw)} bytes; a message has at most {MAX_MESSAGE_BYTES}"

    def test_just_fits(self) -> None:
        """At the bound it passes."""
        raw = message(headers={"pad": ""})
        raw = message(headers={"pad": "x" * (MAX_MESSAGE_BYTES - len(raw))})
        assert len(raw) == MAX_MESSAGE_BYTES
        assert open_envelope(raw).defect == ""


class TestFollowers:
    @pytest.mark.parametrize(
        "options",
        [{}, {"queue": "celery"}, {"queue": "tgtrack.main"}, {"queue": "tonai.shop", "routing_key": "tonai.shop"},
         {"countdown": 60, "priority": 3, "serializer": "json", "headers": {"a": 1}, "expires": 60, "task_id": "x"}],
        ids=str,
    )  # fmt: skip
    def test_allowed(self, options: dict[str, Any]) -> None:
        """To Celery's own queue, to an account's, with Celery's options."""
        assert defect(link=[link(**options)]) == ""

    @pytest.mark.parametrize(
        "queue", ["shop", "tgtrack.dead", "tgtrack.main.meta", "postback.accounts", "tgtrack.", {}, 5]
    )
    @pytest.mark.parametrize("option", ["queue", "routing_key"])
    def test_forbidden_queues(self, queue: Any, option: str) -> None:
        """To any other queue: the defect names the setting and not the queue."""
        told = defect(link=[link(**{option: queue})])
        assert told == "it has callbacks for a queue that POSTBACK_LINK_QUEUES does not name"

    def test_named_queues(self) -> None:
        """A queue that the configuration names."""
        raw = message(body=[[], {"event": {}}, {"callbacks": [link(queue="shop")]}])
        assert open_envelope(raw, "", LinkRules(["shop"])).defect == ""

    def test_an_event_of_ours_without_a_queue(self) -> None:
        """Its queue is made of its account's name, which must be one."""
        event = {**link(), "task": "tonai.conversion", "kwargs": {"account": "main.meta", "event": {}}}
        assert "POSTBACK_LINK_QUEUES" in defect(link=[event])
        assert defect(link=[{**event, "kwargs": {"account": "main", "event": {}}}]) == ""

    @pytest.mark.parametrize(
        "options",
        [{"serializer": "pickle"}, {"serializer": 5}, {"compression": "zlib"}, {"exchange": "celeryev"}, {"countdown": "x"},
         {"declare": []}, {"producer": "x"}, {"connection": "redis://elsewhere"}, {"retry_policy": {}}, {"headers": 5},
         {"priority": "high"}, {"expires": {}}, {"task_id": {}}, {"delivery_mode": "x"}],
        ids=str,
    )  # fmt: skip
    def test_forbidden_options(self, options: dict[str, Any]) -> None:
        """Serialisers but JSON, exchanges, connections, wrong types."""
        assert defect(link=[link(**options)]).startswith("it has callbacks")

    @pytest.mark.parametrize("value", NO_SIGNATURES, ids=str)
    @pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain"])
    def test_no_signatures(self, name: str, value: Any) -> None:
        """What is no list of signatures."""
        assert defect(name=name, link=value).startswith(f"it has {name}")

    @pytest.mark.parametrize("value", [5, [], "x", {"task": 5}])
    def test_no_chord(self, value: Any) -> None:
        """A chord's body is one signature."""
        assert defect(name="chord", link=value).startswith("it has chord")

    @pytest.mark.parametrize(
        "nested",
        [
            link(link=[link(queue="shop")]),
            link(link=link(queue="shop")),
            link(link_error=[link(queue="shop")]),
            link(chain=[link(queue="shop")]),
            link(chord=link(queue="shop")),
            {**link(), "task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": [link(queue="shop")]}},
            {**link(), "task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": [link(queue="shop")]}},
            {**link(), "task": "celery.chord", "subtask_type": "chord", "kwargs": {"header": [link()], "body": link(queue="shop")}},
            {**link(), "task": "celery.chord", "subtask_type": "chord", "kwargs": {"header": [link(queue="shop")], "body": link()}},
        ],
        ids=range(9),
    )  # fmt: skip
    def test_nested(self, nested: dict[str, Any]) -> None:
        """A forbidden queue is found wherever it hangs."""
        assert "POSTBACK_LINK_QUEUES" in defect(link=[nested])

    def test_very_many(self) -> None:
        """More signatures than anybody needs."""
        assert "more than" in defect(link=[link()] * (MAX_SIGNATURES + 1))

    def test_very_deep(self) -> None:
        """A link hangs on a link that hangs on a link, and so on."""
        nested = link()
        for _ in range(MAX_DEPTH + 1):
            nested = link(link=[nested])
        assert "deep" in defect(link=[nested])

    def test_other_parts(self) -> None:
        """The third part holds what hangs on the message, and nothing that Celery would take for a
        header.
        """
        raw = message(body=[[], {"event": {}}, {"hostname": {}, "callbacks": None}])
        assert open_envelope(raw).defect == "what hangs on it is not what Celery writes"
