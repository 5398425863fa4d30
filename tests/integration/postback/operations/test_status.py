"""What ``status`` says of a real server."""

from __future__ import annotations

import json
import random
import struct
import time
from contextlib import contextmanager
from threading import Event, Thread

import pytest

import postback
from config.accounts import build_account
from postback import mytracker, tgtrack
from postback.operations import snapshot
from postback.wire import keys
from tasks.rulings import Poll
from tests.integration.workers.governor.crew import answer
from tests.unit.tasks.fakes import Server as Provider
from workers.governor import Server as RedisOf
from workers.upkeep.heartbeat import Heartbeat
from workers.worker import Worker
from workers.writes import Client

QUEUE = "tgtrack.main"
STEP = keys.priority_list(QUEUE, 3)


@pytest.fixture
def governor(govern):
    """A worker's governor for one account with two windows."""
    return govern(QUEUE, limits="3/second; 7 per 10 seconds")


def test_shape(desk, command):
    """``status --json`` has the documented keys."""
    desk.announce(QUEUE)
    account = command.json("status", "--json")["accounts"][0]
    documented = ["provider", "account", "queued", "delayed", "in_flight", "dead", "paused", "quota", "backlog_eta_s"]
    assert [key for key in account if key in documented] == documented
    assert account["paused"] is None
    assert {"limit", "window_s", "used", "remaining", "resets_in_s"} <= account["quota"][0].keys()
    assert [(window["limit"], window["window_s"]) for window in account["quota"]] == [
        (3, 1.0), (500, 3600.0), (5000, 86400.0),
    ]  # fmt: skip


def test_counts(desk, governor):
    """Queued counts all priorities and halves of batches; delayed counts back-offs too; in flight
    counts events.
    """
    desk.announce(QUEUE)
    postback.send_many([tgtrack.AddEvent(user_id="1", event_type="sale")] * 3)
    tgtrack.GetUserInfo(user_id="1").delay()
    governor.take(QUEUE, 1)
    (grant,) = governor.grants
    grant.settlement = answer(Poll(60, "")).to(grant)
    governor.settle(grant)
    governor.take(QUEUE, 1)
    (grant,) = governor.grants
    grant.settlement = answer(health="none", halves=[([1], [])]).to(grant)
    governor.settle(grant)
    governor.take(QUEUE, 1)
    (account,) = snapshot(desk.client).accounts
    assert (account.queued, account.delayed, account.in_flight, account.requests_in_flight) == (2, 1, 1, 1)
    desk.client.zadd(keys.held(QUEUE), {b"x": 1})
    assert snapshot(desk.client).accounts[0].delayed == 2


@pytest.mark.parametrize("seed", range(25))
def test_agrees_with_take(seed, desk, governor):
    """Whatever was answered when and is in flight: a window has nothing left if TAKE refuses, and
    both wait as long.
    """
    desk.announce(QUEUE, [[3, 1.0, "3/second"], [7, 10.0, "7 per 10 seconds"]])
    tgtrack.AddEvent(user_id="1", event_type="sale").delay()
    chance = random.Random(seed)
    size, sequence, flying = 7, chance.randrange(12), chance.randrange(5)
    now_ms = time.time() * 1000
    # Not near a window's length, so that a slow machine cannot change the answer between two looks.
    ages_s = [
        chance.choice([chance.uniform(0, 0.5), chance.uniform(3, 8), chance.uniform(11, 20)]) for _ in range(sequence)
    ]
    for number, age_s in enumerate(sorted(ages_s, reverse=True)):
        desk.client.setrange(keys.ring(QUEUE), number % size * 8, struct.pack(">d", now_ms - age_s * 1000))
    desk.client.hset(keys.meta(QUEUE), mapping={"seq": sequence, "size": size, "healthy": 1})
    for number in range(flying):
        desk.client.zadd(keys.flight(QUEUE), {f"other.{number}": now_ms + 60_000})
    (account,) = snapshot(desk.client).accounts
    spent = [usage for usage in account.usage if not usage.remaining]
    taken = governor.take(QUEUE, 1)
    assert bool(taken.grants) is not bool(spent)
    for usage in account.usage:
        young = sum(age_s < usage.window.window_s for age_s in sorted(ages_s)[:size])
        assert usage.used == young + flying
    if spent:
        assert taken.wait_ms / 1000 == pytest.approx(max(usage.resets_in_s for usage in spent), abs=0.3)


