"""Batches of myTracker and Telegram Analytics: full, within bytes, never held up by one bad event.

Real workers, Redis and HTTP.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from threading import Thread
from typing import Any

import pytest

import postback
from postback import mytracker, operations, tganalytics
from postback.sandbox.ledger import Record
from postback.wire import keys
from postback.wire.broker import connect
from tests.acceptance.evidence import RawClient, dead_letters, end_leases, event_of, items, queued, settled, times_sent
from workers.devkit import Stack, until

pytestmark = pytest.mark.slow

SESSION = "10c574d9-6d2c-4e6d-a141-ce6da141ce6d"
#: Accounts of the shared stack, each with a token of its own: ``<provider>.<name>`` -> settings.
ACCOUNTS: dict[str, dict[str, Any]] = {
    "mytracker.alike": {},
    "mytracker.turns": {},
    "mytracker.bytes-ascii": {},
    "mytracker.bytes-cyrillic": {},
    "mytracker.bytes-raw-ascii": {},
    "mytracker.bytes-raw-cyrillic": {},
    "mytracker.bytes-text-cyrillic": {},
    "tganalytics.bytes-raw": {},
    "mytracker.lone": {},
    "tganalytics.lone": {},
    "mytracker.lone-raw": {},
    "mytracker.full": {"linger_s": 60},
    "mytracker.poison-spread": {},
    "mytracker.poison-together": {},
    "tganalytics.poison-spread": {},
    "tganalytics.poison-together": {},
    "mytracker.poison-quota": {"limits": "5/second"},
    "mytracker.retry-503": {"backoff_s": 2.5},
    "mytracker.retry-429": {},
    "mytracker.retry-400": {},
    "tganalytics.retry-503": {},
    "tganalytics.retry-429": {},
    "tganalytics.retry-400": {},
    "mytracker.quota": {"limits": "1 per 3 seconds", "linger_s": 0.2},
    "mytracker.options": {},
    "mytracker.timed": {},
    "mytracker.invalid": {},
    "tganalytics.invalid": {},
    "mytracker.seen": {"backoff_s": 0.05},
}


def token(queue: str) -> str:
    return f"token-of-{queue}"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Three workers of myTracker and one of Telegram Analytics."""
    with Stack(limits={}) as stack:
        for queue, settings in ACCOUNTS.items():
            stack.account(queue, token=token(queue), **settings)
        stack.configure_producer()
        names = ("linked", "not-linked", "not-bad", "bad", "late", "revoked", "not-revoked", "again")
        stack.start_workers("mytracker", count=3, POSTBACK_LINK_QUEUES=",".join(f"side-{name}" for name in names))
        stack.start_workers("tganalytics")
        yield stack


@pytest.fixture
def raw(stack: Stack) -> RawClient:
    return RawClient(stack)


def requests_of(stack: Stack, queue: str) -> list[Record]:
    """All requests of an account."""
    return stack.sandbox.ledger(queue.partition(".")[0], key=token(queue))


def recorded(stack: Stack, queue: str, count: int, timeout_s: float = 40.0) -> list[Record]:
    """Requests of an account once ``count`` of its events are recorded."""
    stack.sandbox.wait_for(
        lambda s: sum(r.count for r in requests_of(stack, queue) if r.recorded) >= count, timeout_s=timeout_s
    )
    return requests_of(stack, queue)


def paused(stack: Stack, queue: str) -> Callable[[], Any]:
    """Pause an account; what is returned resumes it."""
    client = connect(stack.redis.url)
    operations.pause(client, queue)
    return lambda: operations.resume(client, queue)


def custom(user: str, account: str, **fields: Any) -> mytracker.CustomEvent:
    return mytracker.CustomEvent(custom_event_name="sale", custom_user_id=user, account=account, **fields)


def app_init(user: int, account: str, **fields: Any) -> tganalytics.Event:
    return tganalytics.Event(user_id=user, event_name="app-init", session_id=SESSION, account=account, **fields)


def assert_whole(records: Sequence[Record], most: int = 20) -> None:
    for record in records:
        assert len(record.body or b"") <= 10_000
        assert len(items(record)) <= most


# Full by count


