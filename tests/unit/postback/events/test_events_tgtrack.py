import copy
import inspect
import json
import pickle
from dataclasses import FrozenInstanceError

import pytest

from postback import EVENTS, Event, InvalidEvent, event_class, mytracker, tgtrack
from postback._events.described import type_text

SALE = {
    "user_id": "987654321",
    "event_type": "sale",
    "amount": 1500.0,
    "labels": [{"name": "manager", "value": "Jane"}],
}


def sale(**changed):
    return tgtrack.AddEvent(**{**SALE, **changed})


def refused(make):
    with pytest.raises(InvalidEvent) as caught:
        make()
    return caught.value


@pytest.mark.parametrize("user_id", [987654321.0, None, True, b"1", ["1"]])
@pytest.mark.parametrize("cls", [tgtrack.AddEvent, tgtrack.GetUserInfo, tgtrack.SendReachGoal, tgtrack.MyBotWasStopped])
def test_user_id_is_text_or_a_whole_number(cls, user_id):
    """What is neither a string nor a whole number is refused by the field's name, not its value."""
    error = refused(lambda: cls.load({"user_id": user_id}))
    assert "user_id" in error.errors
    assert "987654321" not in str(error)


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), -float("inf"), True, "1500", 10**400])
def test_amount_is_a_finite_number(amount):
    """What JSON cannot carry as a number is no amount."""
    assert list(refused(lambda: sale(amount=amount)).errors) == ["amount"]


@pytest.mark.parametrize("date", [-1, 4294967296, 1622520000000, 1.5, True, "1622520000"])
def test_date_is_unix_seconds(date):
    """Milliseconds and anything but a whole number of seconds are refused."""
    assert list(refused(lambda: sale(date=date)).errors) == ["date"]


@pytest.mark.parametrize("date", [0, 4294967295])
def test_date_bounds(date):
    """Both bounds belong to the range."""
    assert sale(date=date).wire()["date"] == date


@pytest.mark.parametrize("name", ["user_id", "event_type", "conversion_target"])
def test_lone_surrogates(name):
    """Text that UTF-8 cannot carry is refused by the field's name."""
    assert list(refused(lambda: sale(**{name: "a\ud800"})).errors) == [name]


@pytest.mark.parametrize(
    "labels",
    [
        "x",
        [1],
        [{"name": "a"}],
        [{"name": "a", "value": 1.5}],
        [{"name": 1.5, "value": "a"}],
        [{"name": "a", "value": "b", "x": "c"}],
        {"name": "a"},
    ],
)
def test_labels(labels):
    """A label is an object of exactly a name and a value, both strings or whole numbers."""
    assert list(refused(lambda: sale(labels=labels)).errors) == ["labels"]


def test_event_result_is_one_of_three():
    """Any other result is refused and the choice is told."""
    assert "in_progress, success, failure" in str(refused(lambda: sale(event_result="won")))


def test_all_errors_at_once():
    """One error tells everything that is wrong, unknown fields included."""
    error = refused(lambda: tgtrack.AddEvent.load({"user_id": 1.5, "date": "x", "colour": "red"}))
    assert set(error.errors) == {"user_id", "event_type", "date", "colour"}
    assert error.event == "tgtrack.AddEvent"


@pytest.mark.parametrize("data", [None, [], "x", 5])
def test_load_wants_an_object(data):
    """Anything but an object is refused."""
    assert list(refused(lambda: tgtrack.AddEvent.load(data)).errors) == ["event"]


def test_null_is_not_absent_in_json():
    """The provider's JSON says null where the document says string: refused, not guessed."""
    assert refused(lambda: tgtrack.AddEvent.load({**SALE, "conversion_target": None})).errors


def test_a_constructor_tells_everything_at_once():
    """Unknown names with what was meant, wrong and missing fields, the account."""
    error = refused(lambda: tgtrack.AddEvent(userid=1.5, amout=2, date=-1, account="a.b"))
    assert set(error.errors) == {"userid", "amout", "user_id", "event_type", "date", "account"}
    assert "did you mean user_id?" in error.errors["userid"][0]
    assert "did you mean amount?" in error.errors["amout"][0]


def test_an_unlike_name_has_no_suggestion():
    """A suggestion is made only where a name is near."""
    error = refused(lambda: tgtrack.AddEvent(user_id=1, event_type="x", colour="red"))
    assert error.errors == {"colour": ["is not a field of this event"]}


def test_a_positional_argument():
    """Fields are keywords; the error names one."""
    assert "tgtrack.AddEvent(user_id=…)" in str(refused(lambda: tgtrack.AddEvent("1", "sale")))


