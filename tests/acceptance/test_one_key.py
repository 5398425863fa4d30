"""One key in several accounts, files and workers, and one quota for several tokens: never a 429,
and all of it used (I10).
"""

from __future__ import annotations

import bisect
import time
from collections import Counter
from pathlib import Path

import pytest

import postback
from postback import tgtrack, tonapi
from postback.operations import snapshot
from postback.wire import keys
from tests.acceptance.evidence import possible_with
from workers.devkit import SECRETS, Stack, until
from workers.devkit.stack import READY

WINDOWS = ((3, 1.0), (12, 5.0))
LIMITS = "3/second; 12 per 5 seconds"
#: How long a run is watched, seconds: the longer window three times, and the first burst of a
#: fourth.
WATCHED_S = 15.9


def watched(stack: Stack, provider: str = "tgtrack", watched_s: float = WATCHED_S) -> tuple[int, Counter[str]]:
    """Requests in that time from the first on, and how many each user had."""
    stack.sandbox.wait_for(lambda s: s.ledger(provider), timeout_s=30)
    first = stack.sandbox.ledger(provider)[0].mono
    until(lambda: time.monotonic() > first + watched_s, watched_s + 10, "the end of the run", every_s=0.2)
    records = stack.sandbox.ledger(provider)
    sent = bisect.bisect_left([record.mono - first for record in records], watched_s)
    return sent, Counter(str(record.events[0].get("user_id", "")) for record in records[:sent])


def send(names: list[str], each: int) -> None:
    """Events that say which account they were sent to."""
    postback.send_many(
        [tgtrack.AddEvent(user_id=name, event_type="sale", account=name) for _ in range(each) for name in names]
    )


@pytest.mark.parametrize("count", [2, 10])
def test_one_key_in_many_accounts(count: int, tmp_path: Path) -> None:
    """Two and ten accounts of one key, in two accounts files, on four workers: no 429, 97 % of the
    possible, each account its share.
    """
    with Stack(limits={"tgtrack": LIMITS}, latency_ms=(5, 40)) as stack:
        names = [f"a{number}" for number in range(count)]
        for name in names:
            stack.account(f"tgtrack.{name}", limits=LIMITS, **SECRETS["tgtrack"])
        text = stack.accounts_path.read_text()
        tables = ["[tgtrack" + table for table in text.split("[tgtrack")[1:]]
        halves = [tmp_path / "first.toml", tmp_path / "second.toml"]
        halves[0].write_text("".join(tables[: count // 2]))
        halves[1].write_text("".join(tables[count // 2 :]))
        stack.configure_producer()
        workers = [stack.launch_worker("tgtrack", POSTBACK_ACCOUNTS=str(half)) for half in halves * 2]
        for worker in workers:
            worker.wait_for(READY)
        # All are there before the first event: none of them has had more time than the others.
        send(names, 60 // count + 10)
        sent, users = watched(stack)
        most = possible_with(WINDOWS, WATCHED_S)
        print(f"{sent} requests in {WATCHED_S:g} s, {most} possible; 429s: {stack.sandbox.stats()['429']}; {users}")
        assert stack.sandbox.stats()["429"] == 0
        assert sent >= 0.97 * most
        assert max(users.values()) - min(users[name] for name in names) <= max(3, most // count // 2)
        warning = f"{' and '.join(f'tgtrack.{name}' for name in names[:2])}" if count == 2 else "and 5 more"
        assert f"{warning} have the same key: they share one quota and one health" in stack.logs()
        assert SECRETS["tgtrack"]["api_key"] not in stack.logs()


def test_kills_and_changes_under_load() -> None:
    """Workers are killed and started, limits raised and lowered, an account joins a quota and
    leaves it, another one comes: no 429.
    """
    limits = "6/second; 20 per 5 seconds"
    with Stack(limits={"tgtrack": limits}, latency_ms=(5, 60)) as stack:
        names = ["a", "b", "c"]
        for name in names:
            stack.account(f"tgtrack.{name}", limits=limits, lease_s=8, timeout_s=2, **SECRETS["tgtrack"])
        stack.configure_producer()
        send(names, 120)
        workers = stack.start_workers("tgtrack", count=3)
        changes = (
            {"limits": "3/second; 10 per 5 seconds"},
            {"limits": limits, "quota": "plan"},
            {"limits": limits},
            {"limits": "4/second; 15 per 5 seconds"},
        )
        for table in changes * 2:
            for name in names:
                stack.account(f"tgtrack.{name}", **{"lease_s": 8, "timeout_s": 2, **SECRETS["tgtrack"], **table})
            workers.pop(0).kill()
            workers += stack.start_workers("tgtrack")
            seen = len(stack.sandbox.ledger("tgtrack"))
            until(lambda seen=seen: len(stack.sandbox.ledger("tgtrack")) > seen + 5, 30, "it goes on", every_s=0.1)
        assert stack.sandbox.stats()["429"] == 0


def test_a_refused_token_of_a_shared_plan() -> None:
    """Two tokens share a plan's quota; one is refused: only its account pauses, and the other has
    all that is left.
    """
    limits = "2/second"
    with Stack(limits={"tonapi": limits}, latency_ms=(5, 20)) as stack:
        stack.account("tonapi.good", token="plan-token-good", limits=limits, quota="plan")
        stack.account("tonapi.bad", token="refused-token-1", limits=limits, quota="plan")
        stack.sandbox.revoke("tonapi", "refused-token-1")
        stack.configure_producer()
        for number in range(10):
            for name in ("good", "bad"):
                tonapi.GetEvent(event_id=f"{number:064x}", account=name).delay()
        stack.start_workers("tonapi", count=2)
        client = stack.client()
        until(lambda: paused(stack, "tonapi.bad") == "credentials", 30, "the pause")
        until(lambda: not client.llen(keys.priority_list("tonapi.good", 0)), 30, "the good one is through")
        records = stack.sandbox.ledger("tonapi")
        assert sum(record.status == 401 for record in records) == 1
        arrived = [record.mono for record in records]
        # The sandbox counts by token, the provider by plan.
        assert not [at for at, third in zip(arrived, arrived[2:], strict=False) if third - at < 1.0]
        assert paused(stack, "tonapi.good") is None
        assert stack.waiting("tonapi.bad") == 10


def paused(stack: Stack, queue: str) -> str | None:
    """Why an account pauses, as status says."""
    account = snapshot(stack.redis.client()).of(queue)
    return account.paused.reason if account and account.paused else None