def test_a_shared_key(desk, govern, command):
    """Accounts of one key: the same quota, who shares it, and a backlog of which each has its
    turns.
    """
    minute = [[2, 60.0, "2/minute"]]
    for queue, events in ((QUEUE, 3), ("tgtrack.shop", 20)):
        desk.announce(queue, minute)
        name = queue.partition(".")[2]
        postback.send_many([tgtrack.AddEvent(user_id="1", event_type="sale", account=name)] * events)
    main, shop = (govern(queue, limits="2/minute") for queue in (QUEUE, "tgtrack.shop"))
    main.take(QUEUE, 1)
    shop.take("tgtrack.shop", 1)
    seen = snapshot(desk.client)
    one, other = seen.of(QUEUE), seen.of("tgtrack.shop")
    assert [usage.used for usage in (*one.usage, *other.usage)] == [1, 1]
    assert (one.quota_with, one.key_with) == (("tgtrack.shop",), ("tgtrack.shop",))
    assert one.before == one.queued
    assert one.eta_s() < other.eta_s()
    told = {account["account"]: account for account in command.json("status", "--json")["accounts"]}
    assert told["shop"]["key_shared_with"] == told["shop"]["quota_shared_with"] == [QUEUE]
    command("status")
    assert "has the same key and quota as tgtrack.shop" in command.out


def test_a_shared_plan(desk, govern, command):
    """Accounts that share a quota alone."""
    for name in ("main", "shop"):
        desk.announce(f"tgtrack.{name}")
        tgtrack.AddEvent(user_id="1", event_type="sale", account=name).delay()
        govern(f"tgtrack.{name}", api_key=name, quota="plan").take(f"tgtrack.{name}", 1)
    told = command.json("status", "--json")["accounts"][0]
    assert (told["quota_shared_with"], told["key_shared_with"]) == (["tgtrack.shop"], [])
    command("status")
    assert "shares its quota with tgtrack.shop" in command.out


def test_a_pause_that_is_over(desk, command):
    """A pause whose time has passed is null; one that lasts has its end, and one for an operator
    has none.
    """
    desk.announce(QUEUE)
    now_ms = time.time() * 1000

    def paused(until_ms: float):
        told = {"paused": f"{until_ms:.0f}", "reason": "quota", "since": f"{now_ms:.0f}"}
        desk.client.hset(keys.meta(QUEUE), mapping=told)
        return command.json("status", "--json")["accounts"][0]["paused"]

    assert paused(now_ms - 1) is None
    assert paused(now_ms + 60_000)["until"].endswith("Z")
    assert paused(-1)["until"] is None
    assert paused(-1)["reason"] == "quota"


def test_backlog(desk):
    """The backlog's time follows all windows, and counts batches."""
    desk.announce(QUEUE)
    desk.announce("mytracker.game", [[1, 10.0, "1 per 10 seconds"]], batch_max=20)
    postback.send_many([tgtrack.AddEvent(user_id="1", event_type="sale")] * 501)
    postback.send_many([mytracker.Login(custom_user_id="1")] * 100)
    seen = snapshot(desk.client)
    assert seen.of(QUEUE).eta_s() == pytest.approx(3600, rel=0.01)
    assert seen.of("mytracker.game").eta_s() == pytest.approx(40, rel=0.01)


def test_backlog_of_a_paused_account(desk):
    """A pause without end has no time; one with an end is waited for."""
    desk.announce(QUEUE)
    tgtrack.AddEvent(user_id="1", event_type="sale").delay()
    desk.client.hset(keys.meta(QUEUE), mapping={"paused": -1, "reason": "credentials"})
    assert snapshot(desk.client).of(QUEUE).eta_s() is None
    desk.client.hset(keys.meta(QUEUE), mapping={"paused": f"{time.time() * 1000 + 60_000:.0f}", "reason": "quota"})
    assert snapshot(desk.client).of(QUEUE).eta_s() == pytest.approx(60, abs=1)