def test_two_thousand_events_of_one_kind(stack: Stack) -> None:
    """2,000 events, enqueued one by one: at most 110 requests, none over 20 events or 10,000 bytes,
    each event once.
    """
    for number in range(2000):
        custom(f"u{number}", "alike").delay()
    records = recorded(stack, "mytracker.alike", 2000)
    assert len(records) <= 110
    assert_whole(records)
    assert set(times_sent(records, "customUserId").values()) == {1}
    assert sum(len(items(record)) for record in records) == 2000


def test_two_thousand_events_of_three_kinds_in_turn(stack: Stack) -> None:
    """Registrations, logins and custom events in turn: batches are of one kind, and as full as if
    they came apart.
    """
    kinds = (mytracker.Registration, mytracker.Login)
    postback.send_many(
        custom(f"u{number}", "turns")
        if number % 3 == 2
        else kinds[number % 3](custom_user_id=f"u{number}", account="turns")
        for number in range(2000)
    )
    records = recorded(stack, "mytracker.turns", 2000)
    assert len(records) <= 110
    assert_whole(records)
    sent = times_sent(records, "customUserId")
    assert (len(sent), set(sent.values())) == (2000, {1})
    for place, method in enumerate(("registration", "login", "customEvent")):
        mine = [record for record in records if record.method in (method, f"{method}Batch")]
        assert sorted(times_sent(mine, "customUserId")) == sorted(f"u{n}" for n in range(place, 2000, 3))


def test_twenty_events_do_not_wait_for_the_linger(stack: Stack) -> None:
    """With a linger of a minute, forty events leave at once in two requests, and the one behind
    them stays.
    """
    postback.send_many(custom(f"u{number}", "full") for number in range(41))
    records = recorded(stack, "mytracker.full", 40, timeout_s=20)
    assert [len(items(record)) for record in records] == [20, 20]
    until(lambda: stack.waiting("mytracker.full") == 1, 10, "both requests settled")


# Full by bytes

#: Seven parameters of 200 characters: about 1.6 KB as sent.
LATIN = {f"p{number}": "x" * 200 for number in range(7)}
#: The same in bytes as sent, and three to four times as long with every letter escaped.
CYRILLIC = {f"п{number}": "ж" * 100 for number in range(7)}


def _by_sdk(params: dict[str, str]) -> Callable[[RawClient, str, int], None]:
    return lambda raw, account, number: custom(f"u{number}", account, custom_event_params=params).delay() and None


def _raw_event(number: int, params: dict[str, str]) -> dict[str, Any]:
    return {"customEventName": "sale", "customUserId": f"u{number}", "customEventParams": params}


def _by_celery(params: dict[str, str]) -> Callable[[RawClient, str, int], None]:
    return lambda raw, account, number: raw.send("mytracker.custom_event", _raw_event(number, params), account) and None


def _by_hand(params: dict[str, str]) -> Callable[[RawClient, str, int], None]:
    return lambda raw, account, number: raw.push(
        "mytracker.custom_event", _raw_event(number, params), account, f"hand-{number}"
    )


