"""A Redis at its `maxmemory` is no deadlock: the backlog drains by itself, each event once;
producers hear `NotEnqueued` meanwhile.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
import redis
from celery import Celery

import postback
from postback import NotEnqueued, PartlyEnqueued, mytracker, tgtrack
from postback.operations import snapshot
from postback.wire import keys
from tests.acceptance.evidence import dead_letters, queued, settled
from workers.devkit import Process, Stack, until

FAST: Final = "100000/second"
SINGLES: Final = 1500
BATCHED: Final = 1500
#: Most bytes that one retry, or one dead letter, may add, as docs/guides/delivery.md states.
RETRY_BYTES: Final = 500
DEAD_LETTER_BYTES: Final = 4_000


def sale(user: int | str, **more: Any) -> tgtrack.AddEvent:
    """An event that travels alone."""
    return tgtrack.AddEvent(user_id=str(user), event_type="sale", **more)


def click(user: int | str) -> mytracker.CustomEvent:
    """An event that travels in a batch."""
    return mytracker.CustomEvent(custom_user_id=str(user), custom_event_name="click")


def fill(stack: Stack) -> None:
    """Give Redis less memory than an empty one uses: whatever is delivered meanwhile, it stays
    full.
    """
    client = stack.client()
    client.config_set("maxmemory", "300kb")
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.set("more", "x")


def command(stack: Stack, *arguments: str) -> str:
    """What ``postback …`` prints, as a process."""
    done = stack.postback(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def recorded(stack: Stack, provider: str, field: str) -> Counter[str]:
    """How often the provider recorded each user's event."""
    return Counter(event[field] for event in stack.sandbox.events(provider) if field in event)


def pause(stack: Stack, *queues: str) -> None:
    """Hold accounts, so that a backlog can grow beside live workers."""
    for queue in queues:
        stack.client().hset(keys.meta(queue), mapping={"paused": -1, "reason": "operator"})


@pytest.fixture
def stack() -> Iterator[Stack]:
    """Accounts of a provider of single events and of one of batches, which fail soon and are tried
    again soon.
    """
    with Stack(limits={"tgtrack": None, "mytracker": None}) as stack:
        quick = {"limits": FAST, "backoff_s": 0.05, "backoff_max_s": 0.2}
        stack.account("tgtrack.main", **quick)
        stack.account("tgtrack.linked", **quick, api_key="linked-key-1")
        stack.account("mytracker.game", **quick)
        stack.configure_producer()
        yield stack


@pytest.mark.parametrize("worker", ["live", "fresh"])
def test_a_backlog_drains(stack: Stack, worker: str) -> None:
    """3,000 events, some refused and some failing, a link, a look-up: all gone while Redis is full,
    each recorded once, none lost.
    """
    if worker == "live":
        pause(stack, "tgtrack.main", "mytracker.game")
        stack.start_workers("tgtrack", "mytracker")
    postback.send_many([sale(user) for user in range(SINGLES)])
    postback.send_many([click(user) for user in range(BATCHED)])
    sale("with a link").apply_async(link=sale("linked", account="linked").si())
    look_up = tgtrack.GetUserInfo(user_id="77", account="main").delay()
    for kind, provider in (("503", "tgtrack"), ("500", "mytracker")):
        stack.sandbox.fault(kind, provider=provider, count=4, skip=20)
    stack.sandbox.refuse("tgtrack", "user_id", "13")
    stack.sandbox.refuse("mytracker", "customUserId", "13")
    fill(stack)
    if worker == "live":
        for queue in ("tgtrack.main", "mytracker.game"):
            command(stack, "resume", queue)
    else:
        stack.start_workers("tgtrack", "mytracker")
    with pytest.raises(NotEnqueued):
        sale("refused").delay()
    for queue in ("tgtrack.main", "tgtrack.linked", "mytracker.game"):
        settled(stack, queue, 60)
    singles, batched = recorded(stack, "tgtrack", "user_id"), recorded(stack, "mytracker", "customUserId")
    assert {**singles, "77": 1} == {
        **{str(user): 1 for user in range(SINGLES) if user != 13},
        "with a link": 1,
        "linked": 1,
    }
    assert batched == {str(user): 1 for user in range(BATCHED) if user != 13}
    assert [letter.reason for letter in dead_letters(stack, "tgtrack.main")] == ["rejected"]
    assert [letter.reason for letter in dead_letters(stack, "mytracker.game")] == ["rejected"]
    assert look_up.get(timeout=10)["user_id"] == "77"
    assert "Traceback" not in stack.logs()
    assert all(worker.alive for worker in stack.workers)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        stack.client().set("still", "full")


