import base64
import copy
import pickle

import pytest

from postback import UNSET, InvalidEvent, UnknownEventName, mytracker, tganalytics, tonai, tonapi

UUID = "10c574d9-6d2c-4e6d-a141-ce6da141ce6d"
HEX = "97264395BD65A255A429B11326C84128B7D70FFED7949ABAE3036D506BA38621"
B64 = base64.urlsafe_b64encode(bytes.fromhex(HEX)).decode()


def errors(make):
    with pytest.raises(InvalidEvent) as caught:
        make()
    return caught.value.errors


def custom(**fields):
    return mytracker.CustomEvent.load({"customEventName": "levelUp", "customUserId": "1", **fields})


def init(**fields):
    return tganalytics.Event.load({"user_id": 111111111, "event_name": "app-init", "session_id": UUID, **fields})


def test_mytracker_takes_the_documents_example():
    """Numbers may come as strings of digits, as in the provider's own example; they travel as
    numbers.
    """
    event = custom(idGender="1", age="25", eventTimestamp="1580213208", customEventParams={"level": "2"})
    assert event.wire() == {
        "eventTimestamp": 1580213208, "customUserId": "1", "idGender": 1, "age": 25, "customEventName": "levelUp",
        "customEventParams": {"level": "2"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eventTimestamp", 946673999), ("eventTimestamp", 4294967296), ("eventTimestamp", 1.5),
        ("eventTimestamp", True),
        ("customUserId", ""), ("customUserId", "x" * 1025), ("customUserId", 1.0), ("ipv4", "1" * 16), ("ipv6", "1" * 46),
        ("idGender", 3), ("idGender", True), ("idGender", "x"), ("age", 129), ("age", -1), ("age", "old"),
        ("connectionType", 3), ("bluetoothEnabled", 3), ("adTrackingEnabled", 2), ("adBlocker", 2),
        ("instanceId", "x" * 35),
        ("idfa", "x" * 37), ("iosVendorId", ""), ("gaid", "x"), ("appSetId", "x"), ("androidId", "x" * 15),
        ("lvid", "x" * 31),
        ("userAgent", "x" * 2049), ("vkPlatform", "desktop"), ("customEventName", ""), ("customEventName", "x" * 256),
        ("customEventParams", []), ("customEventParams", {"a": 1.5}), ("customEventParams", {"": "a"}),
        ("customEventParams", {"a": ""}), ("customEventParams", {"a": "x" * 256}),
        ("customEventParams", {"x" * 256: "a"}),
        ("customPlatformUserId", 5.0), ("unknown", 1), ("age", None),
    ],
)  # fmt: skip
def test_mytracker_bounds(field, value):
    """Each bound of the document is enforced and named as on the wire."""
    assert list(errors(lambda: custom(**{field: value}))) == [field]


def test_mytracker_registration_needs_a_user():
    """Without a user there is no registration; VK's two fields stand in for it only together."""
    assert errors(mytracker.Registration) == {
        "custom_user_id": ["is required (in VK Mini Apps custom_platform_user_id and vk_platform instead)"]
    }
    assert "vkPlatform" in errors(lambda: mytracker.Login.load({"customPlatformUserId": "1"}))
    assert "customPlatformUserId" in errors(lambda: mytracker.Login.load({"vkPlatform": "mobile_web"}))
    assert mytracker.Login(custom_platform_user_id="1", vk_platform="mobile_web").wire()["vkPlatform"] == "mobile_web"


def test_mytracker_custom_event_needs_an_identifier():
    """VK's user id is none of the identifiers."""
    data = {"customEventName": "x", "customPlatformUserId": "1", "vkPlatform": "mobile_web"}
    assert list(errors(lambda: mytracker.CustomEvent.load(data))) == ["event"]
    assert mytracker.CustomEvent(custom_event_name="x", lvid="0" * 32)


