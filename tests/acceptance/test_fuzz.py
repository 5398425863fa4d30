"""Whatever a message holds, its grant is settled at once and its bytes are somewhere: TAKE, the
worker, Celery, SETTLE and every command.

A real Redis; the worker's own governor, transport and tasks; Celery's own request, strategy and
tracer. No process is killed by anything.
"""

from __future__ import annotations

import base64
import bz2
import contextlib
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.worker import state as worker_state
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import workers.worker
from postback import cli, operations
from postback.operations.letters import Filter
from postback.wire import keys, schedule
from tasks import task
from tasks.followers import follow_up
from tasks.outcomes import Outcome, Verdict
from tasks.request import Answer
from tests.integration.workers.governor.crew import AnswersAtOnce, Worker
from tests.unit.tasks.fakes import EVENTS, Server
from workers.devkit import RedisServer, Stack, until
from workers.rounds.rounds import Rounds

QUEUE = "tgtrack.main"
ENTRY = "9f0f1ac8-3a0c-4f2e-9d57-0d6f6b6d7c11"

#: Every header, property and part of a message that anybody reads.
HEADERS = [
    "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id", "parent_id", "argsrepr",
    "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers", "stamps", "compression", "hostname", "callbacks",
    "postback", "postback_at", "postback_key", "postback_key_text", "postback_size", "postback_dead", "postback_replayed_at", "delivery_info",
    "called_directly",
]  # fmt: skip
PROPERTIES = [
    "correlation_id",
    "reply_to",
    "delivery_mode",
    "delivery_info",
    "priority",
    "body_encoding",
    "delivery_tag",
]
PARTS = ["body", "content-type", "content-encoding", "headers", "properties"]
EMBED = ["callbacks", "errbacks", "chain", "chord", "hostname"]

_TEXTS = st.sampled_from(
    ["", "x", "application/json", "base64", "zlib", "bzip2", "pickle", "2026-01-01T00:00:00", "9999-12-31T23:59:59-14:00", "9" * 5000,
     "x" * 100_000, "\ud800", "\u0000", '"', "attempts=99999999999999999 first=99999999999999999 due=99999999999999999",
     "tries=5 first=1 crashes=2 polls=9", "tgtrack.add_event", "tgtrack.main", "shop", "\\", "{}", "tonai.conversion"]
)  # fmt: skip
_NUMBERS = st.sampled_from([0, -1, 1, 3, 2**53, 2**63, 10**400, -(10**30), 1.5, float("nan"), float("inf")])
_LINKS = st.sampled_from(
    [
        [{"task": "shop.thanks", "args": [], "kwargs": {}, "options": {"queue": "shop"}}],
        [{"task": "tonai.conversion", "args": [], "kwargs": {"account": "main", "event": {}}, "options": {}}],
        [{"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": [{"task": "x"}]}, "args": [], "options": {}}],
        {"task": "shop.chord", "args": [], "kwargs": {}, "options": {"link": [{"task": "y", "options": {"serializer": "pickle"}}]}},
        [{"task": "x", "options": {"countdown": float("nan"), "headers": {"a": {}}}}],
    ]
)  # fmt: skip
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS | _LINKS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(HEADERS), inner, max_size=3),
    max_leaves=5,
)


def plain(task_name: str) -> tuple[dict[str, Any], list[Any]]:
    """A good message and its body's parts."""
    embed: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    headers = {
        "lang": "py",
        "task": task_name,
        "id": ENTRY,
        "root_id": ENTRY,
        "eta": None,
        "expires": None,
        "retries": 0,
    }
    properties = {"priority": 3, "delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": QUEUE}}
    document = {
        "headers": headers, "properties": properties, "content-type": "application/json", "content-encoding": "utf-8",
    }  # fmt: skip
    return document, [[], {"account": "main", "event": EVENTS[task_name]}, embed]


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    """A queue entry: a message with some parts replaced, or something else altogether."""
    if draw(st.integers(0, 9)) == 0:
        depth = draw(st.sampled_from([1, 50, 1000]))
        texts = [
            b"",
            b"null",
            b"[" * depth,
            b"\xff\xfe",
            b'{"headers": {}, "properties": {}}',
            b"9" * 5000,
            b'{"a": NaN}',
        ]
        return draw(st.sampled_from(texts) | st.binary(max_size=40))
    document, parts = plain(draw(st.sampled_from(["tgtrack.add_event", "tgtrack.get_user_info"])))
    for _ in range(draw(st.integers(1, 3))):
        names, holder = draw(
            st.sampled_from(
                [(HEADERS, document["headers"]), (PROPERTIES, document["properties"]), (EMBED, parts[2]), (EMBED, parts[2]),
                 (["account", "event", "self", "user_id"], parts[1])]
            )
        )  # fmt: skip
        holder[draw(st.sampled_from(names))] = draw(_VALUES)
    if draw(st.integers(0, 5)) == 0:
        parts[draw(st.integers(0, 2))] = draw(_VALUES)
    body = json.dumps(parts)
    packed = draw(st.integers(0, 5))
    if packed in (0, 1):
        body = base64.b64encode((zlib, bz2)[packed].compress(body.encode())).decode()
        document["headers"]["compression"] = ("zlib", "bzip2")[packed]
        document["properties"]["body_encoding"] = "base64"
    document["body"] = body
    if draw(st.integers(0, 7)) == 0:
        document[draw(st.sampled_from(PARTS))] = draw(_VALUES)
    raw = json.dumps(document).encode()
    if draw(st.integers(0, 9)) == 0:
        raw = raw.replace(b'"headers": {', b'"headers": {"postback": "attempts=3", "\\u0070ostback": "attempts=1", ', 1)
    return raw


