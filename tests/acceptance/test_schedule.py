"""What a waiting worker hears of, and how soon (ADR 29): raw pushes, restarts, deaths, other
clocks, other accounts files.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

import postback
from postback import tgtrack
from postback.operations import pause
from postback.wire import keys
from postback.wire.broker import connect
from tests.integration.workers.governor.bench import message
from workers.devkit import Stack, until
from workers.devkit.stack import READY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

FAST = "100000/second"
#: Makes a Python process believe that it is an hour later.
AN_HOUR_LATER = """
import time
true, true_ns = time.time, time.time_ns
time.time, time.time_ns = lambda: true() + 3600, lambda: true_ns() + 3600 * 10**9
"""


@pytest.fixture
def stack() -> Iterator[Stack]:
    with Stack(appendonly=True, limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits=FAST)
        stack.configure_producer()
        yield stack


def sale(user: str = "17", **fields: Any) -> tgtrack.AddEvent:
    return tgtrack.AddEvent(user_id=user, event_type="sale", **fields)


def delivered(stack: Stack, count: int, timeout_s: float) -> float:
    """Seconds until so many events have arrived."""
    begun = time.monotonic()
    stack.sandbox.wait_for(lambda sandbox: sandbox.stats()["events"] >= count, timeout_s)
    return time.monotonic() - begun


def test_a_raw_client_s_push(stack: Stack) -> None:
    """Any Celery client, or an older SDK: it only pushes, and its event is there within 1.1 s, in
    any list.
    """
    stack.start_workers("tgtrack")
    client = stack.client()
    for number, step in enumerate(keys.PRIORITY_STEPS, 1):
        raw = message(f"raw-{number}").replace(b'\\"pad\\": \\"\\"', b'\\"event_type\\": \\"sale\\"')
        client.lpush(keys.priority_list("tgtrack.main", step), raw)
        assert delivered(stack, number, 5) < 1.1


def test_a_send_wakes(stack: Stack) -> None:
    """An event of the SDK's does not wait for the next look, nor for the sweep."""
    stack.start_workers("tgtrack")
    sale().delay()
    delivered(stack, 1, 5)
    took = []
    for number in range(2, 12):
        sale(str(number)).delay()
        took.append(delivered(stack, number, 5))
    assert sorted(took)[5] < 0.1


def test_redis_restarts(stack: Stack) -> None:
    """The first request goes at most 2 s after Redis answers again, however long Celery's own
    reconnect takes.
    """
    stack.start_workers("tgtrack")
    sale("1").delay()
    delivered(stack, 1, 10)
    stack.redis.kill()
    time.sleep(3)  # Celery's reconnect waits longer each time
    stack.redis.start()
    stack.configure_producer()
    sale("2").delay()
    assert delivered(stack, 2, 20) < 2.0


def status(stack: Stack, command: str) -> tuple[int, str]:
    """Of the command `postback`: its exit code, and what it says."""
    done = stack.postback(*command.split())
    return done.returncode, done.stdout


def test_a_worker_that_was_killed_is_missed(stack: Stack) -> None:
    """Within 10 s: `status` and `check` turn red. One that ends says so at once."""
    (worker,) = stack.start_workers("tgtrack")
    until(lambda: status(stack, "check")[0] == 0, 10, "a healthy installation")
    worker.kill()
    begun = time.monotonic()
    pause(connect(stack.redis.url), "tgtrack.main")
    sale().delay()
    asked = []

    def is_red() -> bool:
        asked.append(time.monotonic() - begun)
        return status(stack, "check")[0] == 1

    until(is_red, 20, "check is red", every_s=0.2)
    assert asked[-2] < 10, "a check that began later did not miss it"
    assert status(stack, "status --check")[0] == 1
    seen = json.loads(status(stack, "status --json")[1])
    assert (seen["accounts"][0]["served"], seen["workers"]) == (False, [])
    (worker,) = stack.start_workers("tgtrack")
    until(lambda: json.loads(status(stack, "status --json")[1])["workers"], 10, "it is back")
    worker.stop()
    assert json.loads(status(stack, "status --json")[1])["workers"] == []


