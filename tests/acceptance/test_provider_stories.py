"""What a provider's answers do to a queue: revoked keys, outages, traces that are not final, lost
answers, quota. Real worker, Redis and HTTP.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

import postback
from postback import operations, tganalytics, tgtrack, tonai, tonapi
from postback.sandbox.ledger import Record
from postback.wire import keys
from postback.wire.broker import connect
from tests.acceptance.evidence import (
    RawClient,
    dead_letters,
    event_of,
    queued,
    settled,
    start_all_providers,
    times_sent,
)
from workers.devkit import Stack, until

pytestmark = pytest.mark.slow

SESSION = "10c574d9-6d2c-4e6d-a141-ce6da141ce6d"
DAY_MS = 86_400_000
#: ``<provider>.<name>`` -> settings, each with a credential of its own.
ACCOUNTS: dict[str, dict[str, Any]] = {
    "tgtrack.revoked": {"limits": "50/second; 500/hour; 5000/day"},
    "tgtrack.revoked-later": {"limits": "3/second; 500/hour; 5000/day"},
    "tonapi.script": {"max_attempts": 1},
    "tonapi.chain": {"max_attempts": 1},
    "tonapi.deadline": {"deadline_s": 0.5, "max_attempts": 1},
    "tonai.chain": {},
    "tonai.down": {"backoff_s": 0.2},
    "tonai.twins": {},
    "tonai.other": {},
    "tonai.failing": {"backoff_s": 0.02, "outage_after": 100},
    "tgtrack.lost": {"backoff_s": 0.02, "max_attempts": 2},
    "tgtrack.frozen": {"limits": "100 per 1 second; 200 per 2 seconds; 500/hour", "max_attempts": 1},
    "tgtrack.told": {"max_attempts": 1},
    "tgtrack.times": {"backoff_s": 0.1},
    "mytracker.times": {"backoff_s": 0.1},
    "tganalytics.times": {"backoff_s": 0.1},
    "tgtrack.goals": {},
    "tgtrack.mode": {},
    "tgtrack.reads": {"limits": "10/second"},
    "tgtrack.bounds": {},
    "tgtrack._persons": {},
    "tganalytics.-persons": {},
}
CREDENTIAL = {"tgtrack": "api_key", "mytracker": "token", "tganalytics": "token", "tonai": "api_key", "tonapi": "token"}


def key(queue: str) -> str:
    return f"key-of-{queue}"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One worker for all providers and accounts."""
    with Stack(limits=dict.fromkeys(CREDENTIAL)) as stack:
        for queue, settings in ACCOUNTS.items():
            quick = {"limits": "1000/second", "poll_s": 0.05, "timeout_s": 1, "lease_s": 6.5, "linger_s": 0.05}
            stack.account(queue, **{CREDENTIAL[queue.partition(".")[0]]: key(queue), **quick, **settings})
        stack.configure_producer()
        start_all_providers(stack)
        yield stack


def requests_of(stack: Stack, queue: str) -> list[Record]:
    return stack.sandbox.ledger(queue.partition(".")[0], key=key(queue))


def wait_for_requests(stack: Stack, queue: str, count: int, timeout_s: float = 30.0) -> list[Record]:
    stack.sandbox.wait_for(lambda s: len(requests_of(stack, queue)) >= count, timeout_s=timeout_s)
    return requests_of(stack, queue)


def status_of(stack: Stack, queue: str) -> operations.AccountStatus:
    account = operations.snapshot(connect(stack.redis.url), [queue.partition(".")[0]]).of(queue)
    assert account
    return account


def wait_until_paused(stack: Stack, queue: str, reason: str, timeout_s: float = 20.0) -> operations.AccountStatus:
    def paused() -> operations.AccountStatus | None:
        account = status_of(stack, queue)
        return account if account.paused and account.paused.reason == reason and not account.in_flight else None

    return until(paused, timeout_s, f"{queue} paused: {reason}")


# Credentials


