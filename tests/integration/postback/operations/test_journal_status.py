"""What ``status`` says of the journal: how far it is behind, and what is lost."""

from __future__ import annotations

import json
import re
import time

import pytest
import redis

from postback.operations import pause, snapshot
from postback.operations.journal_status import JournalStatus, Stream
from postback.operations.queues import queues_with_events
from postback.wire import keys

QUEUE = "tgtrack.main"
STREAM = keys.journal("tgtrack")


@pytest.fixture
def journal(desk):
    """Writes what stands in Redis of a journal."""

    class Journal:
        def written(self, age_s: float) -> None:
            """A journal process has run, and wrote so long ago."""
            at_ms = f"{time.time() * 1000 - age_s * 1000:.0f}"
            desk.client.hset(keys.JOURNAL, mapping={"id": "5f1a", "at": at_ms})

        def waits(self, age_s: float, provider: str = "tgtrack") -> None:
            """A record waits for so long."""
            name = f"{time.time() * 1000 - age_s * 1000:.0f}-0"
            desk.client.xadd(keys.journal(provider), {"record": "{}"}, id=name)

        def lost(self, count: object, provider: str = "tgtrack") -> None:
            """A full stream has lost so many."""
            desk.client.hset(keys.journal_gap(provider), mapping={"lost": count, "since": 1, "until": 2})

    desk.announce(QUEUE)
    return Journal()


def seen(desk) -> JournalStatus:
    (status,) = snapshot(desk.client).journals
    return status


def test_never_run(desk, journal, command):
    """Where no journal process has ever run, records may wait and be lost: nobody asked for them.
    The numbers are there.
    """
    journal.waits(3600)
    journal.lost(7)
    stream = seen(desk).streams["tgtrack"]
    assert (stream.entries, stream.lost) == (1, 7)
    assert stream.lag_s == pytest.approx(3600, abs=5)
    assert command("status", "--check") == 0
    command("status")
    assert "journal" not in command.out


def test_all_is_well(desk, journal, command):
    """A journal that is written needs no word, even while records wait for it."""
    journal.written(5)
    journal.waits(5)
    assert command("status", "--check") == 0
    command("status")
    assert "journal" not in command.out


def test_nobody_writes(desk, journal, command):
    """A writer that is silent for a minute is an alarm that says how many records wait and what to
    do, in both forms of the command.
    """
    journal.written(185)
    journal.waits(3)
    journal.waits(2, "tonai")
    said = r"nobody has written the journal for 3 min, 2 records in Redis: start `python -m workers.journal`"
    assert command("status", "--check") == 1
    assert re.search(said, " ".join(command.out.split()))
    command("status")
    assert re.search(said, " ".join(command.out.split()))


def test_behind(desk, journal, command):
    """So is a writer that writes and does not keep up."""
    journal.written(1)
    journal.waits(200)
    assert command("status", "--check") == 1
    said = r"the journal is behind, 1 record in Redis, the oldest for 3 min"
    assert re.search(said, " ".join(command.out.split()))


def test_lost(desk, journal, command):
    """Lost records are an alarm of their stream."""
    journal.written(1)
    journal.lost(1234)
    assert command("status", "--check") == 1
    out = " ".join(command.out.split())
    assert f"{STREAM}: 1,234 records of the journal lost, because its stream was full" in out


@pytest.mark.parametrize("at", [None, "soon", "-5", "9" * 400])
def test_a_time_that_is_none(desk, journal, command, at):
    """A journal with a name and without a readable time was never written; its JSON is JSON."""
    desk.client.hset(keys.JOURNAL, mapping={"id": "5f1a", **({} if at is None else {"at": at})})
    document = command.json("status", "--json")
    assert document["journal"][0]["last_written"] is None
    assert [alarm["kind"] for alarm in document["alarms"]] == ["journal"]
    assert "nobody has written the journal yet" in document["alarms"][0]["text"]
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize("count", ["many", "-1", "", "1e3"])
def test_a_count_that_is_none(desk, journal, count):
    """What is no number of lost records counts as none."""
    journal.lost(count)
    assert seen(desk).streams["tgtrack"] == Stream()


def test_json(desk, journal, command):
    """``status --json`` has each provider of the Redis, those without records too."""
    journal.written(10)
    journal.waits(20)
    journal.lost(3)
    (shown,) = command.json("status", "--json")["journal"]
    assert (shown["id"], shown["last_written"][-1]) == ("5f1a", "Z")
    assert set(shown["streams"]) == {"tgtrack", "mytracker", "tganalytics", "tonai", "tonapi"}
    assert shown["streams"]["tonai"] == {"entries": 0, "lag_s": 0.0, "lost": 0}
    assert shown["streams"]["tgtrack"]["entries"] == 1
    assert shown["streams"]["tgtrack"]["lag_s"] == pytest.approx(20, abs=5)


def test_two_servers(desk, journal):
    """Each Redis has its own journal."""
    journal.written(1)
    both = snapshot(desk.client, ["tgtrack"], url="one") + snapshot(desk.client, ["tonai"], url="two")
    assert [(status.url, set(status.streams)) for status in both.journals] == [("one", {"tgtrack"}), ("two", {"tonai"})]


def test_what_an_operator_does_waits_too(desk, journal):
    """An operator's action is a record like any other."""
    pause(desk.client, QUEUE)
    assert seen(desk).streams["tgtrack"].entries == 1


def test_it_is_no_queue(desk, journal):
    """The journal's keys are nobody's events: no account is shown for them."""
    journal.written(1)
    for provider in ("tgtrack", "tonai"):
        journal.waits(1, provider)
        journal.lost(1, provider)
    assert queues_with_events(desk.client, ("tgtrack", "tonai")) == set()
    assert [account.queue for account in snapshot(desk.client).accounts] == [QUEUE]


def test_a_key_of_another_type(desk, command):
    """A stream that is none is said, and not taken for an empty one."""
    desk.client.set(STREAM, "text")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        snapshot(desk.client)
    assert command("status") == 2
    assert "WRONGTYPE" in command.err