def test_a_link_is_published_once(stack: Stack) -> None:
    """20 delivered events with a link, alone and in batches: nothing is sent again because of the
    link, and each link arrives.
    """
    for user in range(10):
        sale(user).apply_async(link=sale(f"after {user}", account="linked").si())
        click(user).apply_async(link=sale(f"behind {user}", account="linked").si())
    fill(stack)
    stack.start_workers("mytracker", "tgtrack")
    for queue in ("tgtrack.main", "mytracker.game"):
        settled(stack, queue)
    stack.sandbox.wait_for(lambda s: s.stats()["events"] == 40, timeout_s=20)
    settled(stack, "tgtrack.linked")
    assert set(recorded(stack, "tgtrack", "user_id").values()) == {1}
    assert set(recorded(stack, "mytracker", "customUserId").values()) == {1}
    assert "possible_duplicate" not in stack.logs()


def test_a_result_reaches_its_caller(stack: Stack) -> None:
    """A look-up is answered once, and its waiting caller gets the answer."""
    results = [tgtrack.GetUserInfo(user_id=str(user), account="main").delay() for user in range(5)]
    fill(stack)
    stack.start_workers("tgtrack")
    assert [result.get(timeout=20)["user_id"] for result in results] == [str(user) for user in range(5)]
    assert stack.sandbox.stats()["requests"] == 5


@pytest.mark.parametrize("provider", ["tgtrack", "mytracker"])
def test_a_fresh_worker_serves(stack: Stack, provider: str) -> None:
    """Started at the limit it becomes ready, `status` names it and its accounts with their limits,
    and SIGTERM ends it with 0.
    """
    fill(stack)
    (worker,) = stack.start_workers(provider)
    until(lambda: stack.client().hlen(keys.WORKERS), 10, "announced")
    status = json.loads(command(stack, "status", "--json"))
    assert [one["provider"] for one in status["workers"]] == [provider]
    accounts = {f"{one['provider']}.{one['account']}": one for one in status["accounts"]}
    assert all(accounts[queue]["served"] for queue in accounts if queue.startswith(provider))
    assert accounts[f"{provider}.{'main' if provider == 'tgtrack' else 'game'}"]["quota"][0]["limit"] == 100_000
    assert worker.stop() == 0
    assert "Traceback" not in worker.text()


def test_heartbeats_go_on(stack: Stack) -> None:
    """A worker that was there before announces itself again at the limit: `status` does not call
    its accounts unserved.
    """
    stack.start_workers("tgtrack")
    client = stack.client()
    (before,) = until(lambda: client.hvals(keys.WORKERS), 10, "announced")
    fill(stack)
    until(lambda: client.hvals(keys.WORKERS) != [before], 15, "announced again")
    (serves,) = client.keys(keys.served("*"))
    client.delete(serves)
    until(lambda: client.exists(serves), 15, "its accounts announced again")
    with stack.redis.client() as reads:
        assert {account.queue for account in snapshot(reads, ["tgtrack"]).accounts if account.served} >= {
            "tgtrack.main"
        }


def test_an_account_that_is_added(stack: Stack) -> None:
    """A worker at the limit reads the accounts file again and serves the new account."""
    stack.start_workers("tgtrack")
    fill(stack)
    stack.account("tgtrack.late", limits=FAST, api_key="late-key-1")
    until(lambda: stack.client().hexists(keys.ACCOUNTS, "tgtrack.late"), 15, "the new account announced")