def test_mytracker_size_counts_the_time_to_come():
    """An event that fits only until its time is filled in is refused when made, not when sent."""

    def sized(size):
        params = {f"{n:04}": "я" * 100 for n in range(45)}
        event = mytracker.CustomEvent(custom_event_name="x", custom_user_id="1", custom_event_params=params)
        return mytracker.CustomEvent(
            custom_event_name="x", custom_user_id="1" * (size - event.size() + 1), custom_event_params=params
        )

    assert sized(10_000).with_time(1580213208).size() == 10_000
    assert list(errors(lambda: sized(10_001))) == ["event"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user_id", "1e9"), ("user_id", True), ("user_id", -1), ("user_id", 1.5), ("session_id", "x"),
        ("session_id", UUID + "\n"), ("event_name", ""), ("is_premium", 1), ("is_success", "true"), ("error_code", "5"),
        ("error_code", float("nan")), ("auth_type", 2), ("auth_type", True), ("client_timestamp", 1743503599534),
        ("client_timestamp", "1743503599"), ("client_timestamp", "x"), ("messages", [{"address": "a"}]),
        ("messages", [{"address": "a", "amount": 1.5}]), ("custom_data", []), ("custom_data", {"a": float("inf")}),
        ("from", 1), ("app_name", ""), ("locale", None), ("from_", "a"),
    ],
)  # fmt: skip
def test_tganalytics_bounds(field, value):
    """Each rule of the document is enforced."""
    assert list(errors(lambda: init(**{field: value}))) == [field]


def test_tganalytics_null_error_code_is_a_value():
    """An explicit null is sent, an absent code is not."""
    assert init(error_code=None).wire()["error_code"] is None
    assert "error_code" not in init().wire()
    assert init().error_code is UNSET
    assert init(error_code=None) != init()
    assert pickle.loads(pickle.dumps(init())) == copy.copy(init())


def test_tganalytics_unknown_names_warn():
    """A name outside the list warns and passes."""
    with pytest.warns(UnknownEventName):
        assert init(event_name="my-event").event_name == "my-event"


def test_tganalytics_time_is_text_of_milliseconds():
    """The time is filled in as the provider wants it."""
    assert init().with_time(1743503599.534).wire()["client_timestamp"] == "1743503599534"


def test_tganalytics_from_has_another_name_in_python():
    """``from`` is a keyword."""
    assert init(**{"from": "EQ"}).from_ == "EQ"


def test_tganalytics_size():
    """An event larger than the limit is refused."""
    assert list(errors(lambda: init(custom_data={"a": "x" * 10_000}))) == ["event"]


@pytest.mark.parametrize("user", [17.0, "", "a", "１７", True, -17, "017", "-1", "1" * 21, None, "17 "])
def test_tonai_user_is_digits(user):
    """Anything but the digits of a whole number is refused."""
    assert list(errors(lambda: tonai.Conversion(telegram_user_id=user))) == ["telegram_user_id"]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"eventData": {"telegramUserId": "1"}}, "eventType"),
        ({"eventType": "sale", "eventData": {"telegramUserId": "1"}}, "eventType"),
        ({"eventType": "conversion"}, "eventData"),
        ({"eventType": "conversion", "eventData": []}, "eventData"),
        ({"eventType": "conversion", "eventData": {}}, "telegramUserId"),
        ({"eventType": "conversion", "eventData": {"telegramUserId": "1", "x": 1}}, "x"),
        ({"eventType": "conversion", "eventData": {"telegramUserId": "1"}, "x": 1}, "x"),
        ([], "event"),
    ],
)
def test_tonai_wire_is_strict(data, field):
    """The report has exactly the document's form."""
    assert list(errors(lambda: tonai.Conversion.load(data))) == [field]


def test_tonai_round_trip():
    """The wire form is nested; the summary shortens the user; the user is the idempotency key."""
    event = tonai.Conversion(telegram_user_id="1728125519")
    assert tonai.Conversion.load(event.wire()) == event
    assert event.summary(event.wire()) == "user=17…19"
    assert event.idempotency_key() == "1728125519"


@pytest.mark.parametrize("event_id", [HEX, HEX.lower(), B64, B64.rstrip("=")])
def test_tonapi_ids_become_lower_hex(event_id):
    """Hex and base64url, padded or not, are one and the same id."""
    assert tonapi.GetEvent(event_id=event_id).event_id == HEX.lower()


@pytest.mark.parametrize(
    "event_id", ["", "0x" + HEX, HEX[:-1], HEX + "0", B64[:-2], B64 + "=", "!" * 43, "A" * 42 + "B", 5, HEX + "\n"]
)
def test_tonapi_refuses_other_ids(event_id):
    """What is not 32 bytes in one of the two forms is refused."""
    assert list(errors(lambda: tonapi.GetEvent(event_id=event_id))) == ["event_id"]


def test_tonapi_language_cannot_smuggle_a_header():
    """A line break in the language is refused."""
    assert list(errors(lambda: tonapi.GetEvent(event_id=HEX, accept_language="ru\r\nX: y"))) == ["accept_language"]
