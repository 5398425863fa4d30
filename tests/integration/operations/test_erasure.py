"""A person's events go, from everywhere, and nobody else's."""

from __future__ import annotations

import base64
import json
import threading

import pytest

import postback
from postback import keys, mytracker, tganalytics, tgtrack, tonai, tonapi
from postback.operations import erase
from postback.operations.erasure import Person
from tasks.grants import REGISTRY, Settlement

ME, OTHER = "987654321", "123456789"
QUEUE = "tgtrack.main"
STEP = keys.priority_list(QUEUE, 3)


def update(user: str, **more) -> dict:
    return {"update_id": 1, "message": {"message_id": 5, "from": {"id": int(user), "first_name": "A"}, **more}}


@pytest.mark.parametrize(
    "event",
    [
        lambda user: tgtrack.AddEvent(user_id=user, event_type="sale"),
        lambda user: tgtrack.OnTelegramWebhook.load(json.dumps(update(user))),
        lambda user: tgtrack.OnTelegramWebhook.load(update(user)),
        lambda user: tgtrack.SambotOnTgWebhook(webhook=json.dumps(update(user))),
        lambda user: tgtrack.OnToolsyEvent.load({"payment": {"client": {"tg_id": int(user)}}}),
        lambda user: tgtrack.OnSendPulseEvent.load([{"contact": {"id": user}}][0]),
        lambda user: mytracker.Login(custom_user_id=user),
        lambda user: tonai.Conversion(telegram_user_id=user),
        lambda user: tganalytics.Event(
            user_id=int(user), event_name="app-init", session_id="0b5ab1b8-6a5c-4f0e-8d3b-0c4e8f1f1a11"
        ),
    ],
)
def test_recognised(event, desk):
    """Every kind of event that names its person is recognised, and the same event of another person is not."""
    person = Person(ME)
    assert person.owns(desk.raw(event(ME)))
    assert not person.owns(desk.raw(event(OTHER)))


@pytest.mark.parametrize(
    "event",
    [
        lambda: tgtrack.AddEvent(user_id=OTHER, event_type="sale", date=int(ME)),
        lambda: tgtrack.AddEvent(user_id=ME + "0", event_type="sale"),
        lambda: tgtrack.OnTelegramWebhook.load({"update_id": int(ME), "message": {"message_id": int(ME)}}),
        lambda: tonapi.GetEvent(event_id="ab" * 32),
    ],
)
def test_not_mistaken(event, desk):
    """The same digits in another place are not a person."""
    assert not Person(ME).owns(desk.raw(event()))


def test_a_linked_event(desk):
    """An event with a person's event linked to it carries that person's data."""
    raw = desk.raw(tonapi.GetEvent(event_id="ab" * 32), link=tonai.Conversion(telegram_user_id=ME).si())
    assert Person(ME).owns(raw)


@pytest.mark.parametrize(
    ("raw", "mine"),
    [
        (b"\xff user=987654321;", True),
        (b"\xff user=9876543210;", False),
        (b'{"headers": {}, "body": 7, "x": 987654321}', True),
        (b"", False),
    ],
)
def test_unreadable(raw, mine):
    """What cannot be read is a person's if the id stands in it as a word; a wrapped letter is its original."""
    assert Person(ME).owns(raw) is mine
    wrapped = {
        "body": base64.b64encode(raw).decode(), "content-type": "application/octet-stream",
        "headers": {"postback_dead": {"reason": "malformed"}}, "properties": {"body_encoding": "base64"},
    }  # fmt: skip
    assert Person(ME).owns(json.dumps(wrapped).encode()) is mine