def test_the_provider_s_name_in_a_constructor():
    """Who writes the provider's name gets ours, and who loads gets the provider's."""
    wrong = refused(lambda: mytracker.Login(customUserId="1")).errors
    assert "did you mean custom_user_id?" in wrong["customUserId"][0]
    wrong = refused(lambda: mytracker.Login.load({"custom_user_id": "1"})).errors
    assert "did you mean customUserId?" in wrong["custom_user_id"][0]


def test_rules_over_several_fields_are_told_with_the_rest():
    """A wrong age does not hide that the user is missing; a wrong user is not missing."""
    assert set(refused(lambda: mytracker.Login(age=200)).errors) == {"age", "custom_user_id"}
    assert set(refused(lambda: mytracker.CustomEvent(custom_event_name="x", age=200)).errors) == {"age", "event"}
    assert set(refused(lambda: mytracker.Login(custom_user_id=1.5)).errors) == {"custom_user_id"}


def test_a_base_class_is_no_event():
    """It has no fields to name: a TypeError."""
    with pytest.raises(TypeError, match="base class"):
        Event()


@pytest.mark.parametrize("account", ["", "a.b", "dead", "a b", 5, "é"])
def test_account_names(account):
    """What cannot be part of a queue's name is no account."""
    assert list(refused(lambda: sale(account=account)).errors) == ["account"]


def test_wire_leaves_absent_fields_out():
    """The wire form has the given fields only, and not the account."""
    assert sale(account="shop").wire() == SALE


def test_load_reads_its_own_wire():
    """Loading a wire form gives an equal event."""
    assert tgtrack.AddEvent.load(sale().wire()) == sale()


def test_frozen():
    """Nothing of an event can be changed."""
    event = sale()
    with pytest.raises(FrozenInstanceError):
        event.amount = 1.0
    with pytest.raises(FrozenInstanceError):
        del event.amount
    for change in (
        lambda: event.labels.append({}),
        lambda: event.labels[0].update(name="x"),
        lambda: event.labels.clear(),
    ):
        with pytest.raises(TypeError):
            change()


def test_the_callers_objects_are_not_kept():
    """Changing what was passed in, or what wire() returned, does not change the event."""
    payload = {"a": {"b": [1]}}
    event = tgtrack.OnToolsyEvent.load(payload)
    payload["a"]["b"].append(2)
    event.wire()["a"]["b"].append(3)
    assert event.wire() == {"a": {"b": [1]}}


def test_equality_and_hash():
    """Events are equal if all fields are, the account included."""
    assert sale() == sale()
    assert len({sale(), sale(), sale(account="shop"), sale(amount=2.0)}) == 3
    assert tgtrack.GetUserInfo(user_id="1") != tgtrack.MyBotWasStopped(user_id="1")


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda event: pickle.loads(pickle.dumps(event))])
def test_copies_are_equal(again):
    """Copying and pickling keep everything."""
    for event in (
        sale(account="shop"),
        tgtrack.OnTelegramWebhook.load(b'{ "update_id":1}'),
        tgtrack.OnToolsyEvent.load({"a": [1]}),
    ):
        assert again(event) == event


def test_repr_hides_people():
    """A repr shows no whole user id, no name and no payload."""
    event = tgtrack.UserDidStartBot(user_id="987654321", first_name="Wilhelmina", username="mina")
    assert "98…21" in repr(event)
    assert not any(word in repr(event) for word in ("987654321", "Wilhelmina", "mina"))
    assert "Jane" not in repr(sale())
    assert "secret" not in repr(tgtrack.OnToolsyEvent.load({"secret": "secret"}))


def test_summary_hides_people():
    """A summary names the event's type and shortens the user."""
    assert sale().summary(SALE) == "user=98…21 event_type=sale amount=1500.0"
    assert tgtrack.GetUserInfo.summary({"user_id": "12345"}) == "user=…"


@pytest.mark.parametrize("wire", [None, 5, [], {"user_id": 5, "event_type": {}}, "text"])
def test_summary_takes_anything(wire):
    """A summary of an invalid wire form does not fail."""
    for cls in EVENTS.values():
        assert isinstance(cls.summary(wire), str)


def test_with_time_fills_once():
    """The time is filled in if absent and stays otherwise."""
    assert sale().with_time(1622520000.9).date == 1622520000
    dated = sale(date=5)
    assert dated.with_time(1622520000.0) is dated
    info = tgtrack.GetUserInfo(user_id="1")
    assert info.with_time(1.0) is info


RAW = b'{ "update_id" : 1,\n"message":{"text":"\xd1\x8f \\u044f","n":1.0}}'