class Bed:
    """A worker's parts around a real Redis: rounds over a wire that answers at once."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.client: Any = server.client()
        self.worker = Worker(server, QUEUE, one_first=True, backoff_s=0.001, max_attempts=3)
        self.verdict = Verdict(Outcome.DELIVERED, status=200)
        self.app = Celery("fuzz", broker=server.url, backend=server.url, set_as_current=False)
        self.app.conf.update(accept_content=["json"], task_ignore_result=True, task_acks_late=True)
        sender = Server(Answer(200, {}, b'{"status": "OK"}'))
        self.runtime = workers.worker.Worker(self.worker.governor.server, self.worker.accounts, sender)
        self.runtime.governor = self.worker.governor
        task.register(self.app, self.runtime)
        self.app.finalize()
        self.rounds = Rounds(self.runtime, AnswersAtOnce(sender), 1, lambda event: follow_up(self.app, "fuzz", event))

    def run(self, raw: bytes) -> None:
        """One entry, from its queue to its end."""
        self.client.flushdb()
        self.client.hset(keys.meta(QUEUE), "healthy", 1)
        self.client.lpush(QUEUE, raw)
        schedule.due(self.client, [QUEUE], "ask")
        self.rounds.wake()
        for _ in range(60):
            if self.rounds.round() > 0 and not len(self.runtime.grants):
                break
        assert not len(self.runtime.grants), "its grant was not settled"
        assert self.worker.governor.unsent == 0

    def somewhere(self) -> Counter[bytes]:
        """The bytes of everything that Redis holds of events."""
        kept = [*self.client.lrange(keys.dead("tgtrack"), 0, -1), *self.client.zrange(keys.delayed(QUEUE), 0, -1)]
        for name in keys.priority_lists(QUEUE):
            kept += self.client.lrange(name, 0, -1)
        return Counter([*kept, *self.client.zrange(keys.held(QUEUE), 0, -1)])


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    """One for all examples: making one takes a second."""
    with RedisServer() as server:
        yield Bed(server)
    worker_state.reset_state()


def with_headers(**headers: Any) -> bytes:
    """A good message with other headers."""
    document, parts = plain("tgtrack.add_event")
    document["headers"] |= headers
    return json.dumps({**document, "body": json.dumps(parts)}).encode()


@settings(deadline=None, database=None, max_examples=400, suppress_health_check=list(HealthCheck))
@given(raw=entries())
@example(raw=with_headers(expires={}))
@example(raw=with_headers(timelimit=5))
@example(raw=with_headers(stamps=5, stamped_headers="x"))
@example(raw=with_headers(shadow=["x"]))
@example(raw=with_headers(retries=10**400))
@example(raw=with_headers(postback="first=99999999999999999"))
def test_anything_comes_to_an_end(bed: Bed, raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Sent, or in a dead letter or a queue with its bytes; settled at once; no traceback."""
    caplog.clear()
    bed.run(raw)
    assert not [record for record in caplog.records if record.exc_info]
    reasons = []
    for entry in bed.client.lrange(keys.dead("tgtrack"), 0, -1):
        letter = next(operations.letters(bed.client, "tgtrack"))
        original = letter.message.original
        assert original == raw if original is not None else b"postback_dead" in entry
        reasons.append(letter.reason)
    assert set(reasons) <= {"malformed", "invalid", "unknown_account", "expired", "exhausted"}


