"""What operators do is in the journal, written in the same step."""

from __future__ import annotations

import hashlib
import json
import time

import pytest
import redis

from postback import tgtrack
from postback.journal.records import Record, read_record
from postback.operations import Filter, drop, erase, pause, replay, resume
from postback.operations.actions import operator
from postback.wire import keys
from workers.devkit import RedisServer

QUEUE = "tgtrack.main"
STREAM = keys.journal("tgtrack")
ME = "987654321"


def records(desk, provider="tgtrack") -> list[Record]:
    """All records of a provider's stream."""
    entries = desk.client.xrange(keys.journal(provider))
    assert all(fields.keys() == {b"record"} for _, fields in entries)
    return [read_record(fields[b"record"]) for _, fields in entries]


def test_a_pause(desk, command):
    """A pause says who, why and when, by Redis' clock; the user of the command is its operator."""
    before_ms = int(time.time() * 1000)
    assert command("pause", QUEUE, "--detail", 'the "campaign" is over') == 0
    (record,) = records(desk)
    action = record.action
    assert (action.action, action.place, action.who) == ("pause", QUEUE, operator())
    assert action.detail == 'the "campaign" is over'
    assert before_ms <= action.at_ms <= time.time() * 1000
    assert record.entries == []


def test_a_signed_in_name(desk):
    """A caller may name who acts."""
    desk.sales(2)
    pause(desk.client, QUEUE, who="ann")
    resume(desk.client, QUEUE, who="ben")
    replay(desk.client, "tgtrack", Filter(limit=1), who="cid")
    drop(desk.client, "tgtrack", Filter(), who="dan")
    desk.sales(1)
    erase(desk.client, ME, ("tgtrack",), who="eve")
    told = [(record.action.action, record.action.who) for record in records(desk)]
    assert told == [("pause", "ann"), ("resume", "ben"), ("replay", "cid"), ("drop", "dan"), ("erase", "eve")]


def test_nothing_changed(desk, command):
    """What changes nothing is no action: a second pause, a resume of an account that goes on, a
    replay without letters, a dry run, an erasure of nobody.
    """
    pause(desk.client, QUEUE)
    pause(desk.client, QUEUE)
    assert len(records(desk)) == 1
    resume(desk.client, QUEUE)
    resume(desk.client, QUEUE)
    assert len(records(desk)) == 2
    replay(desk.client, "tgtrack", Filter())
    desk.sales(3)
    for words in ("replay tgtrack --dry-run", "drop tgtrack --dry-run", "drop tgtrack --reason expired"):
        assert command("dead", *words.split()) == 0
    erase(desk.client, ME, dry_run=True)
    erase(desk.client, "17")
    assert len(records(desk)) == 2


@pytest.mark.parametrize("reason", ["credentials", 'of "another" edition'])
def test_a_resume(desk, reason):
    """A resume says why the account was paused, even if its key is what was."""
    paused = {"paused": "-1", "reason": reason}
    place = keys.credential("tgtrack", "x") if reason == "credentials" else keys.meta(QUEUE)
    desk.client.hset(keys.meta(QUEUE), "credential", keys.credential("tgtrack", "x"))
    desk.client.hset(place, mapping=paused)
    resume(desk.client, QUEUE)
    (record,) = records(desk)
    assert (record.action.action, record.action.detail) == ("resume", f"it was paused: {reason}")


def test_events_held_aside(desk):
    """A resume that only releases events is one too."""
    desk.client.zadd(keys.held(QUEUE), {b"x": 1})
    resume(desk.client, QUEUE)
    assert records(desk)[0].action.detail == "events were held aside"


def test_a_replay(desk):
    """Each letter that was moved is an event of the record: who it is about, its key, where it went
    and who did it.
    """
    sale = tgtrack.AddEvent(user_id=ME, event_type="sale")
    replayed = desk.bury(desk.raw(sale, idempotency_key="order-17"), possible_duplicate=True)
    desk.bury(desk.raw(sale), "expired")
    replay(desk.client, "tgtrack", Filter(reasons=frozenset({"rejected"})), who="ann")
    (record,) = records(desk)
    assert (record.action.place, record.action.detail) == ("tgtrack", "1 dead letter")
    (entry,) = record.entries
    assert (entry.id, entry.task, entry.queue, entry.user) == (replayed, "tgtrack.add_event", QUEUE, ME)
    assert (entry.end, entry.reason, entry.outcome, entry.possible_duplicate) == ("replayed", "ann", "", True)
    assert 0 < entry.enqueued_ms <= entry.at_ms
    assert (entry.key, entry.key_hash) == ("order-17", hashlib.sha256(b"order-17").hexdigest())
    assert (entry.grant, entry.at_ms) == (record.action.grant, record.action.at_ms)


