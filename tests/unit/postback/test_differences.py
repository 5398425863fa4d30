"""What a failed test says about events: each field that differs, with both values."""

from __future__ import annotations

import pytest

from postback import mytracker, tgtrack
from postback._differences import LONG_CHARS, in_list, in_lists, in_sets, in_values
from postback.testing import Sent

SIDES = ("sent", "expected")
JANE = [{"name": "manager", "value": "Jane"}, {"name": "shop", "value": "north"}]
LOGIN = mytracker.Login(custom_user_id="player-1")


def sale(**fields: object) -> tgtrack.AddEvent:
    return tgtrack.AddEvent(**{"user_id": "987654321", "event_type": "sale", **fields})  # type: ignore[arg-type]


def webhook(text: str, *numbers: int) -> tgtrack.OnTelegramWebhook:
    return tgtrack.OnTelegramWebhook.load({"update_id": 1, "message": {"text": text, "n": list(numbers)}})


@pytest.mark.parametrize(
    ("sent", "expected", "lines"),
    [
        (
            sale(),
            sale(user_id="987000321", amount=2.0),
            ["user_id: sent '987654321', expected '987000321'", "amount: sent None, expected 2.0"],
        ),
        (sale(account="shop"), sale(), ["account: sent 'shop', expected None"]),
        (sale(), sale(date=1622520000), ["date: sent None (a send fills it in), expected 1622520000"]),
        (sale(date=1622520000), sale(), ["date: sent 1622520000, expected None (a send fills it in)"]),
        (
            sale(labels=JANE),
            sale(labels=[{"name": "manager", "value": "John"}, JANE[1]]),
            ["labels[0]['value']: sent 'Jane', expected 'John'"],
        ),
        (sale(labels=JANE), sale(labels=JANE[1:]), [f"labels: sent {JANE!r}, expected {JANE[1:]!r}"]),
        (webhook("hi", 1, 2), webhook("hi", 1, 3), ["payload['message']['n'][1]: sent 2, expected 3"]),
        (
            tgtrack.OnTelegramWebhook.load({"update_id": 1, "a": 1}),
            tgtrack.OnTelegramWebhook.load({"update_id": 1, "b": None}),
            ["payload['a']: sent 1, expected nothing", "payload['b']: sent nothing, expected None"],
        ),
        (
            sale(),
            LOGIN,
            [
                "sent tgtrack.AddEvent(user_id='987654321', event_type='sale'), "
                "expected mytracker.Login(custom_user_id='player-1')"
            ],
        ),
        (
            Sent(sale(), "id-1", {"priority": 0}),
            Sent(sale(amount=1), "id-1", {"priority": 1, "countdown": 5}),
            [
                "event.amount: sent None, expected 1",
                "options['priority']: sent 0, expected 1",
                "options['countdown']: sent nothing, expected 5",
            ],
        ),
    ],
    ids=["fields", "account", "no time", "time", "inside a list", "lists", "payload", "keys", "class", "sends"],
)
def test_two_events(sent: object, expected: object, lines: list[str]) -> None:
    """Each place that differs has a line with both values, also inside labels and payloads."""
    assert in_values(sent, expected, SIDES) == lines


def test_long_texts_show_where_they_differ() -> None:
    """What both have in common at their beginning is left out, and the place is named."""
    same = "x" * 300
    (line,) = in_values(webhook(f"{same}a"), webhook(f"{same}b"), SIDES)
    twenty = "x" * 20
    assert line == f"payload['message']['text'][280:]: sent '{twenty}a', expected '{twenty}b'"


def test_long_texts_are_whole_from_there() -> None:
    """Nothing else of a value is left out, however long it is."""
    one, other = "a" * (LONG_CHARS + 1), "b" * 5000
    (line,) = in_values(webhook(one), webhook(other), SIDES)
    assert line == f"payload['message']['text'][0:]: sent {one!r}, expected {other!r}"


def test_what_is_only_on_one_side() -> None:
    """A further and a missing event are shown whole, and the others are not."""
    assert in_lists([LOGIN, sale()], [sale(), sale(labels=JANE)], SIDES) == [
        "2 events (sent) == 2 events (expected)",
        "[0] sent, not expected: mytracker.Login(custom_user_id='player-1')",
        f"[1] expected, not sent: tgtrack.AddEvent(user_id='987654321', event_type='sale', labels={JANE!r})",
    ]
    assert in_lists([], [LOGIN], SIDES)[0] == "0 events (sent) == 1 event (expected)"


def test_the_events_most_alike_are_compared() -> None:
    """A further event before the one that differs does not shift the comparison."""
    lines = in_lists([sale(event_type="start"), sale(amount=1)], [sale(amount=2)], SIDES)
    assert lines[1:] == [
        "[0] sent, not expected: tgtrack.AddEvent(user_id='987654321', event_type='start')",
        "[1] (expected: [0]) tgtrack.AddEvent.amount: sent 1, expected 2",
    ]


def test_another_order() -> None:
    """Equal events in another order: the fewest that must move, and nothing else."""
    first, second, third = (sale(amount=number) for number in (1, 2, 3))
    assert in_lists([third, first, second], [first, second, third], SIDES)[1:] == [
        "another order: sent [0], expected [2]: tgtrack.AddEvent(user_id='987654321', event_type='sale', amount=3)"
    ]


def test_equal_events_among_others() -> None:
    """Repeated events are told apart by their number: one too few is one missing."""
    lines = in_lists([sale(), LOGIN], [sale(), sale(), LOGIN], SIDES)
    assert lines[1:] == ["[1] expected, not sent: tgtrack.AddEvent(user_id='987654321', event_type='sale')"]


def test_what_is_no_event() -> None:
    """A list with something else in it is compared all the same."""
    assert in_lists([sale()], ["sale", {"a": []}], SIDES)[2:] == [
        "[0] expected, not sent: 'sale'",
        "[1] expected, not sent: {'a': []}",
    ]


@pytest.mark.timeout(20)
def test_long_lists() -> None:
    """Thousands of events that all differ are compared in seconds."""
    sent = [sale(amount=number) for number in range(4000)]
    lines = in_lists(sent, [sale(amount=number + 10_000) for number in range(4000)], SIDES)
    assert len(lines) == 4001
    assert lines[4000] == "[3999] tgtrack.AddEvent.amount: sent 3999, expected 13999"


def test_the_nearest_event() -> None:
    """An event that is missing in a list: how the nearest one of its class differs."""
    lines = in_list(sale(amount=3), [LOGIN, sale(user_id="1"), sale(amount=2)], ("expected", "sent"))
    assert lines == ["tgtrack.AddEvent in 3 events (sent)", "[2] tgtrack.AddEvent.amount: sent 2, expected 3"]


def test_no_event_of_its_class() -> None:
    """Then every event of the list is shown; an empty list says so by its length."""
    assert in_list(sale(), [LOGIN], ("expected", "sent")) == [
        "tgtrack.AddEvent in 1 event (sent)",
        "[0] sent: mytracker.Login(custom_user_id='player-1')",
    ]
    assert in_list(sale(), [], ("expected", "sent")) == ["tgtrack.AddEvent in 0 events (sent)"]


def test_two_sets() -> None:
    """Sets have no places: what only one of them has is shown whole."""
    assert in_sets({sale(), LOGIN}, {sale(), sale(amount=1)}, ("left", "right")) == [
        "2 events (left) == 2 events (right)",
        "left, not right: mytracker.Login(custom_user_id='player-1')",
        "right, not left: tgtrack.AddEvent(user_id='987654321', event_type='sale', amount=1)",
    ]