@pytest.mark.parametrize(
    ("account", "enqueue"),
    [
        ("bytes-ascii", _by_sdk(LATIN)),
        ("bytes-cyrillic", _by_sdk(CYRILLIC)),
        ("bytes-raw-ascii", _by_celery(LATIN)),
        ("bytes-raw-cyrillic", _by_celery(CYRILLIC)),
        ("bytes-text-cyrillic", _by_hand(CYRILLIC)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sixty_long_events_are_full_by_bytes(
    stack: Stack, raw: RawClient, account: str, enqueue: Callable[[RawClient, str, int], None]
) -> None:
    """60 events of about 1.6 KB: as few requests as 10,000 bytes allow, whoever sent them and
    however they were escaped.
    """
    queue = f"mytracker.{account}"
    resume = paused(stack, queue)
    for number in range(60):
        enqueue(raw, account, number)
    resume()
    records = recorded(stack, queue, 60)
    assert_whole(records)
    sent = times_sent(records, "customUserId")
    assert (len(sent), set(sent.values())) == (60, {1})
    longest = max(len(item) for record in records for item in items(record))
    assert 1400 <= longest <= 1700
    each = (10_000 - 2) // (longest + 1)
    assert len(records) <= -(-60 // each) + 1, [len(items(record)) for record in records]


def test_bytes_count_what_the_worker_adds(stack: Stack, raw: RawClient) -> None:
    """Telegram Analytics, a raw client without app_name and time: what the worker fills in counts
    in the 10,000 bytes.
    """
    text = "ж" * 240
    for number in range(40):
        event = {"user_id": number, "event_name": "app-init", "session_id": SESSION, "custom_data": {"t": text}}
        raw.send("tganalytics.event", event, "bytes-raw")
    records = recorded(stack, "tganalytics.bytes-raw", 40)
    assert_whole(records)
    assert set(times_sent(records, "user_id").values()) == {1}
    assert all(event["app_name"] == "docs" and event["client_timestamp"] for r in records for event in r.events)


def test_an_event_over_the_limit_is_refused_at_enqueue(stack: Stack) -> None:
    """More than 10,000 bytes of UTF-8 in one event: InvalidEvent when it is made, and nothing is
    enqueued.
    """
    letters = {f"p{number}": "ж" * 255 for number in range(20)}
    with pytest.raises(postback.InvalidEvent, match=r"10[,_ ]?000"):
        custom("u", "options", custom_event_params=letters)
    with pytest.raises(postback.InvalidEvent, match=r"10[,_ ]?000"):
        app_init(1, "lone", custom_data=letters)


# Linger


@pytest.mark.parametrize("queue", ["mytracker.lone", "tganalytics.lone", "mytracker.lone-raw"])
def test_a_lone_event_leaves_within_its_linger(stack: Stack, raw: RawClient, queue: str) -> None:
    """It waits for company for one second, hardly longer, and then goes to the single endpoint, not
    as a batch of one.
    """
    before = time.time()
    if queue == "mytracker.lone-raw":
        raw.send("mytracker.custom_event", {"customEventName": "x", "customUserId": "1"}, "lone-raw")
    else:
        (custom("u", "lone") if queue == "mytracker.lone" else app_init(1, "lone")).delay()
    after = time.time()
    (record,) = recorded(stack, queue, 1)
    assert record.method == ("events" if queue == "tganalytics.lone" else "customEvent")
    assert isinstance(json.loads(record.body or b""), dict)
    assert record.at - before >= 0.95
    assert record.at - after <= 2.0


def test_a_spent_quota_makes_batches_fuller(stack: Stack) -> None:
    """While the quota is spent, events that came long apart gather: ten of them leave as one
    request, not as two.
    """
    queue = "mytracker.quota"
    custom("first", "quota").delay()
    recorded(stack, queue, 1)
    postback.send_many(custom(f"a{number}", "quota") for number in range(5))
    lingered_at = time.monotonic() + 0.6
    until(lambda: time.monotonic() >= lingered_at, 5)
    assert stack.waiting(queue) == 5
    postback.send_many(custom(f"b{number}", "quota") for number in range(5))
    records = recorded(stack, queue, 11)
    assert [len(items(record)) for record in records] == [1, 10]
    assert records[1].mono - records[0].mono >= 3.0


# Time


def test_the_time_is_that_of_the_enqueueing(stack: Stack) -> None:
    """The message has its eventTimestamp as soon as it is enqueued, and that is what is sent a
    while later.
    """
    queue = "mytracker.timed"
    resume = paused(stack, queue)
    before = int(time.time())
    postback.send_many([custom("a", "timed"), custom("b", "timed", event_timestamp=1_580_213_208)])
    after = int(time.time())
    waiting = {event["customUserId"]: event for event in map(event_of, queued(stack, queue))}
    assert before <= waiting["a"]["eventTimestamp"] <= after
    until(lambda: time.time() >= after + 2, 10)
    resume()
    records = recorded(stack, queue, 2)
    sent = {event["customUserId"]: event for record in records for event in record.events}
    assert sent == waiting
    assert sent["b"]["eventTimestamp"] == 1_580_213_208


RETRIES = ["mytracker.retry-503", "mytracker.retry-429", "mytracker.retry-400", "tganalytics.retry-503",
           "tganalytics.retry-429", "tganalytics.retry-400"]  # fmt: skip


@pytest.mark.parametrize("queue", RETRIES)
def test_a_retried_event_is_the_same_to_the_byte(stack: Stack, raw: RawClient, queue: str) -> None:
    """After 503, 429 or a refused batch: each event's JSON is that of its first try, also the time
    and app_name of raw clients.
    """
    provider, _, account = queue.partition(".")
    resume = paused(stack, queue)
    field = "customUserId" if provider == "mytracker" else "user_id"
    for number in range(10):
        if provider == "mytracker":
            custom(f"u{number}", account).delay()
            raw.send("mytracker.custom_event", {"customEventName": "x", "customUserId": f"r{number}"}, account)
        else:
            app_init(5000 + number, account).delay()
            bare = {"user_id": 6000 + number, "event_name": "app-init", "session_id": SESSION}
            raw.send("tganalytics.event", bare, account)
    kind = account.rpartition("-")[2]
    if kind == "400":
        bad: Any = "r7" if provider == "mytracker" else 6007
        stack.sandbox.refuse(provider, field, bad)
        # Slow enough for the clock to move between the batch and its halves.
        stack.sandbox.fault("429", provider=provider, key=token(queue), skip=1, count=1, retry_after="1.2")
    else:
        more = {"retry_after": "1.2"} if kind == "429" else {}
        stack.sandbox.fault(kind, provider=provider, key=token(queue), count=1, **more)
    resume()
    records = recorded(stack, queue, 19 if kind == "400" else 20)
    settled(stack, queue)
    records = requests_of(stack, queue)
    assert records[0].recorded is False
    bodies: dict[Any, set[bytes]] = {}
    for record in records:
        for item in items(record):
            bodies.setdefault(json.loads(item)[field], set()).add(item)
    assert len(bodies) == 20
    assert all(len(seen) == 1 for seen in bodies.values()), [seen for seen in bodies.values() if len(seen) > 1]
    assert min(times_sent(records, field).values()) >= 2


# Poison


@pytest.mark.parametrize("spread", ["spread", "together"])
@pytest.mark.parametrize("provider", ["mytracker", "tganalytics"])
def test_three_of_two_hundred_are_refused(stack: Stack, provider: str, spread: str) -> None:
    """Exactly those are dead letters with the provider's answer, 197 are delivered once, with at
    most 30 extra requests.
    """
    queue = f"{provider}.poison-{spread}"
    # The first of a batch takes the most halving.
    guilty = [0, 60, 140] if spread == "spread" else [42, 49, 57]
    field = "customUserId" if provider == "mytracker" else "user_id"
    resume = paused(stack, queue)
    for number in range(200):
        if provider == "mytracker":
            custom(f"{spread}-{number}", f"poison-{spread}").delay()
        else:
            app_init(number + (1000 if spread == "together" else 0), f"poison-{spread}").delay()
    wire = [f"{spread}-{n}" if provider == "mytracker" else n + (1000 if spread == "together" else 0) for n in guilty]
    for value in wire:
        stack.sandbox.refuse(provider, field, value)
    resume()
    recorded(stack, queue, 197)
    dead = dead_letters(stack, queue, 3)
    settled(stack, queue)
    records = requests_of(stack, queue)
    assert sorted(letter.event[field] for letter in dead) == sorted(wire)
    told = "Bad Request" if provider == "mytracker" else "VALIDATION_MISMATCH_REPORT"
    for letter in dead:
        assert (letter.reason, letter.status) == ("rejected", 400)
        assert told in letter.detail
    delivered = times_sent((record for record in records if record.recorded), field)
    assert (len(delivered), set(delivered.values())) == (197, {1})
    assert len(records) <= 10 + 30
    alone = [json.loads(record.body or b"") for record in records if not record.recorded and len(items(record)) == 1]
    assert sorted(event[field] for event in alone) == sorted(wire), "each guilty event is refused alone, and once"


def test_halves_stay_together_while_they_wait_for_quota(stack: Stack) -> None:
    """With five requests a second, a refused batch's halves are not filled up with others, and cost
    ten requests more at most.
    """
    queue = "mytracker.poison-quota"
    resume = paused(stack, queue)
    postback.send_many(custom(f"q{number}", "poison-quota") for number in range(60))
    stack.sandbox.refuse("mytracker", "customUserId", "q13")
    stack.sandbox.set_limits("mytracker", "5/second", key=token(queue))
    resume()
    recorded(stack, queue, 59)
    (letter,) = dead_letters(stack, queue, 1)
    settled(stack, queue)
    records = requests_of(stack, queue)
    assert letter.event["customUserId"] == "q13"
    first = {f"q{number}" for number in range(20)}
    users = [{json.loads(item)["customUserId"] for item in items(record)} for record in records]
    assert all(sent <= first or not sent & first for sent in users)
    assert [len(sent) for sent in users if not sent & first] == [20, 20]
    assert len(records) <= 3 + 10
    assert not [record for record in records if record.status == 429]


@pytest.mark.parametrize("provider", ["mytracker", "tganalytics"])
def test_an_event_that_fails_our_own_validation_delays_nobody(stack: Stack, raw: RawClient, provider: str) -> None:
    """A raw client's wrong event in the middle of a batch is `invalid` at once; the others go in
    one request, none is halved.
    """
    queue = f"{provider}.invalid"
    resume = paused(stack, queue)
    for number in range(20):
        if provider == "mytracker":
            event: dict[str, Any] = {
                "customEventName": "x",
                "customUserId": f"v{number}",
                "age": 500 if number == 7 else 30,
            }
            raw.send("mytracker.custom_event", event, "invalid")
        else:
            event = {
                "user_id": 7000 + number,
                "event_name": "app-init",
                "session_id": "none" if number == 7 else SESSION,
            }
            raw.send("tganalytics.event", event, "invalid")
    resume()
    records = recorded(stack, queue, 19)
    (letter,) = dead_letters(stack, queue, 1)
    assert (letter.reason, letter.status, letter.attempts) == ("invalid", None, 0)
    assert ("age" if provider == "mytracker" else "session_id") in letter.detail
    assert [len(items(record)) for record in records] == [19]


# Single events of a batch: Celery's options and states


def test_options_of_single_events_hold_in_a_batch(stack: Stack) -> None:
    """link, link_error, expires, revoke, task_id and idempotency keys are those of each event,
    though all travel together.
    """
    queue = "mytracker.options"
    app = RawClient(stack)._app
    resume = paused(stack, queue)
    stack.sandbox.refuse("mytracker", "customUserId", "bad")

    def follow(name: str) -> Any:
        return app.signature("shop.follow", args=(name,), immutable=True, queue=f"side-{name}")

    def failed(name: str) -> Any:
        return app.signature("shop.failed", queue=f"side-{name}")

    ids = {}
    for name, options in {
        "plain": {},
        "linked": {"link": follow("linked"), "link_error": failed("not-linked")},
        "bad": {"link": follow("not-bad"), "link_error": failed("bad")},
        "late": {"expires": 0.5, "link_error": failed("late")},
        "timely": {"expires": 300},
        "revoked": {"link_error": failed("revoked"), "link": follow("not-revoked")},
        "chosen": {"task_id": "order-17"},
        "keyed": {"idempotency_key": "k1"},
        "keyed-again": {"idempotency_key": "k1", "link": follow("again")},
    }.items():
        ids[name] = custom(name, "options").apply_async(**options).id
    app.control.revoke(ids["revoked"])
    until(
        lambda: all(
            ids["revoked"] in found
            for found in [*(app.control.inspect(timeout=2, limit=4).revoked() or {}).values()] or [[]]
        ),
        20,
        "the revocation known to the workers",
    )
    expired_at = time.time() + 0.6
    until(lambda: time.time() >= expired_at, 5)
    resume()
    recorded(stack, queue, 5)
    dead = {letter.event["customUserId"]: letter for letter in dead_letters(stack, queue, 3)}
    settled(stack, queue)
    sent = times_sent((r for r in requests_of(stack, queue) if r.recorded), "customUserId")
    assert dict(sent) == dict.fromkeys(["plain", "linked", "timely", "chosen", "keyed"], 1)
    assert {name: letter.reason for name, letter in dead.items()} == {
        "bad": "rejected", "late": "expired", "revoked": "revoked"
    }  # fmt: skip
    assert {name: letter.id for name, letter in dead.items()} == {name: ids[name] for name in dead}
    assert ids["chosen"] == "order-17"
    assert len(items(requests_of(stack, queue)[0])) == 6, "what is not fit to be sent was not in the request"
    client = stack.client()
    sides = {name.removeprefix("side-"): client.lrange(name, 0, -1) for name in client.scan_iter("side-*")}
    assert {name: len(raws) for name, raws in sides.items()} == {
        "linked": 1, "bad": 1, "late": 1, "revoked": 1, "again": 1
    }  # fmt: skip
    followed = json.loads(sides["linked"][0])
    assert (followed["headers"]["task"], followed["headers"]["parent_id"]) == ("shop.follow", ids["linked"])
    for name in ("bad", "late", "revoked"):
        (message,) = map(json.loads, sides[name])
        assert message["headers"]["task"] == "shop.failed"
        assert ids[name] in json.dumps(message["headers"]) + str(message["body"]) + message["headers"]["argsrepr"]


def test_monitors_see_single_events_of_a_batch(stack: Stack) -> None:
    """Celery's own event stream, as Flower reads it: each event under its id, with its task's name
    and its own state.
    """
    queue = "mytracker.seen"
    app = RawClient(stack)._app
    seen: list[dict[str, Any]] = []
    state = app.events.State()
    connection = app.connection_for_read()
    receiver = app.events.Receiver(connection, handlers={"*": lambda event: (seen.append(event), state.event(event))})
    thread = Thread(target=lambda: receiver.capture(limit=None, timeout=None, wakeup=False), daemon=True)
    thread.start()
    until(lambda: seen, 20, "a heartbeat of a worker")
    stack.sandbox.refuse("mytracker", "customUserId", "seen-3")
    stack.sandbox.fault("503", provider="mytracker", key=token(queue), count=1)
    resume = paused(stack, queue)
    ids = [custom(f"seen-{number}", "seen").delay().id for number in range(6)]
    resume()
    dead_letters(stack, queue, 1)
    settled(stack, queue)

    def states() -> dict[str, str]:
        return {task_id: state.tasks[task_id].state for task_id in ids if task_id in state.tasks}

    wanted = {task_id: "FAILURE" if number == 3 else "SUCCESS" for number, task_id in enumerate(ids)}
    until(lambda: states() == wanted, 15, f"{wanted} in {states()}")
    receiver.should_stop = True
    assert {state.tasks[task_id].name for task_id in ids} == {"mytracker.custom_event"}
    retried = {event["uuid"]: event["exception"] for event in list(seen) if event["type"] == "task-retried"}
    assert set(ids) <= retried.keys()
    assert all("; attempt 1 of 8, again at " in text or "; no attempt used, " in text for text in retried.values())
    assert state.tasks[ids[3]].exception.startswith("rejected 400 Bad Request; dead letter after ")


# A worker dies


@pytest.mark.parametrize("recorded_first", [False, True], ids=["before it is recorded", "after it is recorded"])
def test_a_worker_killed_in_the_middle_of_an_isolation(recorded_first: bool) -> None:
    """Nothing that was settled is sent again; every event is delivered or dead; what was on the
    wire is flagged if it dies.
    """
    with Stack() as stack:
        stack.account("mytracker.main", timeout_s=2, lease_s=7.2, linger_s=0.1)
        stack.configure_producer()
        stack.sandbox.refuse("mytracker", "customUserId", "k13")
        kind = "timeout_after" if recorded_first else "timeout_before"
        # The batch is refused, its first ten are recorded; then a half of the others hangs.
        stack.sandbox.fault(kind, provider="mytracker", skip=2, count=1)
        postback.send_many(mytracker.Login(custom_user_id=f"k{number}") for number in range(20))
        (worker,) = stack.start_workers("mytracker")
        stack.sandbox.wait_for(lambda s: len(s.ledger()) == 3, timeout_s=30)
        worker.kill()
        before = stack.sandbox.ledger()
        hanging = set(times_sent(before[2:], "customUserId"))
        assert [len(items(record)) for record in before[:2]] == [20, 10]
        end_leases(stack, "mytracker.main")
        assert stack.waiting("mytracker.main") + stack.client().llen(keys.groups("mytracker.main")) > 0
        stack.start_workers("mytracker")
        (letter,) = dead_letters(stack, "mytracker.main", 1, timeout_s=40)
        settled(stack, "mytracker.main", 40)
        recorded = times_sent((r for r in stack.sandbox.ledger() if r.recorded), "customUserId")
        assert letter.event["customUserId"] == "k13"
        assert set(recorded) == {f"k{number}" for number in range(20)} - {"k13"}
        twice = {user for user, times in recorded.items() if times > 1}
        assert twice <= (hanging if recorded_first else set())
        assert len(stack.sandbox.ledger()) <= 1 + 10 + 1
        assert letter.possible_duplicate is ("k13" in hanging)
        told = [line for line in stack.logs().splitlines() if ": delivered, possible_duplicate" in line]
        assert len(told) == len(hanging - {"k13"})