def test_pause_and_resume(stack: Stack) -> None:
    """At the limit `postback pause` stops an account, `status` says so, and `postback resume` lets
    it go on.
    """
    postback.send_many([sale(user) for user in range(50)])
    fill(stack)
    command(stack, "pause", "tgtrack.main")
    stack.start_workers("tgtrack")
    status = json.loads(command(stack, "status", "--json"))
    (paused,) = [one["paused"] for one in status["accounts"] if one["account"] == "main"]
    assert paused["reason"] == "operator"
    assert stack.sandbox.stats()["requests"] == 0
    command(stack, "resume", "tgtrack.main")
    stack.sandbox.wait_for(lambda s: s.stats()["events"] == 50, timeout_s=20)


def test_erase_and_dead_letters(stack: Stack) -> None:
    """At the limit a person is erased, and dead letters are listed and dropped; a replay is carried
    out or refused, never half.
    """
    stack.sandbox.refuse("tgtrack", "user_id", "13")
    stack.sandbox.refuse("tgtrack", "user_id", "14")
    stack.start_workers("tgtrack")
    for user in (13, 14):
        sale(user).delay()
    dead_letters(stack, "tgtrack.main", 2)
    pause(stack, "tgtrack.main")
    sale("987654321").delay()
    fill(stack)
    assert "2" in command(stack, "dead", "list", "tgtrack")
    command(stack, "erase", "--user", "987654321", "--yes")
    assert stack.waiting("tgtrack.main") == 0
    stack.sandbox.clear_refusals()
    command(stack, "resume", "tgtrack.main")
    command(stack, "dead", "replay", "tgtrack")
    stack.sandbox.wait_for(lambda s: s.stats()["events"] == 2, timeout_s=20)
    assert dead_letters(stack, "tgtrack.main") == []


@pytest.mark.parametrize(
    "send",
    [
        lambda: sale("more").delay(),
        lambda: sale("more").apply_async(countdown=60),
        lambda: asyncio.run(sale("more").adelay()),
        lambda: postback.send_many([sale(user) for user in range(600)]),
    ],
    ids=["delay", "apply_async", "adelay", "send_many"],
)
def test_producers_are_refused(stack: Stack, send: Callable[[], Any]) -> None:
    """However an event is sent, its producer hears that it is certainly not in the queue."""
    sale("first").delay()
    fill(stack)
    with pytest.raises(NotEnqueued, match="OutOfMemoryError"):
        send()
    assert stack.waiting("tgtrack.main") == 1


def test_many_events_fill_the_last_room(stack: Stack) -> None:
    """Redis becomes full in the middle of a `send_many`: what is called enqueued is in, what is
    called rejected is not.
    """
    client = stack.client()
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_000_000)
    with pytest.raises(PartlyEnqueued) as caught:
        postback.send_many([sale(user) for user in range(3000)])
    error = caught.value
    ids = {message["headers"]["id"] for message in queued(stack, "tgtrack.main")}
    assert 0 < error.enqueued == len(error.enqueued_ids)
    assert set(error.enqueued_ids) <= ids <= {*error.enqueued_ids, *error.unknown_ids}
    # Around the limit Redis takes one and refuses the next.
    assert len(error.unknown_ids) <= 500
    assert len({*error.enqueued_ids, *error.unknown_ids, *error.rejected_ids}) == 3000


def test_remote_control_hears(stack: Stack) -> None:
    """A command that asks for no answer reaches a worker that was started at the limit."""
    fill(stack)
    stack.start_workers("tgtrack")
    control = Celery("operator", broker=stack.redis.url, set_as_current=False).control

    def paused() -> bool:
        # A worker subscribes a moment after it is ready, and what is published before is lost.
        control.broadcast("pause_account", arguments={"target": "tgtrack.main"})
        return stack.client().hget(keys.meta("tgtrack.main"), "paused") == "-1"

    until(paused, 10, "paused", every_s=0.2)


