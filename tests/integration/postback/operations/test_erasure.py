"""A person's events go, from everywhere, and nobody else's."""

from __future__ import annotations

import base64
import io
import json
import threading
import uuid

import pytest

import postback
from postback import mytracker, tganalytics, tgtrack, tonai, tonapi
from postback.operations import erase
from postback.operations.person import Person
from postback.wire import keys
from tasks.rulings import PUT_BACK
from tests.integration.workers.governor.crew import answer

ME, OTHER = "987654321", "123456789"
QUEUE = "tgtrack.main"
STEP = keys.priority_list(QUEUE, 3)


MYTRACKER = {
    "customUserId", "customPlatformUserId", "instanceId", "lvid", "gaid", "androidId", "appSetId", "idfa", "iosVendorId",
}  # fmt: skip
#: Task -> the provider's names of its fields that identify a person.
PEOPLE = {
    "tgtrack.my_bot_was_stopped": {"user_id"},
    "tgtrack.user_did_start_bot": {"user_id"},
    "tgtrack.send_reach_goal": {"user_id"},
    "tgtrack.add_event": {"user_id"},
    "tgtrack.get_user_info": {"user_id"},
    "mytracker.registration": MYTRACKER,
    "mytracker.login": MYTRACKER,
    "mytracker.custom_event": MYTRACKER,
    "tganalytics.event": {"user_id", "wallet_address", "from"},
    "tonai.conversion": {"telegramUserId"},
}  # fmt: skip
#: The same for events in which a person stands elsewhere (a payload) or nowhere.
OTHERS = {
    "tgtrack.on_telegram_webhook", "tgtrack.my_bot_was_started", "tgtrack.my_bothelp_was_started",
    "tgtrack.win_win_was_started", "tgtrack.sambot_on_tg_webhook", "tgtrack.on_toolsy_event",
    "tgtrack.on_send_pulse_event", "tonapi.get_event",
}  # fmt: skip
SESSION = "0b5ab1b8-6a5c-4f0e-8d3b-0c4e8f1f1a11"
#: Provider -> what its events need beside the field in question.
NEEDED = {
    "tgtrack": {"user_id": OTHER, "first_name": "A", "event_type": "sale", "target": "sale"},
    "mytracker": {"customUserId": OTHER, "customEventName": "level"},
    "tganalytics": {"user_id": int(OTHER), "event_name": "app-init", "session_id": SESSION},
}


def about(task: str, field: str) -> tuple[postback.Event, str]:
    """An event whose field identifies a person, and how it calls the person: as long as the field
    wants it.
    """
    event = postback.event_class(task)
    if task == "tonai.conversion":
        return tonai.Conversion(telegram_user_id=ME), ME
    wanted = {wired.wire for wired in event._fields.values()}
    needed = {name: value for name, value in NEEDED[event.provider].items() if name in wanted}
    for value in (ME, int(ME), ME * 4, f"{ME}0000000", f"{ME}00000" + ME * 2):
        try:
            return event.load({**needed, field: value}), str(value)
        except postback.InvalidEvent:
            continue
    raise AssertionError(f"{task} takes no {field}")


def test_who_is_who():
    """Each event declares which of its fields identify a person; the table has all events and all
    such fields.
    """
    declared = {task: event.person_fields() for task, event in postback.EVENTS.items()}
    assert declared == {**PEOPLE, **{task: frozenset() for task in OTHERS}}


@pytest.mark.parametrize(
    ("task", "field"), [(task, field) for task, fields in PEOPLE.items() for field in sorted(fields)]
)
def test_every_field_that_identifies_a_person(task, field, desk):
    """By its name on the wire, in the event's own queue; and nothing shows it whole."""
    event, person = about(task, field)
    raw = desk.raw(event)
    assert Person(person).owns(raw)
    assert not Person(person[:-1] + "9").owns(raw)
    headers = json.loads(raw)["headers"]
    headers.pop("postback_key_text", None)  # nobody is shown it; TON AI's key is the person
    assert person not in json.dumps(headers) + repr(event) + event.summary(event.wire())


@pytest.mark.parametrize("field", ["wallet_address", "from"])
def test_a_wallet(field, desk, command):
    """Who connects a wallet may ask by its address, from the command line as well."""
    wallet = "UQDl1Zr9M_GQAZ-ZxjsFMnrz4k-Xl2rOWBXWHUZ4kYhC3mNn"
    for address in (wallet, wallet.lower()):
        tganalytics.Event.load({**NEEDED["tganalytics"], field: address}).delay()
    assert command("erase", "--user", wallet, "--yes") == 0
    assert "tganalytics.docs  1\n" in command.out
    assert wallet not in command.out
    (left,) = desk.client.lrange(keys.priority_list("tganalytics.docs", 3), 0, -1)
    assert not Person(wallet).owns(left)


