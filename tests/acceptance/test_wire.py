"""One worker's wire, as an operator and its accounts see it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery

import postback
from postback import tgtrack
from postback.wire import keys
from workers.devkit import Stack, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@contextmanager
def silent() -> Iterator[str]:
    """A provider that takes every connection and never answers."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    kept: list[socket.socket] = []

    def take() -> None:
        while True:
            try:
                kept.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=take, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    for connection in kept:
        connection.close()


@pytest.mark.parametrize(("accounts", "good"), [(41, 1), (1000, 10)])
def test_silent_providers_delay_nobody(accounts: int, good: int) -> None:
    """40 of 41 accounts, and 990 of 1,000, whose provider never answers: the others' p99 stays
    under half a second.
    """
    with silent() as nowhere, Stack(limits={"tgtrack": None}) as stack:
        table: dict[str, Any] = {"limits": "100000/second"}
        stack._accounts = {
            f"tgtrack.a{number}": {
                **table,
                "api_key": f"k{number}",
                "base_url": stack.sandbox.url if number < good else nowhere,
            }
            for number in range(1, accounts)
        }
        stack.account("tgtrack.a0", limits="100000/second")
        stack.configure_producer()
        dead = [tgtrack.AddEvent(user_id="x", event_type="sale", account=f"a{n}") for n in range(good, accounts)]
        stack.start_workers("tgtrack")
        # The good ones have answered before the trouble begins.
        postback.send_many([tgtrack.AddEvent(user_id="1", event_type="sale", account=f"a{n}") for n in range(good)])
        stack.sandbox.wait_for(lambda s: len(s.events("tgtrack")) == good, timeout_s=60)
        for _ in range(3):
            postback.send_many(dead)
        client = stack.client()

        def silent_ones() -> int:
            return sum(client.exists(keys.flight(f"tgtrack.a{number}")) for number in range(good, accounts))

        until(lambda: silent_ones() >= min(40, accounts - good), 30, "requests of silent accounts")
        for number in range(400):
            tgtrack.AddEvent(user_id=f"{time.time():.4f}", event_type="seen", account=f"a{number % good}").delay()
            time.sleep(0.01)
        stack.sandbox.wait_for(lambda s: len(s.events("tgtrack")) == good + 400, timeout_s=60)
        waits = sorted(
            record.at - float(event["user_id"])
            for record in stack.sandbox.ledger(recorded=True)
            for event in record.events
            if event["event_type"] == "seen"
        )
        print(f"{accounts - good} of {accounts} silent: p50 {waits[200] * 1000:.0f} ms, p99 {waits[396] * 1000:.0f} ms")
        assert waits[396] < 0.5


def test_what_is_on_the_wire_is_told() -> None:
    """`inspect active` names each event whose request is on its way, and a warm end waits for
    it.
    """
    with silent() as nowhere, Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", base_url=nowhere, limits="100000/second", timeout_s=4, connect_timeout_s=2)
        stack.configure_producer()
        (worker,) = stack.start_workers("tgtrack")
        sent = tgtrack.AddEvent(user_id="987654321", event_type="sale").delay()
        until(lambda: stack.client().zcard(keys.flight("tgtrack.main")), 20, "its request")
        inspect = Celery("test", broker=stack.redis.url, set_as_current=False).control.inspect(timeout=2, limit=1)
        (active,) = (inspect.active() or {}).values()
        assert [(one["id"], one["name"]) for one in active] == [(sent.id, "tgtrack.add_event")]
        assert "987654321" not in str(active)
        (reserved,) = (inspect.reserved() or {}).values()
        assert reserved == []
        assert worker.stop() == 0
        # Its answer never came: ambiguous, and back in Redis, flagged.
        (raw,) = stack.client().zrange(keys.delayed("tgtrack.main"), 0, -1) or stack.client().zrange(
            keys.held("tgtrack.main"), 0, -1
        )
        assert "duplicate=1" in raw
        assert stack.client().zcard(keys.flight("tgtrack.main")) == 0


@pytest.mark.parametrize("engine", ["curl", "requests"])
def test_either_engine_delivers(engine: str) -> None:
    """`POSTBACK_HTTP` chooses the engine; both deliver each event once."""
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits="100000/second")
        stack.configure_producer()
        postback.send_many([tgtrack.AddEvent(user_id=str(number), event_type="sale") for number in range(500)])
        (worker,) = stack.start_workers("tgtrack", POSTBACK_HTTP=engine)
        stack.sandbox.wait_for(lambda s: len(s.events("tgtrack")) >= 500, timeout_s=60)
        assert worker.stop() == 0
        users = [event["user_id"] for event in stack.sandbox.events("tgtrack")]
        assert sorted(users, key=int) == [str(number) for number in range(500)]
