"""What happens when things go wrong, in numbers: ``python -m benchmarks.promises``.

Each line is one promise that the first edition broke. The file uses nothing but the devkit.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
import uuid
import zlib
from collections.abc import Callable
from typing import Any, Final

import redis
from celery import Celery

import postback
from postback import tganalytics, tgtrack
from postback.wire import keys
from workers.devkit import Stack

FAST: Final = "100000/second"
QUEUE: Final = "tgtrack.main"
DAY_MS: Final = 86_400_000


def sale(user: str) -> tgtrack.AddEvent:
    """An event."""
    return tgtrack.AddEvent(user_id=user, event_type="sale", account="main")


def message(user: str, **headers: Any) -> str:
    """A raw client's message."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([[], {"account": "main", "event": {"user_id": user, "event_type": "sale"}}, embed])
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": "tgtrack.add_event", "id": str(uuid.uuid4()), **headers},
            "properties": {
                "body_encoding": "base64", "priority": 0, "delivery_tag": user, "delivery_info": {"exchange": "", "routing_key": QUEUE},
            },
        }
    )  # fmt: skip


def wait(condition: Callable[[], Any], timeout_s: float) -> float | None:
    """Seconds until it was true; None if it did not become so in time."""
    begun = time.monotonic()
    while time.monotonic() - begun < timeout_s:
        with contextlib.suppress(redis.RedisError):
            if condition():
                return time.monotonic() - begun
        time.sleep(0.05)
    return None


def within(seconds: float | None, timeout_s: float) -> str:
    """For people."""
    return f"never in {timeout_s:g} s" if seconds is None else f"{seconds:.1f} s"


def stack(**account: Any) -> Stack:
    """An installation with one account."""
    made = Stack(limits={"tgtrack": None})
    made.account(QUEUE, **{"limits": FAST, **account})
    return made


def forged_number() -> str:
    """Seconds until Redis answers after a message with a first grant above 2^53 fails twice."""
    with stack(backoff_s=0.05) as s:
        s.sandbox.fault("503", provider="tgtrack", count=3)
        for name in "ab":
            s.client().lpush(QUEUE, message(name, postback="first=99999999999999999"))
        s.start_workers("tgtrack")
        client = redis.Redis(port=s.redis.port, socket_timeout=1)
        told = within(wait(lambda: s.sandbox.stats()["events"] == 2 and client.ping(), 15), 15)
        s.redis.kill()
        return told


def equal_messages() -> str:
    """Longest script call (slow log) while 10,000 equal messages with an `eta` are sorted."""
    with stack() as s:
        client = s.client()
        raw = message("same", eta="2100-01-01T00:00:00")
        for _ in range(10):
            client.lpush(QUEUE, *[raw] * 1000)
        client.config_set("slowlog-log-slower-than", 1000)
        client.config_set("slowlog-max-len", 10_000)
        s.start_workers("tgtrack")
        # A call that takes seconds keeps Redis, and the worker, from answering.
        taken = wait(lambda: client.llen(QUEUE) == 0, 60)
        longest_ms = max((entry["duration"] for entry in client.slowlog_get(10_000)), default=0) / 1000
        return f"{longest_ms:,.0f} ms, all sorted out after {within(taken, 60)}"


def full_redis() -> str:
    """Events of 3,000 that a worker delivers within 30 s at `maxmemory`.

    And what a worker does that is started then.
    """
    with stack() as s:
        s.configure_producer()
        postback.send_many([sale(str(number)) for number in range(3000)])
        client = s.client()
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 100_000)
        worker = s.launch_worker("tgtrack")
        s.workers.append(worker)
        taken = wait(lambda: s.sandbox.stats()["events"] >= 3000 or not worker.alive, 30)
        status = worker.process.poll()
        ended = "lives" if status is None else f"ended with {status}"
        twice = s.sandbox.stats()["events"] - len({event["user_id"] for event in s.sandbox.events("tgtrack")})
        return f"{s.sandbox.stats()['events']:,} in {within(taken, 30)}, {twice} twice; the worker {ended}"


def bad_messages() -> str:
    """Seconds until 20 good events behind 50 with a wrong type in a header are delivered."""
    with stack() as s:
        names = ("expires", "timelimit", "stamps", "retries", "shadow")
        for number in range(50):
            s.client().lpush(QUEUE, message(f"bad{number}", **{names[number % 5]: ({}, 5, [5], "x" * 10)[number % 4]}))
        for number in range(20):
            s.client().lpush(QUEUE, message(f"good{number}"))
        s.start_workers("tgtrack")

        def all_good() -> bool:
            return sum(event["user_id"].startswith("good") for event in s.sandbox.events("tgtrack")) == 20

        taken = wait(all_good, 40)
        return f"{within(taken, 40)}, {s.logs().count('Traceback')} tracebacks"