def result(client, data, **more):
    """A result as a worker stores it; its key."""
    client.set(f"celery-task-meta-{uuid.uuid4()}", json.dumps({"status": "SUCCESS", "result": data, **more}), ex=600)


def test_results(desk, command):
    """Answers about the person go, the others stay, and the command says how many."""
    for user in (ME, OTHER):
        info = tgtrack.GetUserInfo(user_id=user).delay()
        info.backend.store_result(info.id, {"user_id": user, "first_name": "A"}, "SUCCESS")
        result(desk.client, {"data": [{"telegramUserId": user}]})
    result(desk.client, {"actions": [{"comment": ME}]})
    assert command("erase", "--user", ME, "--yes") == 0
    assert "1 event erased, and 2 results" in command.out
    assert len(desk.client.keys("celery-task-meta-*")) == 3
    assert command("erase", "--user", ME, "--yes") == 0
    assert "0 events erased, and 0 results" in command.out


def test_a_result_of_a_real_read(desk):
    """The caller has not asked yet; after the erasure there is nothing to be had."""
    info = tgtrack.GetUserInfo(user_id=ME).apply_async(task_id="the-read")
    info.backend.store_result(info.id, {"user_id": ME}, "SUCCESS")
    assert erase(desk.client, ME).results == 1
    assert desk.client.get("celery-task-meta-the-read") is None


@pytest.mark.parametrize(
    ("raw", "mine"),
    [
        (b"\xff user=987654321;", 1),
        (b"\xff user=9876543210;", 0),
        (b'{"result": {"user_id": 987654321}', 1),
        (b'{"result": {"user_id": 987654321}}', 1),
        (b'{"result": {"amount": 987654321}}', 0),
        (b'{"result": "987654321"}', 0),
        (b"[" * 100_000 + b" 987654321 ", 1),
        (b"", 0),
    ],
)
def test_unreadable_results(raw, mine, desk):
    """What is no JSON is a person's if the id stands in it as a word; nothing stops the command."""
    desk.client.set("celery-task-meta-x", raw)
    assert erase(desk.client, ME).results == mine


def test_what_is_no_result(desk):
    """A key of another type under a result's name, and a result's text under another name, are left
    alone.
    """
    desk.client.rpush("celery-task-meta-list", json.dumps({"result": {"user_id": ME}}))
    desk.client.set("another-application", json.dumps({"result": {"user_id": ME}}))
    assert erase(desk.client, ME).results == 0
    assert desk.client.dbsize() == 2


def test_many_results(desk):
    """Thousands of results are read in parts, none longer than a few milliseconds of Redis' time,
    and none is missed.
    """
    with desk.client.pipeline(transaction=False) as pipe:
        for number in range(5_000):
            result(pipe, {"user_id": ME if number % 10 == 0 else OTHER, "text": "x" * 500})
        pipe.execute()
    desk.client.config_set("slowlog-log-slower-than", 10_000)
    desk.client.slowlog_reset()
    assert erase(desk.client, ME).results == 500
    assert desk.client.slowlog_get() == []
    assert len(desk.client.keys("celery-task-meta-*")) == 4_500


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
    """Every kind of event that names its person is recognised, and the same event of another person
    is not.
    """
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
    """What cannot be read is a person's if the id stands in it as a word; a wrapped letter is its
    original.
    """
    assert Person(ME).owns(raw) is mine
    wrapped = {
        "body": base64.b64encode(raw).decode(), "content-type": "application/octet-stream",
        "headers": {"postback_dead": {"reason": "malformed"}}, "properties": {"body_encoding": "base64"},
    }  # fmt: skip
    assert Person(ME).owns(json.dumps(wrapped).encode()) is mine


def test_everywhere(desk, command, govern):
    """Queues of all priorities, delayed, held, halves of batches and dead letters; what is in
    flight is counted.
    """
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
    assert command("erase", "--user", ME, "--yes") == 0
    assert "6 events erased" in command.out
    assert "1 event on the wire now not included" in command.out
    assert ME not in command.out
    (grant,) = governor.grants
    grant.settlement = answer(PUT_BACK, health="none").to(grant)
    governor.settle(grant)
    assert command("erase", "--user", ME, "--yes") == 0
    assert "1 event erased" in command.out
    assert erase(desk.client, OTHER).total == 6


