"""What ordinary models hold, and what an event makes of it (ADR 37)."""

import enum
import json
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postback import InvalidEvent, mytracker, tganalytics, tgtrack, tonai

ORDER = uuid.UUID("10c574d9-6d2c-4e6d-a141-ce6da141ce6d")
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=timezone(timedelta(hours=3)))


class Kind(enum.Enum):
    SALE = "sale"
    SUCCESS = "success"


class Choice(enum.StrEnum):
    SALE = "sale"


class Code(enum.IntEnum):
    WOMAN = 2


class Strange(enum.Enum):
    LIST = ("sale",)


def sale(**fields):
    return tgtrack.AddEvent(**{"user_id": 1, "event_type": "sale", **fields})


def refusal(**fields):
    with pytest.raises(InvalidEvent) as caught:
        sale(**fields)
    ((messages),) = caught.value.errors.values()
    return messages[0]


IDS = {
    "tgtrack": lambda value: tgtrack.GetUserInfo(user_id=value).user_id,
    "mytracker": lambda value: mytracker.Login(custom_user_id=value).custom_user_id,
    "vk": lambda value: (
        mytracker.Login(custom_platform_user_id=value, vk_platform="mobile_web").custom_platform_user_id
    ),
    "tonai": lambda value: tonai.Conversion(telegram_user_id=value).telegram_user_id,
}


@pytest.mark.parametrize("provider", IDS)
@pytest.mark.parametrize("value", [987654321, 2**63 - 1, "987654321", Code.WOMAN])
def test_ids_are_written_as_text(provider, value):
    """A whole number's digits, as its provider wants an id."""
    kept = IDS[provider](value)
    assert kept == str(int(value))
    assert type(kept) is str


def test_an_id_as_a_number():
    """Telegram Analytics wants a number, and takes a model's text of digits."""
    event = tganalytics.Event(user_id="987654321", event_name="app-init", session_id=ORDER)
    assert (event.user_id, event.session_id) == (987654321, str(ORDER))


@pytest.mark.parametrize("provider", IDS)
@pytest.mark.parametrize("value", [True, 1.0, Decimal(1), None, b"1", [1], object()])
def test_what_is_no_id(provider, value):
    """A flag, a fraction, nothing, bytes, an object: refused, not made into a text."""
    with pytest.raises(InvalidEvent):
        IDS[provider](value)


@pytest.mark.parametrize(
    ("amount", "wire"),
    [
        (Decimal("1499.90"), b"1499.9"),
        (Decimal("0.1"), b"0.1"),
        (Decimal("-12.34"), b"-12.34"),
        (Decimal("9999999999.99"), b"9999999999.99"),
        (Decimal("1E+3"), b"1000.0"),
        (Decimal("12345678901234567890"), b"12345678901234567890"),
        (1500, b"1500"),
        (Code.WOMAN, b"2"),
    ],
)
def test_amounts(amount, wire):
    """The number on the wire is exactly the model's."""
    encoded = sale(amount=amount).encoded()
    assert b'"amount":' + wire + b"}" in encoded
    assert json.loads(encoded, parse_float=Decimal, parse_int=Decimal)["amount"] == amount


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**13), max_value=10**13))
def test_money_is_exact(amount):
    """Any amount of a field with two places and 15 digits."""
    wire = json.loads(sale(amount=amount).encoded(), parse_float=Decimal, parse_int=Decimal)
    assert wire["amount"] == amount


@pytest.mark.parametrize(
    ("amount", "why"),
    [
        (Decimal("0.1234567890123456789"), "round it"),
        (Decimal(1) / 3, "round it"),
        (Decimal("1E-400"), "round it"),
        (Decimal("NaN"), "finite"),
        (Decimal("sNaN"), "finite"),
        (Decimal("-Infinity"), "finite"),
        (Decimal("1E+999999"), "finite"),
        ("1500.00", "must be a number, not str"),
        (True, "must be a number, not bool"),
    ],
)
def test_what_is_no_amount(amount, why):
    """A decimal that a JSON number would change is refused, not rounded."""
    assert why in refusal(amount=amount)


def test_moments():
    """An aware datetime, in each provider's unit, cut to it."""
    assert sale(date=MOMENT).date == 1767312245
    assert mytracker.Login(custom_user_id=1, event_timestamp=MOMENT).wire()["eventTimestamp"] == 1767312245
    event = tganalytics.Event(user_id=1, event_name="app-init", session_id=ORDER, client_timestamp=MOMENT)
    assert event.wire()["client_timestamp"] == "1767312245678"
    assert tgtrack.MyBotWasStopped(user_id=1, date=MOMENT.astimezone(UTC)).date == 1767312245


@pytest.mark.parametrize(
    ("moment", "why"),
    [
        (datetime(2026, 1, 2), "must be an aware datetime"),
        (date(2026, 1, 2), "whole number"),
        (datetime(1960, 1, 1, tzinfo=UTC), "must be from 0"),
        (datetime(2200, 1, 1, tzinfo=UTC), "must be from 0"),
        (1.5, "whole number"),
        ("2026-01-02T03:04:05Z", "whole number"),
    ],
)
def test_what_is_no_moment(moment, why):
    """A time without a zone, a day, a text, a time beyond the provider's bounds."""
    assert why in refusal(date=moment)


@pytest.mark.parametrize("kind", [Kind.SALE, Choice.SALE, "sale"])
def test_enums(kind):
    """A member stands for its value, and the value alone is kept."""
    assert type(sale(event_type=kind).event_type) is str
    assert sale(event_type=kind) == sale(event_type="sale")
    assert sale(event_result=Kind.SUCCESS).event_result == "success"
    assert mytracker.Login(custom_user_id=1, id_gender=Code.WOMAN).wire()["idGender"] == 2


@pytest.mark.parametrize("provider", IDS)
def test_an_id_of_thousands_of_digits(provider):
    """It is refused before anybody writes it out."""
    for value in (10**400, -(10**5000)):
        with pytest.raises(InvalidEvent):
            IDS[provider](value)


@pytest.mark.parametrize("field", ["event_type", "event_result", "amount", "date"])
def test_an_enum_of_something_else(field):
    """Its value is checked like any other."""
    refusal(**{field: Strange.LIST})


def test_labels_and_parameters():
    """Order numbers need no str()."""
    assert sale(labels=[{"name": "order", "value": 17}, {"name": Kind.SALE, "value": ORDER}]).wire()["labels"] == [
        {"name": "order", "value": "17"}, {"name": "sale", "value": str(ORDER)},
    ]  # fmt: skip
    event = mytracker.CustomEvent(custom_event_name="x", custom_user_id=1, custom_event_params={"order": 17})
    assert event.wire()["customEventParams"] == {"order": "17"}


def test_free_json():
    """Enums, UUIDs and exact decimals inside an object become JSON; other objects do not."""
    data = {"order": ORDER, "kind": Kind.SALE, "total": Decimal("1.50"), "more": [Code.WOMAN]}
    event = tganalytics.Event(user_id=1, event_name="app-init", session_id=ORDER, custom_data=data)
    assert json.loads(event.encoded())["custom_data"] == {
        "order": str(ORDER), "kind": "sale", "total": 1.5, "more": [2],
    }  # fmt: skip
    for wrong in (MOMENT, Decimal(1) / 3, {1}, Strange):
        with pytest.raises(InvalidEvent, match="custom_data"):
            tganalytics.Event(user_id=1, event_name="app-init", session_id=ORDER, custom_data={"a": wrong})
