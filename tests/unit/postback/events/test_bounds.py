"""Every field of every event has a bound, every event a size. The tables below are what a producer
may rely on.

What holds for any provider's events, tests/contract asks.
"""

import json
import re
import time

import pytest

from postback import EVENTS, InvalidEvent, tganalytics, tgtrack
from postback._events.payload import MAX_MESSAGE_BYTES

HUGE = "x" * 5_000_000
UUID = "10c574d9-6d2c-4e6d-a141-ce6da141ce6d"

#: Task -> the least that makes an event of it.
LEAST = {
    "tgtrack.on_telegram_webhook": {"update_id": 1},
    "tgtrack.my_bot_was_started": {"start_value": "a"},
    "tgtrack.my_bot_was_stopped": {"user_id": "1"},
    "tgtrack.my_bothelp_was_started": {},
    "tgtrack.win_win_was_started": {},
    "tgtrack.sambot_on_tg_webhook": {"webhook": {}},
    "tgtrack.on_toolsy_event": {},
    "tgtrack.on_send_pulse_event": {},
    "tgtrack.user_did_start_bot": {"user_id": "1", "first_name": "a"},
    "tgtrack.send_reach_goal": {"user_id": "1", "target": "a"},
    "tgtrack.add_event": {"user_id": "1", "event_type": "a"},
    "tgtrack.get_user_info": {"user_id": "1"},
    "mytracker.registration": {"customUserId": "1"},
    "mytracker.login": {"customUserId": "1"},
    "mytracker.custom_event": {"customUserId": "1", "customEventName": "a"},
    "tganalytics.event": {"user_id": 1, "event_name": "app-init", "session_id": UUID},
    "tonai.conversion": {"eventType": "conversion", "eventData": {"telegramUserId": "1"}},
    "tonapi.get_event": {"event_id": "ab" * 32},
}

MYTRACKER = {
    "customUserId": 1024, "ipv4": 15, "ipv6": 45, "instanceId": 36, "idfa": 36, "iosVendorId": 36, "gaid": 36,
    "appSetId": 36, "androidId": 16, "lvid": 32, "userAgent": 2048, "customPlatformUserId": 256,
}  # fmt: skip
#: Task -> field -> most characters, for all fields that take a text of the caller's choice.
MOST = {
    "tgtrack.my_bot_was_started": {"start_value": 1024},
    "tgtrack.my_bot_was_stopped": {"user_id": 256},
    "tgtrack.user_did_start_bot": {
        "user_id": 256, "first_name": 1024, "last_name": 1024, "username": 1024, "full_name": 1024, "start_value": 1024,
    },
    "tgtrack.send_reach_goal": {"user_id": 256, "target": 1024},
    "tgtrack.add_event": {"user_id": 256, "event_type": 1024, "conversion_target": 1024},
    "tgtrack.get_user_info": {"user_id": 256},
    "mytracker.registration": MYTRACKER,
    "mytracker.login": MYTRACKER,
    "mytracker.custom_event": {**MYTRACKER, "customEventName": 255},
    "tganalytics.event": {
        "event_name": 1024, "app_name": 1024, "error_message": 4096, "wallet_address": 256, "wallet_type": 1024,
        "wallet_version": 1024, "valid_until": 1024, "from": 256, "platform": 1024, "locale": 1024, "start_param": 1024,
        "url_referer": 4096, "scope": 1024,
    },
    "tonapi.get_event": {"accept_language": 100},
}  # fmt: skip
BOUNDS = [(task, field, most) for task, fields in MOST.items() for field, most in fields.items()]


def fields_of(task):
    """The provider's names of an event's fields, as the constructor's annotations order them."""
    return [field.wire for field in EVENTS[task]._fields.values()]


#: All events of the providers in the table.
TASKS = [task for task, cls in EVENTS.items() if cls.provider in {task.partition(".")[0] for task in LEAST}]
FIELDS = [(task, field) for task in TASKS for field in fields_of(task)]
#: Without a bound of their own: the event's size bounds them.
BY_SIZE = {"payload", "webhook"}


def with_field(task, field, value):
    """The least event of a task with one more field, or another value in it."""
    if task == "tonai.conversion":
        return {**LEAST[task], "eventData": {field: value}}
    if field == "payload":
        return {**LEAST[task], "text": value}
    return {**LEAST[task], field: value}


def refusal(task, data):
    """What is wrong with a wire form, by field; nothing if it is an event."""
    try:
        EVENTS[task].load(data)
    except InvalidEvent as invalid:
        errors, message = invalid.errors, str(invalid)
    else:
        return {}
    assert "xxxxx" not in message
    return errors


@pytest.mark.filterwarnings("ignore::postback.UnknownEventName")
def test_the_least_events():
    """The table has every event of its providers, each with what it needs."""
    assert {task: refusal(task, data) for task, data in LEAST.items()} == {task: {} for task in TASKS}


@pytest.mark.parametrize(("task", "field"), FIELDS)
def test_five_megabytes_are_refused(task, field):
    """No field of any event takes a text of 5 MB; the refusal names the field and does not hold the
    text.
    """
    assert list(refusal(task, with_field(task, field, HUGE))) == ["event" if field in BY_SIZE else field]


