"""Events for Telegram Analytics. Source of every field: tganalytics.xyz, "POST events"."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar, Literal, TypedDict
from uuid import UUID

from postback._events import fields
from postback._events.fields import ID_CHARS, NAME_CHARS, TEXT_CHARS
from postback._events.values import Id, Kept, Number, Text
from postback._send import event
from postback.errors import UnknownEventName

__all__ = ["Event", "Message"]

#: Largest event in bytes. Decision: the provider names no limit; a batch has at most so many by
#: default.
MAX_BYTES = 10_000
#: Largest whole number that is exact as a float, as which many JSON readers read it. Telegram's ids
#: are below 2**52.
MAX_USER_ID = 2**53 - 1

#: Names of events the service knows. Source: the official browser SDK, npm
#: @telegram-apps/analytics 1.6.4.
KNOWN_NAMES = frozenset(
    {
        "app-init", "app-hide", "custom-event", "connection-started", "connection-completed", "connection-error",
        "connection-restoring-started", "connection-restoring-completed", "connection-restoring-error",
        "transaction-sent-for-signature", "transaction-signed", "transaction-signing-failed", "disconnection",
        "purchase-init", "purchase-success", "purchase-failed", "purchase-cancelled", "refund-issued",
        "subscription-started", "subscription-renewed", "subscription-cancelled", "register-invoice",
        "ADDITIONAL_TASK_EVENT",
    }
)  # fmt: skip

_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


class Message(TypedDict):
    """A transaction's message. Source: "Optional", messages.

    Both are kept as text; the amount may be a whole number.
    """

    address: Text
    amount: Id


class Event(event.Event, method="event", provider="tganalytics"):
    """Something a user did in a Mini App.

    A name that is not in the provider's published list gives a warning
    (:class:`~postback.errors.UnknownEventName`) and is sent anyway.

    Args:
        user_id: Telegram id.
        event_name: What the user did.
        session_id: UUID of the user's session.
        app_name: The application's name; the worker fills in the account's.
        is_premium: Whether the user has Telegram Premium.
        is_success: Whether the wallet is connected, or the transaction was successful.
        error_message: Why the connection or transaction failed.
        error_code: Its code. None is sent as null; leave it out to send nothing.
        wallet_address: The wallet's address.
        wallet_type: The wallet's type.
        wallet_version: The wallet's version.
        auth_type: 0 ton_addr, 1 ton_proof.
        valid_until: Until when a transaction's offer is valid, as text.
        from_: Address of the wallet that starts the transaction; ``from`` on the wire.
        messages: The transaction's messages.
        custom_data: Your own details.
        client_timestamp: When it happened, in epoch milliseconds as text. Left out: when it is
            sent.
        platform: Where the Mini App was opened: ``tdesktop``.
        locale: The user's language.
        start_param: ``tgWebAppStartParam``.
        url_referer: Address of the page that the request came from.
        scope: The event's scope.
    """

    time_field: ClassVar[str | None] = "client_timestamp"
    time_bytes: ClassVar[int] = len(',"client_timestamp":"1743503599534"')
    max_bytes: ClassVar[int] = MAX_BYTES

    user_id: Kept[int | str | Enum, int] = fields.integer(
        low=0, high=MAX_USER_ID, digits=True, personal=True, label="user"
    )
    event_name: Kept[Text, str] = fields.text(min_chars=1, max_chars=NAME_CHARS, shown="plain")
    session_id: Kept[str | UUID, str] = fields.text(max_chars=36, pattern=_UUID, rule="a UUID")
    app_name: Kept[Text | None, str | None] = fields.text(
        max_chars=NAME_CHARS, default=None, min_chars=1, shown="plain"
    )
    is_premium: bool | None = fields.flag(default=None)
    is_success: bool | None = fields.flag(default=None)
    error_message: Kept[Text | None, str | None] = fields.text(max_chars=TEXT_CHARS, default=None)
    error_code: Kept[Number | fields.Unset | None, float | fields.Unset | None] = fields.number(default=fields.UNSET)
    wallet_address: Kept[Text | None, str | None] = fields.text(max_chars=ID_CHARS, default=None, personal=True)
    wallet_type: Kept[Text | None, str | None] = fields.text(max_chars=NAME_CHARS, default=None)
    wallet_version: Kept[Text | None, str | None] = fields.text(max_chars=NAME_CHARS, default=None)
    auth_type: Kept[Literal[0, 1] | Enum | None, int | None] = fields.one_of(0, 1, default=None)
    valid_until: Kept[Text | None, str | None] = fields.text(max_chars=NAME_CHARS, default=None)
    from_: Kept[Text | None, str | None] = fields.text(max_chars=ID_CHARS, default=None, wire="from", personal=True)
    messages: Sequence[Message] | None = fields.items("address", "amount", max_chars=ID_CHARS, default=None)
    custom_data: Mapping[str, Any] | None = fields.json_object(default=None)
    client_timestamp: Kept[str | datetime | None, str | None] = fields.text(
        max_chars=14,
        default=None,
        pattern="[0-9]{13,14}",
        rule="epoch milliseconds as a string of digits",
        shown="plain",
    )
    platform: Kept[Text | None, str | None] = fields.text(max_chars=NAME_CHARS, default=None)
    locale: Kept[Text | None, str | None] = fields.text(max_chars=NAME_CHARS, default=None)
    start_param: Kept[Text | None, str | None] = fields.text(max_chars=NAME_CHARS, default=None)
    url_referer: Kept[Text | None, str | None] = fields.text(max_chars=TEXT_CHARS, default=None)
    scope: Kept[Text | None, str | None] = fields.text(max_chars=NAME_CHARS, default=None)

    def _fill(self, data: Any, account: str | None, names: Mapping[str, str]) -> dict[str, list[str]]:
        errors = super()._fill(data, account, names)
        if not errors and self.event_name not in KNOWN_NAMES:
            warnings.warn("tganalytics.Event: event_name is not in the provider's list", UnknownEventName, stacklevel=3)
        return errors

    @classmethod
    def _time_value(cls, now_ms: int) -> str:
        return str(now_ms)