def test_a_revoked_key_leaves_its_events_queued(stack: Stack) -> None:
    """30 events and a revoked key: one request; 30 still queued, `postback status` says why; after
    `postback resume` all 30 arrive.
    """
    queue = "tgtrack.revoked"
    stack.sandbox.revoke("tgtrack", key(queue))
    postback.send_many(tgtrack.AddEvent(user_id=str(n), event_type="sale", account="revoked") for n in range(30))
    wait_until_paused(stack, queue, "credentials")
    told = stack.postback("status", "--json")
    assert told.returncode == 0, told.stderr
    (account,) = [
        a for a in json.loads(told.stdout)["accounts"] if (a["provider"], a["account"]) == ("tgtrack", "revoked")
    ]
    assert (account["queued"], account["delayed"], account["in_flight"], account["dead"]) == (30, 0, 0, 0)
    assert (account["paused"]["reason"], account["paused"]["until"]) == ("credentials", None)
    assert "401" in account["paused"]["detail"]
    assert stack.postback("status", "--check").returncode == 1
    assert "credentials" in stack.postback("status").stdout
    assert [record.code for record in requests_of(stack, queue)] == [401]
    stack.sandbox.restore("tgtrack", key(queue))
    resumed = stack.postback("resume", queue)
    assert resumed.returncode == 0, resumed.stderr
    records = wait_for_requests(stack, queue, 31, timeout_s=40)
    settled(stack, queue)
    assert [record.code for record in records] == [401] + [200] * 30
    assert set(times_sent(records[1:], "user_id").values()) == {1}
    assert dead_letters(stack, queue) == []


def test_a_key_that_is_revoked_under_load_burns_nothing(stack: Stack) -> None:
    """A healthy account's key is revoked: no more requests than its quota had let out at that
    moment, every event stays queued.
    """
    queue = "tgtrack.revoked-later"
    tgtrack.AddEvent(user_id="first", event_type="sale", account="revoked-later").delay()
    wait_for_requests(stack, queue, 1)
    settled(stack, queue)
    stack.sandbox.revoke("tgtrack", key(queue), code=403)
    for number in range(30):
        tgtrack.AddEvent(user_id=str(number), event_type="sale", account="revoked-later").delay()
    wait_until_paused(stack, queue, "credentials")
    account = until(lambda: (found := status_of(stack, queue)).in_flight == 0 and found, 10)
    assert (account.queued, account.delayed, account.dead) == (30, 0, 0)
    refused = [record for record in requests_of(stack, queue) if record.code == 403]
    assert 1 <= len(refused) <= 3
    order = [event_of(message)["user_id"] for message in reversed(queued(stack, queue))]
    assert sorted(order[:3], key=int) + order[3:] == [str(number) for number in range(30)], "in their old order"


# TonAPI


def test_a_trace_is_polled_until_it_is_final(stack: Stack) -> None:
    """404, 404, in progress, final: one result, and no attempt is used up (the account allows
    one).
    """
    trace = "a1" * 32
    stack.sandbox.tonapi_script(trace, [404, 404, "in_progress", "final"])
    found = tonapi.GetEvent(event_id=trace, account="script").delay().get(timeout=20)
    assert (found["event_id"], found["in_progress"]) == (trace, False)
    settled(stack, "tonapi.script")
    records = requests_of(stack, "tonapi.script")
    assert [record.status for record in records] == [404, 404, 200, 200]
    gaps = [later.mono - earlier.mono for earlier, later in pairwise(records)]
    assert all(gap >= wait for gap, wait in zip(gaps, (0.05, 0.1, 0.2), strict=True)), gaps
    assert dead_letters(stack, "tonapi.script") == []