@pytest.mark.filterwarnings("ignore::postback.UnknownEventName")
@pytest.mark.parametrize(("task", "field"), FIELDS)
def test_every_text_has_a_bound_in_the_table(task, field):
    """A field that takes any text at all is in the table: a new one without a bound fails here."""
    lengths = [1, 16, 32, 36, 100, 255, 256, 1024, 4096, 9000]
    if field in BY_SIZE or not any(field not in refusal(task, with_field(task, field, "x" * n)) for n in lengths):
        return
    assert field in MOST[task]


@pytest.mark.filterwarnings("ignore::postback.UnknownEventName")
@pytest.mark.parametrize(("task", "field", "most"), BOUNDS)
def test_at_the_edge(task, field, most):
    """The longest text is taken, also one of letters that UTF-8 writes in several bytes."""
    for letter in "xж" if field != "accept_language" else "x":
        assert refusal(task, with_field(task, field, letter * most)) == {}


@pytest.mark.parametrize(("task", "field", "most"), BOUNDS)
def test_over_the_edge(task, field, most):
    """One character more is refused in a sentence that names the field and the bound."""
    errors = refusal(task, with_field(task, field, "x" * (most + 1)))
    assert list(errors) == [field]
    assert re.fullmatch(rf"must have .*\b{most} characters", errors[field][0])


@pytest.mark.parametrize(("task", "field", "most"), BOUNDS)
def test_a_long_text_costs_nothing(task, field, most):
    """Its length decides: 300 texts of 5 MB are refused in the time that walking through a few of
    them would take.
    """
    data = with_field(task, field, "ж" * 5_000_000)
    began = time.process_time()
    for _ in range(300):
        assert refusal(task, data)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("count", "chars", "fits"), [(256, 1, True), (257, 1, False), (1, 1024, True), (1, 1025, False)]
)
def test_labels(count, chars, fits):
    """256 labels with names and values of 1,024 characters each."""
    for key in ("name", "value"):
        labels = [{"name": "a", "value": "b", key: "x" * chars} for _ in range(count)]
        errors = refusal("tgtrack.add_event", {**LEAST["tgtrack.add_event"], "labels": labels})
        assert list(errors) == ([] if fits else ["labels"])


@pytest.mark.parametrize(("count", "chars", "fits"), [(256, 1, True), (257, 1, False), (1, 256, True), (1, 257, False)])
def test_messages_of_a_transaction(count, chars, fits):
    """256 messages with addresses and amounts of 256 characters each."""
    for key in ("address", "amount"):
        messages = [{"address": "a", "amount": "1", key: "x" * chars} for _ in range(count)]
        errors = refusal("tganalytics.event", {**LEAST["tganalytics.event"], "messages": messages})
        assert list(errors) == ([] if fits else ["messages"])


#: Some 99,100 bytes, in letters of two bytes each.
LABELS = [{"name": "a", "value": "ж" * 960}] * 51


def update_text(text):
    return json.dumps({"update_id": 1, "text": text})


@pytest.mark.parametrize(
    ("most", "make"),
    [
        (100_000, lambda text: tgtrack.AddEvent(user_id="1", event_type=text, date=1, labels=LABELS)),
        (256_000, lambda text: tgtrack.OnToolsyEvent.load({"a": text})),
        (256_000, lambda text: tgtrack.SambotOnTgWebhook(webhook=text)),
        (256_000, lambda text: tgtrack.OnTelegramWebhook.load({"update_id": 1, "a": text})),
        (256_000, lambda text: tgtrack.OnTelegramWebhook.load(update_text(text))),
        (256_000, lambda text: tgtrack.OnTelegramWebhook.load(update_text(text).encode())),
        (10_000, lambda text: tganalytics.Event(
            user_id=1, event_name="app-init", session_id=UUID, client_timestamp="1" * 13, custom_data={"a": text})),
    ],
)  # fmt: skip
def test_size_of_a_whole_event(most, make):
    """Its JSON may have so many bytes and not one more, whatever its fields would allow."""
    room = most - make("x").size() + 1
    assert make("x" * room).size() == most
    with pytest.raises(InvalidEvent) as caught:
        make("x" * (room + 1))
    assert len(caught.value.errors) == 1
    assert str(most) in str(caught.value)


def test_every_event_has_a_size():
    """No event is without bound, and none is longer than a message may be."""
    assert all(0 < cls.max_bytes < MAX_MESSAGE_BYTES for cls in EVENTS.values())


def largest_update():
    """Two texts and all entities of Telegram's own limits, and a finished giveaway, each letter
    escaped as Telegram sends it.
    """
    person = {"id": 987654321, "is_bot": False, "first_name": "ж" * 64, "last_name": "ж" * 64, "username": "x" * 32}
    entities = [
        {"type": "text_mention", "offset": n, "length": 1, "user": {"id": n, "first_name": "a"}} for n in range(100)
    ]
    message = {"message_id": 1, "from": person, "chat": person, "text": "ж" * 4096, "entities": entities}
    winners = {"chat": person, "winners": [person] * 100}
    return {"update_id": 1, "message": {**message, "reply_to_message": message, "giveaway_winners": winners}}


@pytest.mark.parametrize("written", [lambda update: update, json.dumps, lambda update: json.dumps(update).encode()])
def test_the_largest_update_passes(written):
    """A Telegram update as long as Telegram's limits allow is forwarded, as text and as an
    object.
    """
    assert len(json.dumps(largest_update())) > 160_000
    tgtrack.OnTelegramWebhook.load(written(largest_update()))
    tgtrack.SambotOnTgWebhook.load({"webhook": json.dumps(largest_update())})