def test_everywhere(desk, command, govern):
    """Queues of all priorities, delayed, held, halves of batches and dead letters; what is in flight is counted."""
    desk.announce(QUEUE)
    governor = govern(QUEUE)

    def both(**options) -> None:
        for user in (ME, OTHER):
            tgtrack.AddEvent(user_id=user, event_type="sale").apply_async(**options)

    tgtrack.AddEvent(user_id=ME, event_type="sale").delay()
    governor.take(QUEUE, 1)
    both(priority=0)
    both()
    both(priority=9)
    for name in (keys.delayed(QUEUE), keys.held(QUEUE)):
        for user in (ME, OTHER):
            desk.client.zadd(name, {desk.raw(tgtrack.AddEvent(user_id=user, event_type="sale")): 1e15})
    for user in (ME, OTHER):
        desk.bury(desk.raw(tgtrack.AddEvent(user_id=user, event_type="sale")))
    assert command("erase", "--user", ME) == 0
    assert "6 events erased" in command.out
    assert "1 event on the wire just now not included" in command.out
    assert ME not in command.out
    (grant,) = REGISTRY.values()
    grant.settlement = Settlement(health="none", messages=[[1, "back"]])
    governor.settle(grant)
    assert command("erase", "--user", ME) == 0
    assert "1 event erased" in command.out
    assert erase(desk.client, OTHER).total == 6


@pytest.mark.parametrize("name", [keys.dead_notices("tgtrack"), keys.dead_notices_failed("tgtrack")])
def test_notices(desk, command, name):
    """A person's dead letters of which a hook is still to be told go too, from both of their lists."""
    for user in (ME, OTHER):
        desk.client.lpush(name, desk.raw(tgtrack.AddEvent(user_id=user, event_type="sale")))
    assert command("erase", "--user", ME) == 0
    assert command.out.split()[:2] == [name, "1"]
    (left,) = desk.client.lrange(name, 0, -1)
    assert Person(OTHER).owns(left)


def test_halves_of_a_batch(desk, govern):
    """Of a refused batch's half only the person's events go; the rest stays together."""
    queue = "mytracker.game"
    governor = govern(queue, linger_s=0)
    postback.send_many([mytracker.Login(custom_user_id=user) for user in (ME, OTHER, ME, OTHER)])
    governor.take(queue, 1)
    (grant,) = REGISTRY.values()
    assert len(grant.envelopes) == 4
    grant.settlement = Settlement(health="ok", groups=[[[1, 2], [3, 4]], [[1], []]])
    governor.settle(grant)
    assert erase(desk.client, ME).by_place == {queue: 3}
    (left,) = governor.take(queue, 1).grants
    assert [len(left.envelopes), len(left.siblings)] == [1, 1]
    assert desk.client.llen(keys.groups(queue)) == 0


def test_the_idempotency_key_is_released(desk):
    """An erased event gives its idempotency key back; a key that another event owns stays."""
    raw = desk.raw(tonai.Conversion(telegram_user_id=ME))
    document = json.loads(raw)["headers"]
    idem, ends = keys.idempotency("tonai.main"), keys.idempotency_ends("tonai.main")
    for owner, left in ((document["id"], 0), ("another", 1)):
        desk.client.hset(idem, document["postback_key"], f"{owner} 99999999999999 a-delivery-tag")
        desk.client.zadd(ends, {document["postback_key"]: 99999999999999})
        desk.client.zadd(keys.delayed("tonai.main"), {raw: 1e15})
        assert erase(desk.client, ME).total == 1
        assert (desk.client.hlen(idem), desk.client.zcard(ends)) == (left, left)


def test_order_and_bytes_stay(desk):
    """The other events of a long queue keep their order and their bytes, while new ones arrive."""
    events = [tgtrack.AddEvent(user_id=ME if i % 3 == 0 else OTHER, event_type=f"e{i}") for i in range(3000)]
    postback.send_many(events)
    before = desk.client.lrange(STEP, 0, -1)
    late = [b"late %d" % i for i in range(300)]
    thread = threading.Thread(target=lambda: [desk.client.lpush(STEP, raw) for raw in late])
    thread.start()
    erased = erase(desk.client, ME)
    thread.join()
    assert erased.by_place == {QUEUE: 1000}
    person = Person(ME)
    after = desk.client.lrange(STEP, 0, -1)
    assert [raw for raw in after if not raw.startswith(b"late")] == [raw for raw in before if not person.owns(raw)]
    assert after[:300] == late[::-1]


@pytest.mark.parametrize("user", ["", "  "])
def test_no_id(user, desk, command):
    """Nothing is no person."""
    tgtrack.AddEvent(user_id=ME, event_type="sale").delay()
    assert command("erase", "--user", user) == 1
    assert desk.client.llen(STEP) == 1