def test_a_conversion_is_reported_once_the_payment_is_final(stack: Stack) -> None:
    """link= on a look-up: nothing at TON AI while the trace is in progress, one conversion after
    it.
    """
    trace = "b2" * 32
    stack.sandbox.tonapi_script(trace, [404, "in_progress", "in_progress", "final"])
    conversion = tonai.Conversion(telegram_user_id="17", account="chain")
    tonapi.GetEvent(event_id=trace, account="chain").apply_async(link=conversion.si())
    (reported,) = wait_for_requests(stack, "tonai.chain", 1)
    settled(stack, "tonai.chain")
    looked = requests_of(stack, "tonapi.chain")
    assert [record.status for record in looked] == [404, 200, 200, 200]
    assert reported.seq > looked[-1].seq
    assert reported.events == [{"eventType": "conversion", "eventData": {"telegramUserId": "17"}}]
    assert len(requests_of(stack, "tonai.chain")) == 1


def test_a_trace_that_does_not_end_is_given_up(stack: Stack) -> None:
    """In progress beyond the deadline: a dead letter `not_final`, its caller is told, and what is
    linked to it does not run.
    """
    trace = "c3" * 32
    stack.sandbox.tonapi_script(trace, ["in_progress"])
    conversion = tonai.Conversion(telegram_user_id="18", account="chain")
    result = tonapi.GetEvent(event_id=trace, account="deadline").apply_async(link=conversion.si())
    (letter,) = dead_letters(stack, "tonapi.deadline", 1)
    assert (letter.reason, letter.status, letter.event) == ("not_final", 200, {"event_id": trace})
    with pytest.raises(Exception, match="not_final"):
        result.get(timeout=20)
    records = requests_of(stack, "tonapi.deadline")
    assert records[-1].mono - records[0].mono >= 0.5
    assert stack.waiting("tonai.chain") == 0
    assert "18" not in [event["eventData"]["telegramUserId"] for event in stack.sandbox.events("tonai")]


# Lost answers


@pytest.mark.parametrize("fault", ["reset_after", "timeout_after", "garbage", "html_502"])
def test_recorded_but_the_answer_lost_then_409(stack: Stack, fault: str) -> None:
    """Recorded, no trustworthy answer, then "duplicate record": delivered, not dead, not
    doubled.
    """
    queue = "tgtrack.lost"
    before = len(requests_of(stack, queue))
    stack.sandbox.set_duplicates("tgtrack")
    try:
        stack.sandbox.fault(fault, provider="tgtrack", key=key(queue), count=1, recorded=True)
        sent = tgtrack.AddEvent(user_id=fault, event_type="sale", date=1, account="lost").delay()
        wait_for_requests(stack, queue, before + 2)
        settled(stack, queue)
    finally:
        stack.sandbox.set_duplicates("tgtrack", False)
    first, second = requests_of(stack, queue)[before:]
    assert (first.recorded, second.recorded, second.code) == (True, False, 409)
    assert dead_letters(stack, queue) == []
    assert f"delivered tgtrack.add_event {sent.id} {queue}: delivered, possible_duplicate" in stack.logs()


def test_409_at_the_first_try_is_a_refusal(stack: Stack) -> None:
    """A duplicate of somebody else's making is not ours: rejected, so that a person sees it."""
    queue = "tgtrack.told"
    stack.sandbox.set_duplicates("tgtrack")
    try:
        for _ in range(2):
            tgtrack.AddEvent(user_id="7", event_type="sale", date=1, account="told").delay()
        (letter,) = dead_letters(stack, queue, 1)
        settled(stack, queue)
    finally:
        stack.sandbox.set_duplicates("tgtrack", False)
    assert (letter.reason, letter.status) == ("rejected", 409)


# TON AI