def test_orphans(desk, command):
    """A queue that no worker has announced is shown, whatever of it is left; other applications'
    keys are not.
    """
    desk.announce(QUEUE)
    desk.client.lpush(keys.priority_list("tgtrack.ghost", 3), b"x")
    desk.client.zadd(keys.delayed("tonai.gone"), {b"x": 1})
    desk.client.lpush("tgtrack.main.backup", b"x")
    desk.client.set("tgtrack.text", b"x")
    desk.client.hset(keys.meta("tgtrack.past"), "seq", 1)
    desk.client.lpush("celery", b"x")
    shown = {f"{one['provider']}.{one['account']}": one for one in command.json("status", "--json")["accounts"]}
    assert shown.keys() == {QUEUE, "tgtrack.ghost", "tonai.gone"}
    assert shown["tgtrack.ghost"]["announced"] is False
    assert command("status", "--check") == 1
    assert "tgtrack.ghost: 1 event in a queue of no account" in command.out


class TestCheck:
    def test_all_well(self, desk, command):
        """Exits 0 when nothing needs a person: an operator's own pause, a spent quota and an idle
        account do not.
        """
        desk.announce(QUEUE)
        desk.announce("tgtrack.shop", age_s=900)
        desk.client.hset(keys.meta(QUEUE), mapping={"paused": -1, "reason": "operator"})
        tgtrack.AddEvent(user_id="1", event_type="sale").delay()
        assert command("status", "--check") == 0
        assert "nothing needs a person" in command.out

    def test_credentials(self, desk, command):
        """Refused credentials need a person."""
        desk.announce(QUEUE)
        desk.client.hset(keys.meta(QUEUE), mapping={"paused": -1, "reason": "credentials"})
        assert command("status", "--check") == 1
        assert "postback resume tgtrack.main" in command.out

    def test_dead_letters(self, desk, command):
        """So do dead letters."""
        desk.announce(QUEUE)
        desk.sales(2)
        assert command("status", "--check") == 1
        assert "tgtrack.dead: 2 dead" in command.out

    def test_no_worker(self, desk, command):
        """So does an account that has events and whose workers have been silent."""
        desk.announce(QUEUE, age_s=31)
        tgtrack.AddEvent(user_id="1", event_type="sale").delay()
        assert command("status", "--check") == 1
        assert "tgtrack.main: 1 event and no live worker" in command.out

    def test_memory(self, desk, command):
        """So does a Redis that is nearly full."""
        desk.announce(QUEUE)
        used = desk.client.info("memory")["used_memory"]
        desk.client.config_set("maxmemory", int(used * 1.05))
        try:
            assert command("status", "--check") == 1
        finally:
            desk.client.config_set("maxmemory", 0)
        assert "of its maxmemory" in command.out

    def test_json(self, desk, command):
        """With --json the alarms are in the document."""
        desk.sales(1)
        assert command("status", "--check", "--json") == 1
        assert [alarm["kind"] for alarm in json.loads(command.out)["alarms"]] == ["dead"]


def test_table(desk, command):
    """In a pipe one line an account and one for each thing that is wrong, however long: nothing is
    cut off, and nothing is coloured.
    """
    long = "tgtrack." + "a" * 60
    for queue in (QUEUE, "tgtrack.shop", long):
        desk.announce(queue)
    desk.announce("tonapi.main", [[9, 4.0, "a"], [99_999, 60.0, "b"], [99_999, 3600.0, "c"], [999_999, 86400.0, "d"]])
    desk.announce("mytracker.game", [])
    desk.sales(3)
    desk.client.hset(
        keys.meta("tgtrack.shop"), mapping={"paused": -1, "reason": "credentials", "detail": "401 " + "x " * 400}
    )
    desk.client.lpush("tgtrack.ghost", *[b"x"] * 1000)
    assert command("status") == 0
    assert "\x1b" not in command.out
    assert "…" not in command.out
    text = command.out
    assert f"\n✗ {long} " in text or f"\n● {long} " in text or f"\n‖ {long} " in text
    assert "  paused: credentials, 401 " + "x " * 400 in text
    assert "dead: 3 rejected" in text
    assert "orphaned queue" in text
    assert "500/500 h" in text


