"""Conversions for TON AI. Source of every field: Ton AI, "API for Reporting Conversion Events"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from postback._events.fields import text
from postback._events.schema import UNKNOWN
from postback._events.shown import field_name
from postback._events.values import Id, Kept
from postback._send.event import Event
from postback._suggestion import did_you_mean
from postback.errors import InvalidEvent

__all__ = ["Conversion"]


class Conversion(Event, method="conversion", provider="tonai"):
    """A user completed the conversion.

    It is reported once for each account and user: the user's id is its idempotency key, and a
    second one within 7 days is dropped. TON AI gets
    ``{"eventType": "conversion", "eventData": {"telegramUserId": "<digits>"}}``.

    Args:
        telegram_user_id: Telegram id.
    """

    telegram_user_id: Kept[Id, str] = text(
        wire="telegramUserId",
        max_chars=20,
        pattern="[1-9][0-9]*",
        rule="a Telegram user id: a string of digits",
        whole_numbers=True,
        personal=True,
        label="user",
    )

    #: The same in every report.
    EVENT_TYPE: ClassVar[str] = "conversion"

    @classmethod
    def _load(cls, data: Any, account: str | None) -> Conversion:
        errors: dict[str, list[str]] = {}
        if not isinstance(data, Mapping):
            raise InvalidEvent(cls.title(), {"event": ["must be a JSON object"]})
        for name in data:
            if name not in ("eventType", "eventData"):
                errors[field_name(name)] = [UNKNOWN + did_you_mean(name, ("eventType", "eventData"))]
        if "eventType" not in data:
            errors["eventType"] = ["is required"]
        elif data["eventType"] != cls.EVENT_TYPE:
            errors["eventType"] = [f"must be {cls.EVENT_TYPE!r}"]
        if "eventData" not in data:
            errors["eventData"] = ["is required"]
        elif not isinstance(data["eventData"], Mapping):
            errors["eventData"] = ["must be an object"]
        if errors:
            raise InvalidEvent(cls.title(), errors)
        return super()._load(data["eventData"], account)

    def _wire(self) -> Any:
        return {"eventType": self.EVENT_TYPE, "eventData": {"telegramUserId": self.telegram_user_id}}

    @classmethod
    def summary(cls, wire: Any) -> str:
        """``user=17…19``."""
        return super().summary(wire.get("eventData")) if isinstance(wire, Mapping) else ""

    def idempotency_key(self) -> str:
        """The user's id."""
        return self.telegram_user_id
