"""Dead letters on a real server: nothing lost, nothing twice."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

from postback import tgtrack, tonai, tonapi
from postback.operations import Filter, drop, letters, replay
from postback.operations.dead_counts import count_dead
from postback.operations.messages import read_message
from postback.wire import keys

ROOT = Path(__file__).parents[4]


class TestList:
    def test_shape(self, desk, command):
        """``dead list --json`` has one object a line with the documented keys, the event whole."""
        identity = desk.bury(
            desk.raw(tgtrack.AddEvent(user_id="987654321", event_type="sale")), possible_duplicate=True
        )
        assert command("dead", "list", "tgtrack", "--json") == 0
        told = json.loads(command.out)
        assert list(told) == [
            "id", "task", "provider", "account", "event", "reason", "status", "detail", "attempts", "enqueued_at", "failed_at",
            "possible_duplicate",
        ]  # fmt: skip
        assert (told["id"], told["account"], told["reason"]) == (identity, "main", "rejected")
        assert told["event"]["user_id"] == "987654321"
        assert told["possible_duplicate"] is True
        assert told["enqueued_at"].endswith("Z")

    def test_people_are_shortened_for_people(self, desk, command):
        """The table shows no whole user id."""
        desk.bury(desk.raw(tgtrack.AddEvent(user_id="987654321", event_type="sale")))
        assert command("dead", "list", "tgtrack") == 0
        assert "987654321" not in command.out
        assert "98…21" in command.out

    @pytest.mark.parametrize("raw", [b"\xff garbage", b"[]", b"{}", b'{"headers": 1}', b"", b'{"headers": {"id": 5}}'])
    def test_garbage(self, raw, desk, command):
        """An entry that is no message is listed as malformed, in the table too."""
        desk.client.lpush("tgtrack.dead", raw)
        assert [letter.reason for letter in letters(desk.client, "tgtrack")] == ["malformed"]
        assert command("dead", "list", "tgtrack") == 0
        assert "malformed" in command.out

    def test_foreign_words(self, desk, command):
        """A provider's words are shown as they came: no markup, no control characters, no line of
        their own.
        """
        detail = "[red]x[/red] [/] \x1b[2J\x07\nfake line"
        desk.bury(desk.raw(tgtrack.AddEvent(user_id="987654321", event_type="sale")), detail=detail)
        assert command("dead", "list", "tgtrack") == 0
        assert "[red]x[/red] [/]" in command.out
        assert not {"\x1b", "\x07"} & set(command.out)
        assert "\nfake" not in command.out

    def test_all_providers(self, desk, command):
        """Without a provider it lists the letters of all, the oldest of all first."""
        sales = [*desk.sales(1, age_s=7200), *desk.sales(1, "expired", age_s=60)]
        tonai_id = desk.bury(desk.raw(tonai.Conversion(telegram_user_id="17")), "ambiguous", age_s=3600)
        desk.client.lpush("tonapi.dead", b"garbage")
        assert command("dead", "list", "--json") == 0
        listed = [json.loads(line) for line in command.out.splitlines()]
        assert [(one["provider"], one["id"]) for one in listed] == [
            ("tonapi", None), ("tgtrack", sales[0]), ("tonai", tonai_id), ("tgtrack", sales[1]),
        ]  # fmt: skip
        assert command("dead", "list", "--limit", "2", "--json") == 0
        assert len(command.out.splitlines()) == 2
        assert command("dead", "list") == 0
        assert command.out.splitlines()[-4:] == [
            "4 dead letters", "  tgtrack: 1 expired, 1 rejected", "  tonai: 1 ambiguous", "  tonapi: 1 malformed",
        ]  # fmt: skip
        assert command("dead", "list", "--account", "main", "--reason", "ambiguous") == 0
        assert command.out.splitlines()[-1] == "1 dead letter: 1 ambiguous"

    def test_nothing_is_cut_off_in_a_pipe(self, desk, command):
        """A pipe gets every letter, with its whole id and all of the provider's words."""
        identity, words = "order-" + "7" * 249, "слово 请检查 " * 100
        raw = desk.raw(tgtrack.AddEvent(user_id="987654321", event_type="sale"), task_id=identity)
        desk.bury(raw, detail=words)
        desk.sales(200)
        assert command("dead", "list", "tgtrack") == 0
        lines = command.out.splitlines()
        assert lines[0].startswith(f"{identity} tgtrack.add_event ")
        assert f"  rejected  400 {words.strip()}" in lines[1]
        assert len(lines) == 2 * 201 + 1

    @pytest.mark.parametrize("words", ["list", "list tgtrack", "replay tgtrack", "drop tgtrack"])
    @pytest.mark.parametrize(
        ("option", "word", "sentence"),
        [
            ("--reason", "exausted", "'exausted' is not a reason; did you mean exhausted?"),
            ("--reason", "x", "'x' is not a reason; reasons are ambiguous, crashed"),
            ("--account", "mian", " account 'mian'; did you mean main?"),
            ("--account", "tgtrack", " account 'tgtrack'; accounts are ghost, main, shop"),
        ],
    )
    def test_mistyped(self, option, word, sentence, words, desk, command):
        """A reason or an account that no letter can have is wrong usage, not "nothing there"."""
        desk.announce("tgtrack.shop")
        desk.client.lpush("tgtrack.ghost", b"x")
        ids = desk.sales(2)
        assert command("dead", *words.split(), option, word, "--reason", "rejected") == 2
        assert (command.out, len(command.err.splitlines())) == ("", 1)
        assert sentence in command.err
        assert ("no provider has an account" in command.err) is (option == "--account" and words == "list")
        assert f"see `postback dead {words.split()[0]} --help`" in command.err
        assert desk.dead_ids() == ids

    @pytest.mark.parametrize(
        ("option", "word"),
        [("--account", "shop"), ("--account", "ghost"), ("--account", "main"), ("--reason", "from-2027"),
         ("--reason", "crashed")],
    )  # fmt: skip
    def test_not_mistaken(self, option, word, desk, command):
        """An account that is announced, has events or has letters is known; so is a reason that
        workers write, or that a letter has.
        """
        desk.announce("tgtrack.shop")
        desk.client.lpush("tgtrack.ghost", b"x")
        desk.sales(1, "from-2027")
        assert command("dead", "list", "tgtrack", option, word) == 0

    def test_before_anything_is_known(self, desk, command):
        """Where Redis knows no account yet, any may be asked for."""
        assert command("dead", "list", "--account", "main") == 0
        assert command.out == "0 dead letters\n"

    def test_some_ids_are_missing(self, desk, command):
        """Letters that are there are listed, the other ids are named, and the exit code is 1."""
        ids = desk.sales(2)
        for options in ((), ("--json",)):
            assert command("dead", "list", "--id", ids[0], "--id", "nobody", *options) == 1
            assert ids[0] in command.out
            assert command.err == "postback: no dead letter has the id nobody\n"

    def test_filters(self, desk):
        """Reason, account, age, id and limit each narrow the list; together they all hold."""
        old = desk.sales(3, "rejected", age_s=7200)
        desk.sales(2, "expired")
        shop = desk.sales(2, "rejected", account="shop")

        def found(**conditions):
            return [letter.message.id for letter in letters(desk.client, "tgtrack", Filter(**conditions))]

        assert len(found()) == 7
        assert len(found(reasons=frozenset({"rejected"}))) == 5
        assert found(account="shop") == shop
        assert found(older_than_s=3600) == old
        assert found(ids=frozenset({old[1], "none"})) == [old[1]]
        assert found(reasons=frozenset({"rejected"}), limit=2) == old[:2]
        assert found(reasons=frozenset({"expired"}), account="shop") == []

    def test_undated_letters_have_no_age(self, desk):
        """What does not say when it died is not older than anything: retention leaves it alone."""
        desk.client.lpush("tgtrack.dead", b"garbage")
        assert list(letters(desk.client, "tgtrack", Filter(older_than_s=0))) == []

    def test_counts_agree(self, desk):
        """Counting in Redis and reading here see the same accounts and reasons."""
        desk.sales(3)
        desk.sales(2, "expired", account="shop")
        desk.client.lpush("tgtrack.dead", b"garbage")
        counted = count_dead(desk.client, "tgtrack").by_queue_and_reason
        assert counted == {("tgtrack.main", "rejected"): 3, ("tgtrack.shop", "expired"): 2, ("", "malformed"): 1}
        read = [(letter.account, letter.reason) for letter in letters(desk.client, "tgtrack")]
        assert sorted(read) == sorted([("main", "rejected")] * 3 + [("shop", "expired")] * 2 + [("", "malformed")])