def test_a_worker_killed_at_the_limit(stack: Stack) -> None:
    """SIGKILL in the middle: the next worker delivers the rest, and what was on the wire is
    flagged.
    """
    stack.account("tgtrack.main", limits=FAST, timeout_s=1, lease_s=7)
    stack.sandbox.set_latency((20, 60))
    postback.send_many([sale(user) for user in range(400)])
    fill(stack)
    (worker,) = stack.start_workers("tgtrack")
    stack.sandbox.wait_for(lambda s: s.stats()["events"] >= 100, timeout_s=20)
    worker.kill()
    at_risk = stack.client().zcard(keys.flight("tgtrack.main"))
    stack.start_workers("tgtrack")
    settled(stack, "tgtrack.main", 60)
    counts = recorded(stack, "tgtrack", "user_id")
    assert counts.keys() == {str(user) for user in range(400)}
    assert sum(counts.values()) - 400 <= at_risk


# What is added at the limit


def size_of(client: redis.Redis, names: list[str]) -> int:
    """Bytes of some keys, with all that they hold."""
    return sum(client.memory_usage(name, samples=0) or 0 for name in names)


@pytest.mark.parametrize("kind", ["retry", "dead letter"])
def test_what_an_outcome_adds(stack: Stack, kind: str) -> None:
    """200 retries, or 200 dead letters with the longest words a provider can say, add no more than
    the documented bytes each.
    """
    client = stack.client()
    retry = kind == "retry"
    stack.account("tgtrack.main", limits=FAST, backoff_s=3600, backoff_max_s=3600, outage_after=1000)
    words = json.dumps(
        {"status": "error", "error_code": 500 if retry else 400, "error_description": "недопустимое поле " * 500}
    )
    stack.sandbox.fault("status", provider="tgtrack", status=500 if retry else 400, body=words)
    names = [
        *keys.priority_lists("tgtrack.main"),
        keys.delayed("tgtrack.main"),
        keys.held("tgtrack.main"),
        keys.dead("tgtrack"),
    ]
    postback.send_many([sale(user) for user in range(200)])
    before = size_of(client, names)
    fill(stack)
    stack.start_workers("tgtrack")
    if retry:
        until(lambda: client.zcard(keys.delayed("tgtrack.main")) + client.zcard(keys.held("tgtrack.main")) == 200, 30)
    else:
        dead_letters(stack, "tgtrack.main", 200)
    added = (size_of(client, names) - before) / 200
    print(f"a {kind} adds {added:.0f} bytes")
    assert added < (RETRY_BYTES if retry else DEAD_LETTER_BYTES)


# How a worker ends


def ended(worker: Process) -> int:
    """The exit status of a worker that ends by itself."""
    return worker.process.wait(30)


def test_a_worker_that_dies_says_so(stack: Stack) -> None:
    """What Redis refuses for good at the start ends the worker with 1 and one line that says why,
    without a traceback.
    """
    stack.client().set("_kombu.binding.celery.pidbox", "somebody else's")
    worker = stack.launch_worker("tgtrack")
    assert ended(worker) == 1
    (line,) = [line for line in worker.text().splitlines() if "CRITICAL" in line]
    assert "WRONGTYPE" in line
    assert "Traceback" not in worker.text()


def test_json_logs_say_so_too(stack: Stack) -> None:
    """With JSON logs the last line is one object with the reason."""
    stack.client().set("_kombu.binding.celery.pidbox", "somebody else's")
    worker = stack.launch_worker("tgtrack", POSTBACK_LOG_FORMAT="json")
    assert ended(worker) == 1
    last = [json.loads(line) for line in worker.text().splitlines() if '"critical"' in line]
    assert [("WRONGTYPE" in line["message"], "traceback" in line) for line in last] == [(True, False)]


def test_wrong_settings_end_with_two(stack: Stack) -> None:
    """A setting that cannot be used is no crash: one sentence, exit status 2."""
    worker = stack.launch_worker("tgtrack", POSTBACK_CONCURRENCY="none")
    assert ended(worker) == 2
    assert "POSTBACK_CONCURRENCY" in worker.text()


def test_a_cold_shutdown_is_no_success(stack: Stack) -> None:
    """SIGQUIT cuts the worker short: the exit status is not 0."""
    (worker,) = stack.start_workers("tgtrack")
    worker.process.send_signal(3)
    assert worker.process.wait(30) == 1
