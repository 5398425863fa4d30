"""What acceptance tests look at: dead letters, messages in Redis, the single events of a request's
body, a raw client's messages.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery

from postback.sandbox.ledger import Record
from postback.wire import keys
from workers.devkit import Process, Stack, until
from workers.devkit.stack import READY


@dataclass(frozen=True)
class Dead:
    """A dead letter: the event's id, its wire form, and the letter's own words."""

    id: str
    event: Any
    reason: str
    status: int | None
    detail: str
    attempts: int
    possible_duplicate: bool


def dead_letters(stack: Stack, queue: str, count: int = 0, timeout_s: float = 20.0) -> list[Dead]:
    """The dead letters of one account, the oldest first, once there are ``count`` (at least)."""

    def found() -> list[Dead] | None:
        raws = stack.client().lrange(keys.dead(queue.partition(".")[0]), 0, -1)
        letters = [_dead(json.loads(raw)) for raw in reversed(raws) if _queue_of(json.loads(raw)) == queue]
        return letters if len(letters) >= count else None

    return until(found, timeout_s, f"{count} dead letters of {queue}") if count else found() or []


def _queue_of(message: dict[str, Any]) -> str:
    return str(message["properties"]["delivery_info"]["routing_key"])


def _dead(message: dict[str, Any]) -> Dead:
    words = message["headers"]["postback_dead"]
    return Dead(
        message["headers"]["id"],
        event_of(message),
        words["reason"],
        words["status"],
        words["detail"],
        words["attempts"],
        words["possible_duplicate"],
    )


def event_of(message: dict[str, Any]) -> Any:
    """The event in a Celery message; None if there is none."""
    body = message["body"]
    if message["properties"].get("body_encoding") == "base64":
        body = base64.b64decode(body)
    parts = json.loads(body)
    return parts[1].get("event") if isinstance(parts, list) and len(parts) == 3 else None


def queued(stack: Stack, queue: str) -> list[dict[str, Any]]:
    """The messages that wait in an account's lists and delayed set."""
    client = stack.client()
    raws = [raw for name in keys.priority_lists(queue) for raw in client.lrange(name, 0, -1)]
    return [json.loads(raw) for raw in [*raws, *client.zrange(keys.delayed(queue), 0, -1)]]


def settled(stack: Stack, queue: str, timeout_s: float = 30.0) -> None:
    """Wait until an account holds nothing any more."""
    until(
        lambda: stack.waiting(queue) == 0 and not stack.client().llen(keys.groups(queue)),
        timeout_s,
        f"{queue} empty",
    )


def end_leases(stack: Stack, queue: str) -> None:
    """Let the leases of a killed worker's requests end now, and not only when their time is
    over.
    """
    client, flight = stack.client(), keys.flight(queue)
    for grant in client.zrange(flight, 0, -1):
        client.zadd(flight, {grant: 1}, xx=True)


def items(record: Record) -> list[bytes]:
    """The single events of a request's body, the very bytes of each."""
    assert record.body is not None
    text = record.body.decode()
    if not text.startswith("["):
        return [record.body]
    decoder, found, at = json.JSONDecoder(), [], 1
    while text[at] != "]":
        _, end = decoder.raw_decode(text, at)
        found.append(text[at:end].encode())
        at = end + (text[end] == ",")
    return found


def times_sent(records: Iterable[Record], field: str) -> Counter[Any]:
    """How often each value of ``field`` was in a request."""
    return Counter(json.loads(item)[field] for record in records for item in items(record))


def possible_with(windows: Sequence[tuple[int, float]], watched_s: float) -> int:
    """Requests that a policy that does not know the phases could send at most, with no latency at
    all.
    """
    sent: list[float] = []
    while True:
        waits = [sent[-limit] + window_s for limit, window_s in windows if len(sent) >= limit]
        at = max([0.0, *waits])
        if at >= watched_s:
            return len(sent)
        sent.append(at)


class RawClient:
    """Any Celery client: it knows the wire format and nothing of Postback."""

    def __init__(self, stack: Stack) -> None:
        self._app = Celery("shop", broker=stack.redis.url, set_as_current=False)
        self._redis = stack.client()

    def send(self, task: str, event: Any, account: str, **options: Any) -> str:
        """Send as Celery does by default, the body in base64. Returns the id."""
        provider = task.partition(".")[0]
        result = self._app.send_task(
            task, kwargs={"account": account, "event": event}, queue=keys.queue(provider, account), **options
        )
        return str(result.id)

    def push(self, task: str, event: Any, account: str, task_id: str, **headers: Any) -> None:
        """Push a message by hand, the body as text inside JSON."""
        embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        queue = keys.queue(task.partition(".")[0], account)
        message = {
            "body": json.dumps([[], {"account": account, "event": event}, embed]),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "js", "task": task, "id": task_id, "root_id": task_id, **headers},
            "properties": {
                "delivery_tag": task_id,
                "priority": 0,
                "delivery_info": {"exchange": "", "routing_key": queue},
            },
        }
        self._redis.lpush(queue, json.dumps(message))


def start_all_providers(stack: Stack) -> Process:
    """``celery -A workers.app worker``: a single process that serves all accounts; returns when it
    is ready.
    """
    worker = stack.launch("all", "-m", "celery", "-A", "workers.app", "worker", "-n", "all@%h")
    stack.workers.append(worker)
    return worker.wait_for(READY)


def values_in(stack: Stack) -> str:
    """All that a stack's Redis holds, but for the times in quota logs."""
    client = stack.client()
    readers: dict[str, Callable[[str], Any]] = {
        "list": lambda name: client.lrange(name, 0, -1),
        "hash": client.hgetall,
        "set": client.smembers,
        "zset": lambda name: client.zrange(name, 0, -1),
        "stream": client.xrange,
        "string": lambda name: "" if name.endswith((".ring", ".log")) else client.get(name),
    }
    return "\n".join(f"{name} {readers[str(client.type(name))](name)}" for name in client.scan_iter())
