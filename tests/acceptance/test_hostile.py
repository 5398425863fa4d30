"""Messages that would cost a worker its memory, or make it write where nobody asked it to.

Real workers, Redis and HTTP.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from postback import operations
from postback.wire import keys
from tests.shared import hostile
from workers.devkit import Stack, until

pytestmark = pytest.mark.slow

QUEUE = "tgtrack.main"
OPTIONS: dict[str, Any] = {
    "task": "tgtrack.add_event", "account": "main", "event": {"user_id": "987654321", "event_type": "sale", "date": 1622520000},
}  # fmt: skip


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One worker, which lets links go to one queue more."""
    with Stack(limits={}) as stack:
        stack.account(QUEUE, limits="100000/second")
        stack.start_workers("tgtrack", POSTBACK_LINK_QUEUES="shop.mail")
        yield stack


@pytest.fixture(autouse=True)
def no_letters(stack: Stack) -> None:
    """Dead letters of other tests are gone."""
    operations.drop(stack.redis.client(), "tgtrack", operations.Filter())


def peak_mb(stack: Stack) -> float:
    """Most memory that the worker has ever had, in MB."""
    status = Path(f"/proc/{stack.workers[0].process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def push(stack: Stack, *raws: bytes) -> None:
    for raw in raws:
        stack.redis.client().lpush(QUEUE, raw)


def letters(stack: Stack, count: int) -> list[operations.Letter]:
    """The dead letters, once there are so many."""
    client: Any = stack.redis.client()
    until(lambda: client.llen(keys.dead("tgtrack")) >= count, 20, f"{count} dead letters")
    return list(operations.letters(client, "tgtrack"))


def linked(queue: str | None, number: int = 0, part: str = "callbacks") -> bytes:
    """An event with a link to a queue."""
    link = {**hostile.LINK, "immutable": True, "options": {"queue": queue} if queue else {}}
    return hostile.build([(("embed", part), [link])], id=f"linked-{queue}-{number}", **OPTIONS)


def test_a_bomb_takes_no_memory(stack: Stack) -> None:
    """Three hundred megabytes in a message of four hundred kilobytes are a dead letter, and the
    worker stays as small as it was.
    """
    before = peak_mb(stack)
    document = json.loads(hostile.build([(("headers", "compression"), "zlib")], id="bomb", **OPTIONS))
    document["body"] = base64.b64encode(zlib.compress(bytes(300_000_000))).decode()
    push(stack, json.dumps(document).encode())
    (letter,) = letters(stack, 1)
    assert letter.reason == "malformed"
    assert "decompressed" in letter.header["detail"]
    assert peak_mb(stack) < before + 20
    # What reads it afterwards takes no more.
    operations.erase(stack.redis.client(), "987654321")
    assert [one.message.id for one in letters(stack, 1)] == ["bomb"]


def test_a_huge_message_is_a_dead_letter(stack: Stack) -> None:
    """A message of ten megabytes, and ten megabytes that are no message, are dead letters whose
    bytes are kept; the next event goes out.
    """
    whole = hostile.build([], id="huge", **OPTIONS)
    huge = whole.replace(b'"argsrepr": "()"', b'"argsrepr": "' + b"x" * 10_000_000 + b'"')
    recorded = stack.sandbox.stats()["events"]
    push(stack, huge, b"{" * 10_000_000, hostile.build([], id="next", **OPTIONS))
    stack.sandbox.wait_for(lambda sandbox: sandbox.stats()["events"] > recorded, timeout_s=20)
    by_id = {letter.message.id: letter for letter in letters(stack, 2)}
    assert {letter.reason for letter in by_id.values()} == {"malformed"}
    assert "bytes" in by_id["huge"].header["detail"]
    assert len(by_id["huge"].message.raw) > 10_000_000


def test_links_bind_nothing(stack: Stack) -> None:
    """Links to Celery's own queue, to one of the setting and to an account lie in these lists; no
    exchange or binding was made for them.
    """
    client: Any = stack.redis.client()
    recorded = stack.sandbox.stats()["events"]
    push(stack, linked(None), linked("shop.mail"), linked("tonai.main"))
    stack.sandbox.wait_for(lambda sandbox: sandbox.stats()["events"] == recorded + 3, timeout_s=20)
    until(lambda: stack.waiting(QUEUE) == 0, 20, "all settled")
    assert [client.llen(queue) for queue in ("celery", "shop.mail", "tonai.main")] == [1, 1, 1]
    bindings = [name.decode() for name in client.keys("_kombu.binding.*")]
    assert not [name for name in bindings if not name.endswith((".pidbox", "celeryev"))], bindings


@pytest.mark.parametrize("part", ["callbacks", "errbacks", "chain"])
def test_forbidden_links_make_no_queue(stack: Stack, part: str) -> None:
    """A link to any other queue: no request, no list, and a dead letter that names the setting."""
    client: Any = stack.redis.client()
    requests = stack.sandbox.stats()["requests"]
    push(stack, linked("made-up", part=part))
    (letter,) = letters(stack, 1)
    assert "POSTBACK_LINK_QUEUES" in letter.header["detail"]
    assert "made-up" not in letter.header["detail"]
    assert stack.sandbox.stats()["requests"] == requests
    assert not client.keys("*made-up*")


def test_the_log_is_clean(stack: Stack) -> None:
    """None of this left a traceback."""
    assert "Traceback" not in stack.logs()