def test_a_telegram_update_is_kept_byte_for_byte():
    """Bytes and text travel verbatim, spaces and escapes included."""
    for given in (RAW, RAW.decode(), bytearray(RAW)):
        event = tgtrack.OnTelegramWebhook.load(given)
        assert event.wire().encode() == RAW
        assert event.size() == len(RAW)


def test_a_telegram_update_as_an_object():
    """An object travels as an object."""
    assert tgtrack.OnTelegramWebhook.load(json.loads(RAW)).wire() == json.loads(RAW)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff{}", b"[]", b"{}", b'{"update_id":null}', b'{"update_id":"1"}', b'{"update_id":true}',
     b'{"update_id":1,"x":NaN}',
     b'{"update_id":1', "{\"update_id\":1,\"x\":\"\ud800\"}", {"message": {}}, [1], None, 5, b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_telegram_update(raw):
    """Not UTF-8, not a JSON object, no update_id: refused."""
    assert isinstance(refused(lambda: tgtrack.OnTelegramWebhook.load(raw)), InvalidEvent)


OPAQUE = [tgtrack.MyBothelpWasStarted, tgtrack.WinWinWasStarted, tgtrack.OnToolsyEvent, tgtrack.OnSendPulseEvent]


@pytest.mark.parametrize("cls", OPAQUE)
@pytest.mark.parametrize(
    "payload", [None, [], "x", b"{}", {"a": float("nan")}, {"a": {1}}, {1: "a"}, {"a": "\ud800"}, {"\ud800": 1}]
)
def test_opaque_payloads_are_json_objects(cls, payload):
    """A payload that JSON cannot carry is refused."""
    assert "payload" in refused(lambda: cls.load(payload)).errors


def test_opaque_payloads_do_not_nest_for_ever():
    """A payload deeper than any real one is refused, not a crash."""
    deep = {}
    for _ in range(5000):
        deep = {"a": deep}
    assert "payload" in refused(lambda: tgtrack.OnToolsyEvent.load(deep)).errors


@pytest.mark.parametrize("webhook", ["{raw}", {"update_id": 1}])
def test_sambot_takes_text_and_object(webhook):
    """SamBot's webhook is sent as given."""
    assert tgtrack.SambotOnTgWebhook.load({"webhook": webhook}).wire() == {"webhook": webhook}


@pytest.mark.parametrize("start", ["", "auto_detect"])
def test_start_value_may_be_empty(start):
    """An empty start value is a value."""
    assert tgtrack.MyBotWasStarted(start_value=start).wire() == {"start_value": start}


def test_every_task_has_its_class():
    """12 events; an unknown task is a KeyError."""
    assert len([task for task in EVENTS if task.startswith("tgtrack.")]) == 12
    assert event_class("tgtrack.add_event") is tgtrack.AddEvent
    with pytest.raises(KeyError):
        event_class("tgtrack.nope")


def test_reads_go_first():
    """Reads have priority 0 and a result, writes priority 3 and none."""
    assert [name for name, cls in EVENTS.items() if cls.has_result and cls.provider == "tgtrack"] == [
        "tgtrack.get_user_info"
    ]
    assert all(cls.default_priority == (0 if cls.has_result else 3) for cls in EVENTS.values())


def test_invalid_event_survives_pickling():
    """The error keeps its attributes in a process pool."""
    error = refused(lambda: sale(amount=True))
    again = pickle.loads(pickle.dumps(error))
    assert (again.event, again.errors, str(again)) == (error.event, error.errors, str(error))


@pytest.mark.parametrize("cls", EVENTS.values(), ids=lambda cls: cls.title())
def test_help_shows_types(cls):
    """``help`` shows each field as a keyword with its type, inherited ones too."""
    parameters = inspect.signature(cls).parameters.values()
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters)
    assert not [parameter.name for parameter in parameters if parameter.annotation is inspect.Parameter.empty]
    assert inspect.signature(cls).parameters["account"].annotation == str | None


@pytest.mark.parametrize("cls", EVENTS.values(), ids=lambda cls: cls.title())
def test_help_says_what_each_field_means(cls):
    """The docstring has each field with type, meaning and bound, inherited ones too."""
    text = " ".join(cls.__doc__.split())
    for name, field in cls._fields.items():
        assert cls._meanings[name].endswith("."), f"{cls.title()}.{name} is not described under Args"
        assert f" {name} ({type_text(field.annotation)}{', required' if field.required else ''}): " in text
        assert f"{cls._meanings[name]} {field.rule[:1].upper()}{field.rule[1:]}." in text
    assert " account (str | None): " in text