def test_ton_ai_down_costs_a_handful_of_requests(stack: Stack) -> None:
    """Three requests for the first event, the second wait twice the first; then its dead letter,
    and a hundred events wait.
    """
    queue = "tonai.down"
    fault = stack.sandbox.fault("503", provider="tonai", key=key(queue))
    postback.send_many(tonai.Conversion(telegram_user_id=str(1000 + n), account="down") for n in range(101))
    (letter,) = dead_letters(stack, queue, 1)
    account = wait_until_paused(stack, queue, "outage")
    records = requests_of(stack, queue)
    assert (letter.reason, letter.status, letter.attempts) == ("exhausted", 503, 3)
    assert letter.event["eventData"]["telegramUserId"] == "1000"
    assert len(records) == 3
    assert len({record.body for record in records}) == 1
    assert records[1].mono - records[0].mono >= 0.2
    assert records[2].mono - records[1].mono >= 0.4
    assert (account.queued + account.delayed, account.dead) == (100, 1)
    # The probes: each is the next event, and uses up no attempt.
    records = wait_for_requests(stack, queue, 5)
    assert records[3].mono - records[2].mono >= 4 * 0.2 * 0.9
    users = [json.loads(record.body or b"")["eventData"]["telegramUserId"] for record in records]
    assert users[3:5] == ["1001", "1002"]
    assert len(dead_letters(stack, queue)) == 1
    stack.sandbox.clear_faults(fault)
    settled(stack, queue, 60)
    delivered = [event["eventData"]["telegramUserId"] for r in requests_of(stack, queue) for event in r.events]
    assert sorted(delivered, key=int) == [str(1000 + n) for n in range(1, 101)]
    assert len(dead_letters(stack, queue)) == 1


def test_one_conversion_for_each_user_and_account(stack: Stack) -> None:
    """The second is dropped and says whose duplicate it is; another account's is another
    conversion.
    """
    ids = [tonai.Conversion(telegram_user_id="99", account="twins").delay().id for _ in range(3)]
    tonai.Conversion(telegram_user_id="99", account="other").delay()
    for queue in ("tonai.twins", "tonai.other"):
        wait_for_requests(stack, queue, 1)
        settled(stack, queue)
    late = tonai.Conversion(telegram_user_id="99", account="twins").delay().id
    settled(stack, "tonai.twins")
    assert [len(requests_of(stack, queue)) for queue in ("tonai.twins", "tonai.other")] == [1, 1]
    assert dead_letters(stack, "tonai.twins") == []
    for task_id in (*ids[1:], late):
        until(lambda told=task_id: f"{told} tonai.twins: duplicate of {ids[0]}" in stack.logs(), 10)


def test_a_conversion_that_failed_may_be_reported_again(stack: Stack) -> None:
    """The dead letter gives its user back: a new conversion for him is sent, and is no
    duplicate.
    """
    queue = "tonai.failing"
    stack.sandbox.fault("500", provider="tonai", key=key(queue), count=3)
    tonai.Conversion(telegram_user_id="5", account="failing").delay()
    (letter,) = dead_letters(stack, queue, 1)
    assert (letter.reason, letter.attempts) == ("exhausted", 3)
    tonai.Conversion(telegram_user_id="5", account="failing").delay()
    records = wait_for_requests(stack, queue, 4)
    settled(stack, queue)
    assert [record.recorded for record in records] == [False, False, False, True]


# 429


def test_a_429_without_retry_after_freezes_for_the_windows_in_turn(stack: Stack) -> None:
    """The account waits for its shortest window, then for the next longer one; nobody uses up an
    attempt (one is allowed).
    """
    queue = "tgtrack.frozen"
    stack.sandbox.fault("429", provider="tgtrack", key=key(queue), count=2)
    postback.send_many(tgtrack.AddEvent(user_id=str(n), event_type="sale", account="frozen") for n in range(10))
    account = wait_until_paused(stack, queue, "quota")
    assert (account.queued, account.delayed) == (10, 0)
    records = wait_for_requests(stack, queue, 12)
    settled(stack, queue)
    assert [record.code for record in records] == [429] * 2 + [200] * 10
    assert records[1].mono - records[0].mono >= 1.0
    assert records[2].mono - records[1].mono >= 2.0
    assert dead_letters(stack, queue) == []


