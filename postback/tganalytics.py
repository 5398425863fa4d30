"""Events for Telegram Analytics. Source of every field: tganalytics.xyz, "POST events"."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, TypedDict

import postback._events.event
from postback._events import fields
from postback._events.fields import ID_CHARS, NAME_CHARS, TEXT_CHARS
from postback.errors import UnknownEventName

__all__ = ["Event", "Message"]

#: Largest event in bytes. Decision: the provider names no limit; a batch has at most so many by
#: default.
MAX_BYTES = 10_000
#: Largest whole number that is exact as a float, as which many JSON readers read it. Telegram's ids
#: are below 2**52.
MAX_USER_ID = 2**53 - 1

#: Names of events the service knows. Source: the official browser SDK.
KNOWN_NAMES = frozenset(
    {
        "app-init", "app-hide", "custom-event", "connection-started", "connection-completed", "connection-error",
        "connection-restoring-completed", "connection-restoring-error", "transaction-sent-for-signature",
        "transaction-signed", "transaction-signing-failed", "disconnection",
    }
)  # fmt: skip

_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


class Message(TypedDict):
    """A transaction's message. Source: "Optional", messages."""

    address: str
    amount: str


class Event(postback._send.event.Event, method="event", provider="tganalytics"):
    """Something a user did in a Mini App.

    A name that is not in the provider's published list gives a warning
    (:class:`~postback.errors.UnknownEventName`) and is sent all the same.
    """

    time_field: ClassVar[str | None] = "client_timestamp"
    time_bytes: ClassVar[int] = len(',"client_timestamp":"1743503599534"')
    max_bytes: ClassVar[int] = MAX_BYTES

    #: Telegram id, as a number.
    user_id: int = fields.integer(low=0, high=MAX_USER_ID, personal=True, label="user")
    event_name: str = fields.text(min_chars=1, max_chars=NAME_CHARS, shown="plain")
    #: UUID of the user's session.
    session_id: str = fields.text(max_chars=36, pattern=_UUID, rule="a UUID")
    #: The application's name; the worker fills in the account's.
    app_name: str | None = fields.text(max_chars=NAME_CHARS, default=None, min_chars=1, shown="plain")
    is_premium: bool | None = fields.flag(default=None)
    is_success: bool | None = fields.flag(default=None)
    error_message: str | None = fields.text(max_chars=TEXT_CHARS, default=None)
    #: None is sent as null; leave it out to send nothing.
    error_code: float | fields.Unset | None = fields.number(default=fields.UNSET)
    wallet_address: str | None = fields.text(max_chars=ID_CHARS, default=None, personal=True)
    wallet_type: str | None = fields.text(max_chars=NAME_CHARS, default=None)
    wallet_version: str | None = fields.text(max_chars=NAME_CHARS, default=None)
    #: 0 ton_addr, 1 ton_proof.
    auth_type: Literal[0, 1] | None = fields.one_of(0, 1, default=None)
    valid_until: str | None = fields.text(max_chars=NAME_CHARS, default=None)
    #: Wallet address that starts the transaction; ``from`` on the wire.
    from_: str | None = fields.text(max_chars=ID_CHARS, default=None, wire="from", personal=True)
    messages: Sequence[Message] | None = fields.items("address", "amount", max_chars=ID_CHARS, default=None)
    custom_data: Mapping[str, Any] | None = fields.json_object(default=None)
    #: Epoch milliseconds, as a string.
    client_timestamp: str | None = fields.text(
        max_chars=14,
        default=None,
        pattern="[0-9]{13,14}",
        rule="epoch milliseconds as a string of digits",
        shown="plain",
    )
    platform: str | None = fields.text(max_chars=NAME_CHARS, default=None)
    locale: str | None = fields.text(max_chars=NAME_CHARS, default=None)
    start_param: str | None = fields.text(max_chars=NAME_CHARS, default=None)
    url_referer: str | None = fields.text(max_chars=TEXT_CHARS, default=None)
    scope: str | None = fields.text(max_chars=NAME_CHARS, default=None)

    def _rules(self) -> list[tuple[str, str]]:
        if self.event_name not in KNOWN_NAMES:
            warnings.warn("tganalytics.Event: event_name is not in the provider's list", UnknownEventName, stacklevel=4)
        return []

    def _time_value(self, now_s: float) -> str:
        return str(int(now_s * 1000))