def test_a_drop(desk):
    """So is each letter that was dropped; of one account the action names the account."""
    ids = desk.sales(3, account="shop")
    desk.sales(2)
    drop(desk.client, "tgtrack", Filter(account="shop"), who="ann")
    (record,) = records(desk)
    assert (record.action.place, record.action.detail) == ("tgtrack.shop", "3 dead letters")
    assert [entry.id for entry in record.entries] == ids
    assert {(entry.end, entry.reason, entry.queue) for entry in record.entries} == {("dropped", "ann", "tgtrack.shop")}
    assert [entry.place for entry in record.entries] == [0, 1, 2]


def test_people(desk):
    """All people of an event are in it, within bounds, the one whom it is about first."""
    chat = {"update_id": 1, "message": {"from": {"id": 7}, "new_chat_members": [{"id": n} for n in range(100, 200)]}}
    desk.bury(desk.raw(tgtrack.OnTelegramWebhook.load(json.dumps(chat))))
    drop(desk.client, "tgtrack", Filter())
    (entry,) = records(desk)[0].entries
    assert entry.user == "7"
    assert entry.also == tuple(str(number) for number in range(100, 115))


def test_many_letters(desk):
    """Thousands are several records, each with a grant of its own, and each letter is in one."""
    ids = desk.sales(3000)
    replay(desk.client, "tgtrack", Filter())
    written = records(desk)
    assert len(written) > 1
    assert len({record.action.grant for record in written}) == len(written)
    assert [entry.id for record in written for entry in record.entries] == ids
    assert sum(int(record.action.detail.split()[0].replace(",", "")) for record in written) == 3000


def test_only_what_was_moved(desk):
    """A letter that another operator took meanwhile is in the record of the one who moved it."""
    ids = desk.sales(3)

    class Late(redis.Redis):
        """Somebody else is faster."""

        def evalsha(self, *args, **kwargs):
            if desk.client.llen("tgtrack.dead") == 3:
                drop(desk.client, "tgtrack", Filter(ids=frozenset({ids[1]})), who="ben")
            return super().evalsha(*args, **kwargs)

    client = Late.from_url(desk.url)
    assert replay(client, "tgtrack", Filter(), who="ann").total == 2
    client.close()
    ends = {entry.id: (entry.end, entry.reason) for record in records(desk) for entry in record.entries}
    assert ends == {ids[0]: ("replayed", "ann"), ids[1]: ("dropped", "ben"), ids[2]: ("replayed", "ann")}


def test_no_message(desk):
    """A letter that was no message is an event without an id."""
    desk.client.lpush("tgtrack.dead", b'\xff"garbage')
    drop(desk.client, "tgtrack", Filter())
    (entry,) = records(desk)[0].entries
    assert (entry.id, entry.task, entry.queue, entry.end) == ("", "", "tgtrack", "dropped")


def test_an_erasure(desk, command):
    """An erasure leaves counts for each provider that had something of the person, and nothing that
    says who it is.
    """
    for _ in range(2):
        tgtrack.AddEvent(user_id=ME, event_type="sale").delay()
    desk.sales(1)
    assert command("erase", "--user", ME, "--yes") == 0
    (record,) = records(desk)
    action = record.action
    assert (action.action, action.place, record.entries) == ("erase", "tgtrack", [])
    assert action.detail == "events removed: 3; results removed, of any provider: 0"
    assert ME not in str(desk.client.xrange(STREAM))
    assert records(desk, "tonai") == []


@pytest.mark.parametrize("value", [b"no stream", None], ids=["wrong type", "no right"])
def test_a_journal_that_cannot_be_written(desk, value):
    """What an operator wants is done all the same."""
    client = desk.client
    if value:
        client.set(STREAM, value)
    else:
        client.execute_command("ACL", "SETUSER", "ann", "on", ">word", "~*", "&*", "+@all", "-xadd")
        client = redis.Redis.from_url(desk.url.replace("redis://", "redis://ann:word@"))
    desk.sales(3)
    assert pause(client, QUEUE).changed
    assert resume(client, QUEUE).was_paused
    assert replay(client, "tgtrack", Filter(limit=1)).total == 1
    assert drop(client, "tgtrack", Filter(limit=1)).total == 1
    assert erase(client, ME, ("tgtrack",)).total == 2
    assert desk.client.get(STREAM) == value


def test_a_full_redis(desk, redis_server: RedisServer):
    """A Redis that takes nothing more lets operators act, and keeps what they did."""
    ids = desk.sales(3)
    desk.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            desk.client.xadd(STREAM, {"record": "x"})
        pause(desk.client, QUEUE)
        resume(desk.client, QUEUE)
        drop(desk.client, "tgtrack", Filter(ids=frozenset(ids[:1])))
        erase(desk.client, ME, ("tgtrack",))
    finally:
        desk.client.config_set("maxmemory", 0)
    assert [record.action.action for record in records(desk)] == ["pause", "resume", "drop", "erase"]


def test_what_a_record_weighs(desk):
    """A replayed letter adds at most half a kilobyte to the journal."""
    desk.sales(1000)
    replay(desk.client, "tgtrack", Filter())
    texts = [fields[b"record"] for _, fields in desk.client.xrange(STREAM)]
    assert sum(map(len, texts)) < 1000 * 500
    assert all(json.loads(text)["events"] for text in texts)