class TestReplay:
    def test_one_by_id(self, desk, command):
        """One id moves to its account's queue; the others stay as they were, byte for byte."""
        ids = desk.sales(5)
        before = desk.client.lrange("tgtrack.dead", 0, -1)
        assert command("dead", "replay", "tgtrack", "--id", ids[2]) == 0
        assert "1 dead letter replayed" in command.out
        assert desk.queued_ids() == [ids[2]]
        assert desk.client.lrange("tgtrack.dead", 0, -1) == [raw for raw in before if ids[2].encode() not in raw]

    def test_behind_those_who_wait(self, desk):
        """Replayed events go to the back, in the order in which they died, by their priority."""
        waiting = tgtrack.AddEvent(user_id="1", event_type="sale").delay().id
        ids = desk.sales(3)
        read = desk.bury(desk.raw(tgtrack.GetUserInfo(user_id="1")))
        assert replay(desk.client, "tgtrack", Filter()).by_queue == {"tgtrack.main": 4}
        assert desk.ids("tgtrack.main") == [read]
        assert desk.ids(keys.priority_list("tgtrack.main", 3)) == [waiting, *ids]

    def test_a_fresh_start(self, desk):
        """The letter, the attempts and the crashes are gone; a possible duplicate stays one; the
        body is the same.
        """
        raw = desk.raw(tgtrack.AddEvent(user_id="1", event_type="sale"))
        desk.bury(raw, "crashed", state="attempts=7 tries=2 first=1732240000000000 duplicate=1 crashes=3 polls=1")
        replay(desk.client, "tgtrack", Filter())
        back = json.loads(desk.client.lindex(keys.priority_list("tgtrack.main", 3), 0))
        before = json.loads(raw)
        assert back["body"] == before["body"]
        headers = dict(back["headers"])
        assert headers.pop("postback") == "first=1732240000000000 duplicate=1"
        assert headers.pop("postback_replayed_at") > 0
        assert headers == before["headers"]

    def test_a_poll_begins_anew(self, desk):
        """An event without a time of its own forgets its first grant: its deadline begins anew."""
        raw = desk.raw(tonapi.GetEvent(event_id="ab" * 32))
        desk.bury(raw, "not_final", state="first=1732240000000000 polls=9")
        replay(desk.client, "tonapi", Filter())
        assert "postback" not in json.loads(desk.client.lindex("tonapi.main", 0))["headers"]

    def test_expired(self, desk, command):
        """An ``expires`` that has passed is taken off, and the command says so."""
        desk.bury(desk.raw(tgtrack.AddEvent(user_id="1", event_type="sale"), expires=-10), "expired")
        assert command("dead", "replay", "tgtrack") == 0
        assert "1 had expired" in command.out
        assert read_message(desk.client.lindex(keys.priority_list("tgtrack.main", 3), 0)).headers["expires"] is None

    def test_wrapped(self, desk):
        """What was no message goes back as exactly the bytes that came."""
        original = b'\xff{"not": a message}'
        wrapped = {
            "body": base64.b64encode(original).decode(), "content-encoding": "binary",
            "content-type": "application/octet-stream", "headers": {"postback_dead": {"reason": "malformed"}, "id": ""},
            "properties": {"body_encoding": "base64", "priority": 0, "delivery_info": {"routing_key": "tgtrack.shop"}},
        }  # fmt: skip
        desk.client.lpush("tgtrack.dead", json.dumps(wrapped))
        replay(desk.client, "tgtrack", Filter())
        assert desk.client.lrange("tgtrack.shop", 0, -1) == [original]
        assert desk.client.llen("tgtrack.dead") == 0

    def test_an_account_that_was_unknown(self, desk):
        """An event that lay in another account's queue goes to its own, once that exists."""
        desk.announce("tgtrack.shop")
        raw = desk.raw(tgtrack.AddEvent(user_id="1", event_type="sale", account="shop"))
        desk.bury(raw.replace(b'"tgtrack.shop"', b'"tgtrack.main"'), "unknown_account")
        assert replay(desk.client, "tgtrack", Filter()).by_queue == {"tgtrack.shop": 1}

    def test_how_long(self, desk, command):
        """It says how long delivering takes: 5,000 events are a day of quota."""
        desk.announce("tgtrack.main")
        desk.sales(5000)
        assert command("dead", "replay", "tgtrack", "--dry-run") == 0
        assert "tgtrack.main: 5,000 events: 24 h of quota" in command.out
        assert "the last one leaves in 9 h" in command.out
        assert desk.client.llen("tgtrack.dead") == 5000
        assert command("dead", "replay", "tgtrack") == 0
        assert "the last one leaves in 9 h" in command.out
        assert desk.client.llen("tgtrack.dead") == 0

    def test_an_account_that_nobody_serves(self, desk, command):
        """It says that nobody reads the queue that it fills."""
        desk.sales(1)
        assert command("dead", "replay", "tgtrack") == 0
        assert "no worker has announced this account" in command.out

    def test_a_missing_id(self, desk, command):
        """An id that is not there is told, and the exit code is 1; those that are there move."""
        ids = desk.sales(2)
        assert command("dead", "replay", "tgtrack", "--id", "nobody", "--id", ids[0]) == 1
        assert command.err == "postback: no dead letter of tgtrack has the id nobody\n"
        assert desk.dead_ids() == [ids[1]]

    def test_limit(self, desk):
        """The oldest so many."""
        ids = desk.sales(300)
        assert replay(desk.client, "tgtrack", Filter(limit=130)).total == 130
        assert desk.dead_ids() == ids[130:]

    def test_progress(self, desk):
        """It says how many letters it has looked at; together they are all."""
        desk.sales(300)
        counts = []
        replay(desk.client, "tgtrack", Filter(account="shop"), progress=counts.append)
        assert len(counts) > 1
        assert sum(counts) == 300

    def test_two_operators(self, desk, redis_server):
        """Two who replay the same letters at the same time move each exactly once."""
        ids = desk.sales(3000)
        moved = []

        def operate(conditions: Filter) -> None:
            client = redis_server.client()
            moved.append(replay(client, "tgtrack", conditions).total)
            client.close()

        everything, half = Filter(), Filter(ids=frozenset(ids[::2]))
        threads = [threading.Thread(target=operate, args=(one,)) for one in (everything, half, everything)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(moved) == 3000
        assert sorted(desk.queued_ids()) == ids
        assert desk.client.llen("tgtrack.dead") == 0

    def test_while_letters_arrive(self, desk, redis_server):
        """Letters that a worker adds meanwhile are neither lost nor in the way."""
        ids = desk.sales(2000)
        extra = desk.client.lindex("tgtrack.dead", 0)
        stop = threading.Event()
        added = 0

        def bury() -> None:
            nonlocal added
            client = redis_server.client()
            while not stop.is_set():
                client.lpush("tgtrack.dead", extra.replace(ids[-1].encode(), f"late-{added}".encode()))
                added += 1
            client.close()

        thread = threading.Thread(target=bury)
        thread.start()
        chosen = Filter(ids=frozenset(ids[1::2]))
        total = replay(desk.client, "tgtrack", chosen).total
        stop.set()
        thread.join()
        assert total == 1000
        assert desk.queued_ids() == ids[1::2]
        assert desk.dead_ids()[:1000] == ids[::2]
        assert len(desk.dead_ids()) == 1000 + added

    def test_killed(self, desk):
        """A replay that is killed half-way has moved each letter or left it; the next one moves the
        rest.
        """
        ids = desk.sales(20_000)
        process = subprocess.Popen(
            [sys.executable, "-c", "from postback.cli import main; main(['dead', 'replay', 'tgtrack'])"],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        give_up = time.monotonic() + 60
        while desk.client.llen("tgtrack.dead") == len(ids) and time.monotonic() < give_up:
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        left = desk.client.llen("tgtrack.dead")
        assert left < len(ids)
        assert sorted(desk.dead_ids() + desk.queued_ids()) == ids
        assert replay(desk.client, "tgtrack", Filter()).total == left
        assert desk.queued_ids() == ids

    def test_one_that_dies_again_meanwhile(self, desk):
        """A letter that comes back while its replay goes on is not replayed twice."""
        ids = desk.sales(100)

        class Unlucky(redis.Redis):
            """Buries what was replayed, at once."""

            def evalsha(self, *args, **kwargs):
                reply = super().evalsha(*args, **kwargs)
                queue = keys.priority_list("tgtrack.main", 3)
                while self.lmove(queue, "tgtrack.dead", "RIGHT", "LEFT"):
                    pass
                return reply

        client = Unlucky.from_url(desk.url)
        assert replay(client, "tgtrack", Filter()).total == 100
        assert sorted(desk.dead_ids()) == ids
        client.close()


class TestDrop:
    def test_by_age(self, desk, command):
        """Retention: ``--older-than 30d`` drops those and no other, without asking."""
        desk.sales(3, "expired", age_s=31 * 86_400)
        young = desk.sales(2)
        assert command("dead", "drop", "tgtrack", "--older-than", "30d") == 0
        assert command.out == "3 dead letters dropped\n"
        assert desk.dead_ids() == young
        assert desk.queued_ids() == []

    def test_all_needs_a_word(self, desk, command, monkeypatch):
        """Without a filter and without a terminal it refuses; with --yes it drops."""
        desk.sales(2)
        monkeypatch.setattr("sys.stdin", io.StringIO())
        assert command("dead", "drop", "tgtrack") == 2
        assert "--yes" in command.err
        assert len(desk.dead_ids()) == 2
        assert command("dead", "drop", "tgtrack", "--yes") == 0
        assert desk.dead_ids() == []

    @pytest.mark.parametrize(("answer", "left", "code"), [("n", 2, 1), ("", 2, 1), ("y", 0, 0)])
    def test_asks(self, desk, command, monkeypatch, answer, left, code):
        """At a terminal it asks first, and only a yes is one."""

        class Terminal:
            def isatty(self):
                return True

            def readline(self):
                return f"{answer}\n"

        desk.sales(2)
        monkeypatch.setattr("sys.stdin", Terminal())
        assert command("dead", "drop", "tgtrack") == code
        assert len(desk.dead_ids()) == left

    def test_from_the_middle(self, desk):
        """Dropping some keeps the order and the bytes of the others."""
        ids = desk.sales(1000)
        assert drop(desk.client, "tgtrack", Filter(ids=frozenset(ids[300:500]))).total == 200
        assert desk.dead_ids() == ids[:300] + ids[500:]

    def test_same_id_twice(self, desk):
        """Two letters of one id are both dropped."""
        raw = desk.raw(tonai.Conversion(telegram_user_id="17"))
        desk.bury(raw)
        desk.bury(raw)
        assert drop(desk.client, "tonai", Filter()).total == 2