@settings(deadline=None, database=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(raws=st.lists(entries(), min_size=1, max_size=4))
def test_every_command_reads_anything(bed: Bed, raws: list[bytes], monkeypatch_module: pytest.MonkeyPatch) -> None:
    """Such entries in queues and among dead letters: status, list, replay, erase and drop do their
    work and lose none of the others.
    """
    bed.client.flushdb()
    bed.client.rpush(QUEUE, *raws)
    bed.client.rpush(keys.dead("tgtrack"), *raws)
    operations.snapshot(bed.client)
    for letter in operations.letters(bed.client, "tgtrack"):
        json.dumps(letter.as_json())
    monkeypatch_module.setenv("POSTBACK_BROKER_URL", bed.server.url)
    for words in (
        ["status"],
        ["dead", "list", "tgtrack"],
        ["dead", "list", "tgtrack", "--json"],
        ["dead", "replay", "tgtrack", "--dry-run"],
    ):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert cli.main(words) in (0, 1)
    operations.erase(bed.client, "no-such-person")
    assert bed.somewhere().total() == 2 * len(raws)
    replayed = operations.replay(bed.client, "tgtrack", Filter())
    assert bed.client.llen(keys.dead("tgtrack")) + replayed.total == len(raws)
    operations.drop(bed.client, "tgtrack", Filter())


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    """One that all examples share."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def bad_messages() -> list[bytes]:
    """Fifty, each of a kind that broke Celery's own path in the first edition, and some that it
    must see through.
    """
    strange: list[Any] = [{}, 5, [], "9" * 5000, True]
    names = [
        "expires",
        "timelimit",
        "stamps",
        "shadow",
        "retries",
        "root_id",
        "group",
        "ignore_result",
        "stamped_headers",
        "eta",
    ]
    wrong = {
        "stamps": [5, [], "x", 1.5, True],
        "ignore_result": [{}, 5, [], "x", 1.5],
        "shadow": [{}, 5, [], 1.5, True],
    }
    wrong |= {"stamped_headers": [{}, 5, "x", [5], True], "retries": [{}, -5, [], "x", True]}
    wrong |= dict.fromkeys(("group", "root_id"), wrong["shadow"])
    return [
        with_headers(**{name: value}, id=f"bad-{name}-{n}")
        for name in names
        for n, value in enumerate(wrong.get(name, strange))
    ]


def test_fifty_bad_messages_stop_nobody() -> None:
    """Fifty in front of twenty good events of a fresh account: all twenty are delivered within 10
    s, fifty dead letters, no traceback.
    """
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account(QUEUE, limits="100000/second")
        bad = bad_messages()
        assert len(bad) == 50
        client = stack.redis.client()
        client.lpush(keys.priority_list(QUEUE, 3), *bad)
        for number in range(20):
            document, parts = plain("tgtrack.add_event")
            document["headers"]["id"] = f"good-{number}"
            parts[1]["event"] = {"user_id": str(number), "event_type": "sale"}
            client.lpush(keys.priority_list(QUEUE, 3), json.dumps({**document, "body": json.dumps(parts)}))
        stack.start_workers("tgtrack")
        stack.sandbox.wait_for(lambda s: s.stats()["events"] == 20, timeout_s=10)
        until(lambda: client.llen(keys.dead("tgtrack")) == 50, 10, "fifty dead letters")
        letters = list(operations.letters(client, "tgtrack"))
        assert {letter.reason for letter in letters} == {"malformed"}
        assert all("must be" in str(letter.header["detail"]) for letter in letters)
        assert stack.sandbox.stats()["requests"] == 20
        assert "Traceback" not in stack.logs()


def test_nobody_makes_a_worker_fill_a_queue() -> None:
    """A link to a queue that the configuration does not name: a dead letter that names the setting,
    no request, no such queue, no binding.
    """
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account(QUEUE, limits="100000/second")
        document, parts = plain("tgtrack.add_event")
        parts[2]["callbacks"] = [
            {"task": "x", "args": [], "kwargs": {}, "options": {"queue": "made-up", "exchange": ""}}
        ]
        client: Any = stack.redis.client()
        client.lpush(QUEUE, json.dumps({**document, "body": json.dumps(parts)}))
        stack.start_workers("tgtrack")
        until(lambda: client.llen(keys.dead("tgtrack")) == 1, 10, "a dead letter")
        (letter,) = operations.letters(client, "tgtrack")
        assert letter.reason == "malformed"
        assert "POSTBACK_LINK_QUEUES" in letter.header["detail"]
        assert stack.sandbox.stats()["requests"] == 0
        assert not [key for key in client.keys("*") if b"made-up" in key]


def test_a_link_to_a_named_queue() -> None:
    """With the setting, a link leads to the caller's own queue."""
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account(QUEUE, limits="100000/second")
        document, parts = plain("tgtrack.add_event")
        parts[2]["callbacks"] = [
            {"task": "shop.thanks", "args": [], "kwargs": {}, "options": {"queue": "shop"}, "immutable": True}
        ]
        client: Any = stack.redis.client()
        client.lpush(QUEUE, json.dumps({**document, "body": json.dumps(parts)}))
        stack.start_workers("tgtrack", POSTBACK_LINK_QUEUES="shop, other")
        until(lambda: client.llen("shop") == 1, 10, "the link")
        assert json.loads(client.lindex("shop", 0))["headers"]["task"] == "shop.thanks"