@pytest.fixture
def waiting(desk, govern):
    """The person's events in each kind of place, one on the wire, and an answer."""
    desk.announce(QUEUE)
    governor = govern(QUEUE)
    tgtrack.AddEvent(user_id=ME, event_type="sale").delay()
    governor.take(QUEUE, 1)
    postback.send_many([tgtrack.AddEvent(user_id=user, event_type="sale") for user in (ME, OTHER, ME)])
    for name in (keys.delayed(QUEUE), keys.held(QUEUE)):
        desk.client.zadd(name, {desk.raw(tgtrack.AddEvent(user_id=ME, event_type="sale", amount=1.0)): 1e15})
    desk.bury(desk.raw(tgtrack.AddEvent(user_id=ME, event_type="sale")))
    result(desk.client, {"user_id": ME})
    return desk


def everything(client):
    """All that is in Redis, to be compared."""
    return {name: client.dump(name) for name in client.scan_iter()}


def test_dry_run(waiting, command):
    """``--dry-run`` counts what an erasure would remove, place by place, and removes nothing."""
    before = everything(waiting.client)
    seen = command.json("erase", "--user", ME, "--dry-run", "--json")
    assert seen == {
        "dry_run": True, "events": 5, "by_place": {"tgtrack.dead": 1, QUEUE: 4}, "results": 1, "in_flight": 1,
    }  # fmt: skip
    assert command("erase", "--user", ME, "--dry-run") == 0
    assert "5 events would be erased, and 1 result" in command.out
    assert "1 event on the wire" in command.out
    assert everything(waiting.client) == before
    assert command.json("erase", "--user", ME, "--yes", "--json") == {**seen, "dry_run": False}
    assert command.json("erase", "--user", ME, "--dry-run", "--json")["events"] == 0


def test_dry_run_of_a_long_queue(desk):
    """It counts equal messages one by one, over many parts of a list, and halves of batches."""
    raw = desk.raw(tgtrack.AddEvent(user_id=ME, event_type="sale"))
    desk.client.lpush(STEP, *[raw] * 1200, *[b"x"] * 300)
    assert erase(desk.client, ME, dry_run=True).by_place == {QUEUE: 1200}
    assert erase(desk.client, ME).by_place == {QUEUE: 1200}


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_nobody_to_ask(options, waiting, command, monkeypatch):
    """Without a terminal and without --yes it refuses before it looks, and removes nothing."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    before = everything(waiting.client)
    assert command("erase", "--user", ME, *options) == 2
    assert (command.out, ME in command.err) == ("", False)
    assert "add --yes, or --dry-run" in command.err
    assert everything(waiting.client) == before


@pytest.mark.parametrize("name", [keys.dead_notices("tgtrack"), keys.dead_notices_failed("tgtrack")])
def test_notices(desk, command, name):
    """A person's dead letters of which a hook is still to be told go too, from both of their
    lists.
    """
    for user in (ME, OTHER):
        desk.client.lpush(name, desk.raw(tgtrack.AddEvent(user_id=user, event_type="sale")))
    assert command("erase", "--user", ME, "--yes") == 0
    assert command.out.split()[:2] == [name, "1"]
    (left,) = desk.client.lrange(name, 0, -1)
    assert Person(OTHER).owns(left)


def test_halves_of_a_batch(desk, govern):
    """Of a refused batch's half only the person's events go; the rest stays together."""
    queue = "mytracker.game"
    governor = govern(queue, linger_s=0)
    postback.send_many([mytracker.Login(custom_user_id=user) for user in (ME, OTHER, ME, OTHER)])
    governor.take(queue, 1)
    (grant,) = governor.grants
    assert len(grant.envelopes) == 4
    grant.settlement = answer(halves=[([1, 2], [3, 4]), ([1], [])]).to(grant)
    governor.settle(grant)
    assert erase(desk.client, ME, dry_run=True).by_place == {queue: 3}
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
    assert command("erase", "--user", user, "--yes") == 2
    with pytest.raises(postback.PostbackError):
        erase(desk.client, user)
    assert desk.client.llen(STEP) == 1


def test_places(desk):
    """It says what it looks through: each account, the lists of dead letters and of notices, the
    results last.
    """
    desk.announce(QUEUE)
    places = []
    erase(desk.client, ME, ("tgtrack",), begin=places.append)
    assert places == [
        QUEUE, keys.dead("tgtrack"), keys.dead_notices("tgtrack"), keys.dead_notices_failed("tgtrack"), "results",
    ]  # fmt: skip