def test_the_cap_stands_beside_what_waits(desk, command):
    """An account with ``max_queued`` shows both numbers, for people and for machines."""
    desk.announce(QUEUE, max_queued=1000)
    desk.client.lpush(STEP, *[b"x"] * 3)
    desk.client.zadd(keys.delayed(QUEUE), {b"y": 1})
    assert command("status") == 0
    assert "4 of at most 1,000 events wait" in command.out
    assert "QueueFull" not in command.out
    assert command.json("status", "--json")["accounts"][0]["max_queued"] == 1000


def test_a_full_account_says_what_producers_get(desk, command):
    """At its cap the line names the error."""
    desk.announce(QUEUE, max_queued=3)
    desk.client.lpush(STEP, *[b"x"] * 3)
    assert command("status") == 0
    assert "3 of at most 3 events wait: producers get QueueFull" in command.out


def test_without_a_cap_nothing_is_said(desk, command):
    """An account without ``max_queued`` has no line of it, and 0 for machines."""
    desk.announce(QUEUE)
    assert command("status") == 0
    assert "at most" not in command.out
    assert command.json("status", "--json")["accounts"][0]["max_queued"] == 0


def test_control_characters_of_a_provider_do_not_reach_the_terminal(desk, command):
    """A detail cannot steer the terminal."""
    desk.announce(QUEUE)
    desk.client.hset(keys.meta(QUEUE), mapping={"paused": -1, "reason": "x", "detail": "\x1b[2J\nfake line"})
    assert command("status") == 0
    assert "\x1b" not in command.out
    assert "\nfake line" not in command.out


def test_nonsense_in_the_hashes(desk, command):
    """What somebody else wrote into our hashes does not break it."""
    for field, text in {
        "tgtrack.main": b"[]",
        "tgtrack.b": b"\xff",
        "x": b"{}",
        "tgtrack.c": b'{"windows": [[0]]}',
    }.items():
        desk.client.hset(keys.ACCOUNTS, field, text)
    desk.client.hset(keys.WORKERS, "w", b"nonsense")
    desk.client.hset(keys.meta(QUEUE), mapping={"paused": "soon", "seq": "x"})
    assert command("status") == 0


class TestCheckCommand:
    def test_what_is_wrong(self, desk, command, monkeypatch, tmp_path):
        """``check`` names each thing that is wrong, in a sentence, and exits 1."""
        accounts = tmp_path / "accounts.toml"
        accounts.write_text('[tgtrack.main]\napi_key = "env:NO_SUCH_KEY"\n')
        monkeypatch.setenv("POSTBACK_ACCOUNTS", str(accounts))
        assert command("check") == 1
        assert "NO_SUCH_KEY" in command.out
        assert "the append-only file is off" in command.out

    def test_all_well(self, desk, command, monkeypatch, tmp_path):
        """With everything in place it exits 0."""
        accounts = tmp_path / "accounts.toml"
        accounts.write_text('[tgtrack.main]\napi_key = "s3cret"\n')
        monkeypatch.setenv("POSTBACK_ACCOUNTS", str(accounts))
        desk.announce(QUEUE)
        desk.client.hset(keys.WORKERS, "w", json.dumps({"at": desk.now_ms, "provider": "tgtrack", "pid": 1}))
        desk.client.config_set("appendonly", "yes")
        try:
            assert command("check") == 0, command.out
        finally:
            desk.client.config_set("appendonly", "no")
        assert "s3cret" not in command.out

    def test_a_missing_worker(self, desk, command, monkeypatch, tmp_path):
        """An account of the file that no worker serves is named."""
        accounts = tmp_path / "accounts.toml"
        accounts.write_text('[tgtrack.main]\napi_key = "k"\n')
        monkeypatch.setenv("POSTBACK_ACCOUNTS", str(accounts))
        assert command("check") == 1
        assert "tgtrack.main: no live worker serves it: start `python -m workers tgtrack`" in command.out


