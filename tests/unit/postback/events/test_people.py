"""Whom an event is about."""

from __future__ import annotations

from typing import Any

import pytest

from postback._events.people import MAX_DEPTH, people_of


@pytest.mark.parametrize(
    ("task", "wire", "people"),
    [
        ("tgtrack.add_event", {"user_id": "17", "event_type": "sale"}, ["17"]),
        ("tgtrack.add_event", {"user_id": 17}, ["17"]),
        ("mytracker.login", {"gaid": "g", "customUserId": "u", "instanceId": "i"}, ["u", "i", "g"]),
        ("mytracker.login", {"gaid": "same", "customUserId": "same"}, ["same"]),
        ("tgtrack.on_telegram_webhook", {"update_id": 1, "message": {"from": {"id": 7}, "chat": {"id": -5}}}, ["7", "-5"]),
        ("tgtrack.on_telegram_webhook", '{"update_id": 1, "message": {"from": {"id": 7}}}', ["7"]),
        ("tonai.conversion", {"eventType": "conversion", "eventData": {"telegramUserId": "17"}}, ["17"]),
        ("shop.order", {"user_id": "17"}, ["17"]),
    ],
)  # fmt: skip
def test_the_one_it_is_about_comes_first(task: str, wire: Any, people: list[str]) -> None:
    """In the order in which the event declares its fields, each once."""
    assert people_of(task, wire) == people


@pytest.mark.parametrize(
    "wire", [None, 5, "text", [], {}, {"user_id": None}, {"user_id": ["x"]}, {"user_id": True}, "{", "[1"]
)
def test_nobody(wire: Any) -> None:
    """What names nobody, and what is no event."""
    assert people_of("tgtrack.add_event", wire) == []
    assert people_of("tgtrack.on_telegram_webhook", wire) == (
        [] if not isinstance(wire, dict) else people_of("x", wire)
    )


def test_depth() -> None:
    """Somebody else's message may be nested as deep as it likes."""
    value: Any = {"user_id": "deep"}
    for _ in range(MAX_DEPTH + 5):
        value = {"a": value}
    assert people_of("shop.order", value) == []