def bomb() -> str:
    """Memory of the worker at most, when a message of 0.95 MB holds a gigabyte."""
    with stack() as s:
        document = json.loads(message("bomb", compression="zlib"))
        document["body"] = base64.b64encode(zlib.compress(b" " * 730_000_000, 9)).decode()
        (worker,) = s.start_workers("tgtrack")
        s.client().lpush(QUEUE, json.dumps(document))
        wait(lambda: s.client().llen(keys.dead("tgtrack")), 30)
        with open(f"/proc/{worker.process.pid}/status", encoding="ascii") as file:
            peak = re.search(r"VmHWM:\s+(\d+)", file.read())
        return f"{int(peak[1]) / 1024:,.0f} MB" if peak else "?"


def backlog() -> str:
    """What becomes of an event that was enqueued eight days ago and meets one 503."""
    with stack(backoff_s=0.05) as s:
        s.sandbox.fault("503", provider="tgtrack", count=1)
        s.client().lpush(QUEUE, message("old", postback_at=int(time.time() * 1000) - 8 * DAY_MS))
        s.start_workers("tgtrack")
        wait(lambda: s.sandbox.stats()["events"] or s.client().llen(keys.dead("tgtrack")), 15)
        return "delivered" if s.sandbox.stats()["events"] else "dead letter `exhausted`"


def revocation() -> str:
    """Whether an event is sent that was revoked before all workers were restarted."""
    with stack() as s:
        s.configure_producer()
        (worker,) = s.start_workers("tgtrack")
        s.client().hset(keys.meta(QUEUE), mapping={"paused": -1, "reason": "operator"})
        revoked = sale("1").delay()
        Celery("operator", broker=s.redis.url, set_as_current=False).control.revoke(
            revoked.id, reply=True, timeout=5, limit=1
        )
        worker.kill()
        s.client().hdel(keys.meta(QUEUE), "paused", "reason")
        s.start_workers("tgtrack")
        wait(lambda: s.sandbox.stats()["events"] or s.client().llen(keys.dead("tgtrack")), 15)
        return "sent" if s.sandbox.stats()["events"] else "dead letter `revoked`"


def long_text() -> str:
    """What a producer is told of a `user_id` of 5 MB."""
    with stack() as s:
        s.configure_producer()
        try:
            sale("1" * 5_000_000).delay()
        except postback.InvalidEvent as error:
            return f"`{error}`"
        return "accepted"


def few_retries() -> str:
    """What becomes of a Telegram Analytics event after two server faults and one 203."""
    with Stack() as s:
        s.account("tganalytics.main", limits=FAST, backoff_s=0.05, linger_s=0)
        s.configure_producer()
        for fault, count in (("500", 2), ("203", 1)):
            s.sandbox.fault(fault, provider="tganalytics", count=count)
        tganalytics.Event(user_id=1, event_name="app-init", session_id=str(uuid.uuid4())).delay()
        s.start_workers("tganalytics")
        wait(lambda: s.sandbox.stats()["events"] or s.client().llen(keys.dead("tganalytics")), 15)
        return "dead letter `exhausted`" if s.client().llen(keys.dead("tganalytics")) else "tried again, delivered"


def refused_key() -> str:
    """Lines of WARNING or more that name an account whose key is refused."""
    with stack(api_key="refused-key-1") as s:
        s.configure_producer()
        s.sandbox.revoke("tgtrack", "refused-key-1")
        for number in range(5):
            sale(str(number)).delay()
        s.start_workers("tgtrack", count=2)
        wait(lambda: "is paused" in s.logs(), 18)
        return str(len(re.findall(r"(?:WARNING|ERROR|CRITICAL).*tgtrack\.main", s.logs())))


MEASURED: Final = (
    forged_number, equal_messages, full_redis, bad_messages, bomb, backlog, revocation, long_text, few_retries, refused_key,
)  # fmt: skip


def main() -> None:
    """Measure and print a table in Markdown."""
    print("| what | seen |\n|---|---|")
    for measure in MEASURED:
        try:
            seen = measure()
        except Exception as error:  # an edition that breaks so far is a result, too
            seen = f"{type(error).__name__}: {str(error)[:80]}"
        print(f"| {' '.join((measure.__doc__ or '').split())} | {seen} |", flush=True)


if __name__ == "__main__":
    main()