def test_notices(desk, command):
    """Dead letters of which the application is still to be told are counted per provider, failed
    calls included; they are no queue.
    """
    for name in (keys.dead_notices("tgtrack"), keys.dead_notices_failed("tgtrack")):
        desk.client.lpush(name, b"a letter")
    shown = command.json("status", "--json")
    assert shown["dead_notices"] == {"tgtrack": 2, "mytracker": 0, "tganalytics": 0, "tonai": 0, "tonapi": 0}
    assert (shown["accounts"], shown["dead_letters"]["tgtrack"]) == ([], 0)
    assert command("status") == 0
    assert "tgtrack.dead: POSTBACK_ON_DEAD has not been called yet for 2 dead letters" in command.out
    assert command("status", "--check") == 0


@contextmanager
def beating(heartbeat):
    """It beats as in a worker, until the block ends."""
    ended = Event()

    def beat():
        heartbeat.beat()
        while not ended.wait(1):
            heartbeat.beat()

    heart = Thread(target=beat)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()


class TestServed:
    """Who is served: heartbeats name sets of accounts (ADR 31)."""

    @pytest.fixture
    def beat(self, desk):
        """A heartbeat of a worker with these accounts."""

        def heartbeat(name, *queues):
            accounts = {queue: build_account("tgtrack", queue.partition(".")[2], {"api_key": "k"}) for queue in queues}
            client = Client.from_url(desk.url, retry=None)
            made = Heartbeat(Worker(RedisOf(lambda: client), accounts, Provider()), client, "tgtrack")
            made.hostname = name
            return made

        return heartbeat

    def served(self, desk):
        return {account.queue: account.served for account in snapshot(desk.client).accounts}

    def test_ten_thousand(self, desk, beat, command):
        """All are announced and served; the next beats write no more than a few words; `status` and
        `check` stay short.
        """
        queues = [f"tgtrack.a{number}" for number in range(10_000)]
        heartbeat = beat("w@1", *queues)
        heartbeat.beat()
        # A busy machine may take longer than a heartbeat lives to look at so many.
        with beating(heartbeat):
            assert self.served(desk) == dict.fromkeys(queues, True)
        before = desk.client.info("stats")["total_net_input_bytes"]
        heartbeat.beat()
        assert desk.client.info("stats")["total_net_input_bytes"] - before < 5_000
        desk.client.lpush("tgtrack.a7777", "x", "y")
        command("status")
        assert len(command.out.splitlines()) < 120
        assert "tgtrack.a7777" in command.out
        assert "tgtrack: 10,000 accounts, 2 queued" in command.out
        command("status", "--all")
        assert len(command.out.splitlines()) > 10_000
        assert len(command.json("status", "--json")["accounts"]) == 10_000
        with beating(heartbeat):
            command("check")
        assert "live workers serve 10,000 accounts" in command.out

    def test_whose_only_worker_ended(self, desk, beat, command):
        """At once; the accounts of another worker go on being served.

        Of very many alarms a few are said.
        """
        first = beat("w@1", *(f"tgtrack.a{number}" for number in range(60)))
        first.beat()
        beat("w@2", "tgtrack.b", "tgtrack.a0").beat()
        for number in range(60):
            desk.client.lpush(f"tgtrack.a{number}", "x")
        first.end()
        served = self.served(desk)
        assert [queue for queue in served if served[queue]] == ["tgtrack.a0", "tgtrack.b"]
        assert command("status", "--check") == 1
        assert command.out.count("no live worker: start") == 50
        assert "and 9 more like these (unserved)" in command.out

    def test_what_redis_has_lost(self, desk, beat):
        """An emptied Redis, a removed account, an account that another worker withdrew."""
        heartbeat = beat("w@1", "tgtrack.a", "tgtrack.b")
        heartbeat.beat()
        desk.client.flushall()
        heartbeat.beat()
        assert self.served(desk) == {"tgtrack.a": True, "tgtrack.b": True}
        desk.client.hdel(keys.ACCOUNTS, "tgtrack.a")
        heartbeat._announce_at_ms = 0
        heartbeat.beat()
        assert self.served(desk) == {"tgtrack.a": True, "tgtrack.b": True}
        desk.client.delete(keys.WORKERS)
        assert self.served(desk) == {"tgtrack.a": False, "tgtrack.b": False}

    def test_an_older_worker(self, desk):
        """It announces each account with the time, again and again."""
        desk.announce("tgtrack.a")
        desk.announce("tgtrack.b", age_s=10)
        assert self.served(desk) == {"tgtrack.a": True, "tgtrack.b": False}