def test_a_429_with_retry_after_freezes_for_as_long_as_it_says(stack: Stack) -> None:
    """Not before, not long after, and all of the account's events wait, not only the one that was
    answered so.
    """
    queue = "tgtrack.told"
    before = len(requests_of(stack, queue))
    stack.sandbox.fault("429", provider="tgtrack", key=key(queue), count=1, retry_after="1.5")
    for number in range(5):
        tgtrack.AddEvent(user_id=f"r{number}", event_type="sale", account="told").delay()
    wait_for_requests(stack, queue, before + 1)
    tgtrack.AddEvent(user_id="late", event_type="sale", account="told").delay()
    records = wait_for_requests(stack, queue, before + 7)[before:]
    settled(stack, queue)
    (refused,) = [record for record in records if record.code == 429]
    # Others may have been on the wire already.
    waits = [record.mono - refused.mono for record in records if record is not refused]
    assert all(wait < 0.5 or 1.5 <= wait <= 6 for wait in waits), waits
    assert waits[-1] >= 1.5
    delivered = times_sent((record for record in records if record.recorded), "user_id")
    assert dict(delivered) == dict.fromkeys(["late", "r0", "r1", "r2", "r3", "r4"], 1)


# Time


@pytest.mark.parametrize(
    ("queue", "task", "event", "field"),
    [
        ("tgtrack.times", "tgtrack.add_event", {"user_id": "1", "event_type": "sale"}, "date"),
        ("mytracker.times", "mytracker.login", {"customUserId": "1"}, "eventTimestamp"),
        ("tganalytics.times", "tganalytics.event", {"user_id": 1, "event_name": "app-init", "session_id": SESSION}, "client_timestamp"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("producer", ["sdk", "raw"])
def test_an_event_keeps_its_time(
    stack: Stack, queue: str, task: str, event: dict[str, Any], field: str, producer: str
) -> None:
    """429 for more than a second, then 503, then delivered: the same time each time, that of its
    enqueueing, or of its first grant.
    """
    before = len(requests_of(stack, queue))
    provider, _, account = queue.partition(".")
    for code, more in (("429", {"retry_after": "1.2"}), ("503", {})):
        stack.sandbox.fault(code, provider=provider, key=key(queue), count=1, **more)
    begun = time.time()
    if producer == "sdk":
        postback.event_class(task).load(event, account=account).delay()
    else:
        RawClient(stack).send(task, event, account)
    records = wait_for_requests(stack, queue, before + 3)[before:]
    settled(stack, queue)
    assert [record.code for record in records][:2] == [429, 503]
    assert len({record.body for record in records}) == 1
    happened = float(json.loads(records[-1].body or b"")[field]) / (1000 if field == "client_timestamp" else 1)
    assert int(begun) <= happened <= records[0].at
    assert records[-1].at - happened >= 1.2


def test_goals_stop_after_21_days(stack: Stack) -> None:
    """A goal of 22 days ago is `expired` without a request, one of 20 days ago is sent; an event of
    22 days ago is recorded after all.
    """
    queue = "tgtrack.goals"
    raw = RawClient(stack)
    now_ms = int(time.time() * 1000)
    goal = {"user_id": "1", "target": "phone"}
    conversion = {"user_id": "3", "event_type": "sale", "conversion_target": "phone", "date": 1}
    raw.push("tgtrack.send_reach_goal", goal, "goals", "too-old", postback_at=now_ms - 22 * DAY_MS)
    raw.push("tgtrack.send_reach_goal", {**goal, "user_id": "2"}, "goals", "in-time", postback_at=now_ms - 20 * DAY_MS)
    raw.push("tgtrack.add_event", conversion, "goals", "event", postback_at=now_ms - 22 * DAY_MS)
    (letter,) = dead_letters(stack, queue, 1)
    records = wait_for_requests(stack, queue, 2)
    settled(stack, queue)
    assert (letter.id, letter.reason, letter.status, letter.attempts) == ("too-old", "expired", None, 0)
    assert "21 days" in letter.detail
    assert sorted(times_sent(records, "user_id")) == ["2", "3"]


# TGTrack


def test_sandbox_mode_is_warned_of_once(stack: Stack) -> None:
    """`mode: sandbox` in ten answers: ten deliveries and one warning that names the account."""
    queue = "tgtrack.mode"
    stack.sandbox.set_mode("sandbox", key=key(queue))
    postback.send_many(tgtrack.AddEvent(user_id=str(n), event_type="sale", account="mode") for n in range(10))
    wait_for_requests(stack, queue, 10)
    settled(stack, queue)
    warnings = [line for line in stack.logs().splitlines() if "sandbox mode" in line]
    assert len(warnings) == 1
    assert queue in warnings[0]
    assert "WARNING" in warnings[0]
    assert len([record for record in requests_of(stack, queue) if record.recorded]) == 10


def test_reads_overtake_a_backlog_of_writes(stack: Stack) -> None:
    """With 200 writes queued and ten requests a second, a look-up is among the next requests, not
    behind the writes.
    """
    queue = "tgtrack.reads"
    postback.send_many(tgtrack.AddEvent(user_id=str(n), event_type="sale", account="reads") for n in range(200))
    wait_for_requests(stack, queue, 5)
    sent_before = len(requests_of(stack, queue))
    found = tgtrack.GetUserInfo(user_id="42", account="reads").delay().get(timeout=20)
    assert found["user_id"] == "42"
    records = requests_of(stack, queue)
    place = [record.method for record in records].index("get_user_info")
    # Those on the wire or granted at that moment may be ahead of it.
    assert place - sent_before <= 10
    assert stack.waiting(queue) > 100
    stack.client().delete(*keys.priority_lists(queue))


# Rules that hold for everybody


def test_a_raw_clients_long_text_is_not_sent(stack: Stack) -> None:
    """A user id of 300,000 characters from any Celery client is a dead letter that does not quote
    it; the next event goes on.
    """
    queue, raw = "tgtrack.bounds", RawClient(stack)
    raw.send("tgtrack.add_event", {"user_id": "x" * 300_000, "event_type": "sale"}, "bounds")
    raw.send("tgtrack.add_event", {"user_id": "x" * 256, "event_type": "sale"}, "bounds")
    (letter,) = dead_letters(stack, queue, 1)
    assert (letter.reason, letter.attempts) == ("invalid", 0)
    assert letter.detail == "tgtrack.AddEvent: user_id must have 1 to 256 characters"
    wait_for_requests(stack, queue, 1)
    settled(stack, queue)
    assert [len(json.loads(record.body or b"")["user_id"]) for record in requests_of(stack, queue)] == [256]


def test_erase_reaches_wallets_and_answers(stack: Stack) -> None:
    """What waits under a wallet's address goes, and so does what TGTrack said of a person; in
    accounts of any name.
    """
    wallet, other = "UQDl1Zr9M_GQAZ-ZxjsFMnrz4k", "UQBBBBBBBBBBBBBBBBBBBBBBBB"
    for address in (wallet, other):
        for field in ("wallet_address", "from_"):
            tganalytics.Event(
                user_id=1, event_name="app-init", session_id=SESSION, account="-persons", **{field: address}
            ).apply_async(countdown=3600)
    asked = {user: tgtrack.GetUserInfo(user_id=user, account="_persons").delay() for user in ("7005001", "7005002")}
    assert {user: result.get(timeout=20)["user_id"] for user, result in asked.items()} == {user: user for user in asked}
    for person, words in ((wallet, "2 events erased, and 0 results"), ("7005001", "0 events erased, and 1 result\n")):
        erased = stack.postback("erase", "--user", person, "--yes")
        assert erased.returncode == 0, erased.stderr
        assert words in erased.stdout
        assert person not in erased.stdout
    client = stack.client()
    assert [client.exists(f"celery-task-meta-{result.id}") for result in asked.values()] == [0, 1]
    left = [event_of(message) for message in queued(stack, "tganalytics.-persons")]
    assert [event.get("wallet_address") or event["from"] for event in left] == [other] * 2
    client.delete(keys.delayed("tganalytics.-persons"))
