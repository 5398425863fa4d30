"""How ``first_edition.json`` was made: by the first edition's own code, from its own checkout
(commit b892b74).

``git worktree add /tmp/first b892b74``, copy this file to ``/tmp/first/tests/pinned_capture.py``,
and run it as a module there, with the file to write as its argument. It runs with no later code:
the data are what users of the first edition have in Redis when they upgrade.
"""

# Its imports are the first edition's.

from __future__ import annotations

import base64
import json
import sys
import time
from typing import Any

from celery import Celery
from tasks.isolation import split

import postback
from postback import mytracker, tganalytics, tgtrack, tonai
from tasks.grants import REGISTRY, Settlement
from tests.integration.workers.governor.crew import CREDENTIALS, Worker
from workers import governor
from workers.devkit import RedisServer

SESSION = "10c574d9-6d2c-4e6d-a141-ce6da141ce6d"
LETTER = (
    '{"reason": "rejected", "status": 400, "detail": "Bad Request", "attempts": 1, "enqueued_at": "2026-11-24T09:00:00.000Z", '
    '"failed_at": "2026-11-24T09:00:01.000Z", "possible_duplicate": false}'
)


def sale(user: str, account: str = "main", **more: Any) -> tgtrack.AddEvent:
    return tgtrack.AddEvent(user_id=user, event_type="sale", date=1_764_000_000, account=account, **more)


def login(user: str) -> mytracker.Login:
    return mytracker.Login(custom_user_id=user, event_timestamp=1_764_000_000, account="game")


def crew(server: RedisServer, queue: str, **table: Any) -> Worker:
    worker = Worker(server, queue, **table)
    worker.pump()
    worker.open()
    return worker


def fill(server: RedisServer) -> None:
    """Every place in which the first edition keeps an event, named after the place by its user."""
    # Held aside: two failures in a row, the provider not yet in outage.
    held = crew(server, "tgtrack.failing")
    postback.send_many([sale(f"held-{n}", "failing") for n in range(2)])
    for _ in range(2):
        held.settle(held.one(), Settlement(health="fail", detail="503", messages=[[1, "retry", 60_000, 1]]))
    # In outage, with what is held and what waits.
    outage = crew(server, "tgtrack.outage", outage_after=3)
    postback.send_many([sale(f"outage-{n}", "outage") for n in range(5)])
    for _ in range(3):
        outage.settle(outage.one(), Settlement(health="fail", detail="503", messages=[[1, "retry", 60_000, 0]]))
    # Delayed: by a countdown, by a raw client's eta, by a back-off, by a poll.
    main = crew(server, "tgtrack.main")
    sale("delayed-countdown").apply_async(countdown=3)
    app = Celery("raw", broker=server.url, set_as_current=False)
    kwargs = {"account": "main", "event": {"user_id": "delayed-raw", "event_type": "sale"}}
    app.send_task("tgtrack.add_event", kwargs=kwargs, queue="tgtrack.main", countdown=3)
    main.take()
    sale("delayed-retry").delay()
    main.settle(main.one(), Settlement(health="unknown", messages=[[1, "retry", 60_000, 1]]))
    sale("delayed-poll").delay()
    main.settle(main.one(), Settlement(health="ok", messages=[[1, "poll", 60_000]]))
    # A dead letter, and one that is no message.
    sale("dead").delay()
    main.settle(main.one(), Settlement(health="ok", messages=[[1, "dead", 0, 0, LETTER]]))
    # An idempotency key whose first event was delivered; its second copy waits.
    sale("key-first").apply_async(idempotency_key="order-17")
    main.settle(main.one())
    # Halves of a refused batch, with siblings.
    game = crew(server, "mytracker.game", linger_s=0)
    postback.send_many([login(f"half-{n}") for n in range(6)])
    (grant,) = game.take()
    settlement = Settlement(health="ok")
    split(grant, list(range(6)), settlement)
    game.settle(grant, settlement)
    # A batch in flight.
    flight = crew(server, "tganalytics.docs", token="t", app_name="docs", linger_s=0)
    postback.send_many(
        [tganalytics.Event(user_id=n, event_name="app-init", session_id=SESSION, account="docs") for n in range(3)]
    )
    flight.take()
    # A quota log: five of five an hour are spent, and one event waits.
    quota = crew(server, "tgtrack.quota", limits="5 per 3600 seconds")
    postback.send_many([sale(f"quota-{n}", "quota") for n in range(6)])
    for _ in range(5):
        quota.settle(quota.one())
    # Paused for a refused key.
    refused = crew(server, "tonai.main", api_key="k", environment="staging")
    tonai.Conversion(telegram_user_id="17", account="main").delay()
    refused.settle(refused.one(), Settlement(health="refused", detail="401", messages=[[1, "back"]]))
    # Single ones in flight, and what waits.
    postback.send_many([sale(f"flight-{n}") for n in range(2)])
    main.take(2)
    postback.send_many([sale(f"waiting-{n}") for n in range(3)])
    sale("key-second").apply_async(idempotency_key="order-17")
    tgtrack.UserDidStartBot(user_id="waiting-start", first_name="Ада").apply_async(priority=6)


def dump(client: Any) -> dict[str, Any]:
    """Every key with its bytes, in base64."""
    read = {
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: [part for pair in client.zrange(key, 0, -1, withscores=True) for part in pair],
        b"hash": lambda key: [part for pair in client.hgetall(key).items() for part in pair],
        b"string": lambda key: [client.get(key)],
        b"set": lambda key: list(client.smembers(key)),
    }

    def text(part: Any) -> Any:
        return part if isinstance(part, float) else base64.b64encode(part).decode()

    found = {}
    for key in sorted(client.keys("*")):
        kind = client.type(key)
        found[key.decode()] = {"type": kind.decode(), "value": [text(part) for part in read[kind](key)]}
    return found


def main() -> None:
    """The command."""
    governor.SEND_ONE_FIRST = 0  # type: ignore[misc]
    CREDENTIALS.update(tganalytics={}, tonai={})  # type: ignore[attr-defined]
    with RedisServer() as server:
        names = {
            "tgtrack": ["main", "failing", "outage", "quota"],
            "mytracker": ["game"],
            "tganalytics": ["docs"],
            "tonai": ["main"],
        }
        postback.configure(broker_url=server.url, accounts=names)
        fill(server)
        captured = {"commit": "b892b74", "at_ms": int(time.time() * 1000), "keys": dump(server.client())}
        REGISTRY.clear()
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(captured, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