def test_a_worker_an_hour_ahead(stack: Stack) -> None:
    """Its clock decides nothing: what expires in a minute is sent, what is due in a second is sent
    then, and it says so.
    """
    (stack.folder / "sitecustomize.py").write_text(AN_HOUR_LATER)
    (worker,) = stack.start_workers("tgtrack", PYTHONPATH=str(stack.folder))
    sale("1").apply_async(expires=60)
    sale("2").apply_async(countdown=1.5)
    delivered(stack, 1, 5)
    assert 1.0 < delivered(stack, 2, 10) < 3.0
    assert "clock is 3600 s ahead of Redis'" in worker.text()
    assert status(stack, "check")[0] == 0


def test_two_accounts_files(stack: Stack) -> None:
    """Workers of one provider with accounts of their own: neither takes, hides or delays what is
    the other's.
    """
    stack.account("tgtrack.shop", limits=FAST)
    stack.configure_producer()
    files = {}
    for name in ("main", "shop"):
        files[name] = stack.folder / f"{name}.toml"
        sections = stack.accounts_path.read_text().split("[")
        files[name].write_text("[" + next(part for part in sections if part.startswith(f"tgtrack.{name}]")))
    for path in files.values():
        stack.launch_worker("tgtrack", POSTBACK_ACCOUNTS=str(path)).wait_for(READY)
    for number in range(20):
        sale(str(number), account=("main", "shop")[number % 2]).delay()
    assert delivered(stack, 20, 10) < 2.0
    for worker in stack.workers:
        until(lambda worker=worker: worker.text().count(" delivered ") == 10, 5, "its half")


def arrived(stack: Stack) -> list[int]:
    """User ids of all requests, in the order of their arrival."""
    return [int(event["user_id"]) for event in stack.sandbox.events("tgtrack")]


def test_small_accounts_beside_a_large_one(stack: Stack) -> None:
    """A backlog of thousands delays no other account: 99 single events go at once, with those of
    the backlog in turn.
    """
    stack.sandbox.set_latency((20, 20))
    for number in range(99):
        stack.account(f"tgtrack.small{number}", limits=FAST)
    stack.configure_producer()
    postback.send_many([sale(str(1000 + number)) for number in range(4000)])
    # Less at once than by default: the wire is full while the small ones come.
    stack.start_workers("tgtrack", POSTBACK_CONCURRENCY="16")
    delivered(stack, 300, 20)
    before = len(arrived(stack))
    postback.send_many([sale(str(number), account=f"small{number}") for number in range(99)])
    until(lambda: len({user for user in arrived(stack) if user < 99}) == 99, 10, "the small ones")
    order = arrived(stack)[before:]
    last = max(place for place, user in enumerate(order) if user < 99)
    print(
        f"\n99 small accounts beside one with a backlog: the last of them was request {last + 1} after they were sent"
    )
    assert last < 250


def test_a_thousand_busy_accounts(stack: Stack) -> None:
    """Two of three accounts have their first turn within four requests for three of them (I6).

    Those without an answer yet have half of the wire at least; how soon the last ones follow
    depends on what a new connection costs.
    """
    accounts = 1000
    for number in range(accounts):
        stack.account(f"tgtrack.busy{number}", limits=FAST)
    stack.configure_producer()
    for turn in range(3):
        postback.send_many([sale(str(number * 10 + turn), account=f"busy{number}") for number in range(accounts)])
    stack.start_workers("tgtrack", count=2)
    delivered(stack, 3 * accounts, 60)
    first: dict[int, int] = {}
    for place, user in enumerate(arrived(stack)):
        first.setdefault(user // 10, place)
    turns = sorted(first.values())
    shown = [turns[at] + 1 for at in (499, 666, 999)]
    print(f"\n{accounts} busy accounts, two workers: first turns at requests {shown}")
    assert len(turns) == accounts
    assert turns[2 * accounts // 3] < 4 * accounts // 3
