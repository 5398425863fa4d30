"""Telegram Analytics: one event or an array to ``/events``; five different answers with status 400.

Source: tganalytics-events. From the official browser SDK (npm @telegram-apps/analytics 1.6.4) comes
what that document lacks (*ext*): event names (others are recorded, with a note), gzip, thresholds,
fingerprints, and the fields that it forwards from TON Connect (npm @tonconnect/sdk 3.4.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar, Final

from ..access import Access
from ..exchange import Accepted, Answer, BadJSON, Call, Refused, Request, json_answer, parse_json
from ..provider import Provider, is_int, is_number, unknown_fields

FAILED_TO_RECORD: Final = "Failed to record"
TOKEN_MISSING: Final = "The token is not specified in the headers or is specified incorrectly."
TOKEN_INVALID: Final = "Token is invalid."
APP_NAME_INVALID: Final = "Invalid app_name is specified."
DOMAIN_MISMATCH: Final = "The domain name does not match."
TOO_MANY: Final = "Too many requests. Try again later."

#: written down here too, so that a mistake in the SDK's list shows
EVENT_NAMES: Final = frozenset(
    {
        "app-init", "app-hide", "custom-event", "connection-started", "connection-completed", "connection-error",
        "connection-restoring-started", "connection-restoring-completed", "connection-restoring-error",
        "transaction-sent-for-signature", "transaction-signed", "transaction-signing-failed", "disconnection",
        "purchase-init", "purchase-success", "purchase-failed", "purchase-cancelled", "refund-issued",
        "subscription-started", "subscription-renewed", "subscription-cancelled", "register-invoice",
        "ADDITIONAL_TASK_EVENT",
    }
)  # fmt: skip
#: how often a session may send an event, unbounded without an entry; the SDK's own default
THRESHOLDS: Final = {"app-hide": 3}
_METHODS: Final = {"/events": "events", "/events/threshold": "threshold", "/events/fingerprint": "fingerprint"}
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
#: fewer digits cannot be milliseconds of a time since 2001
_MIN_MS_DIGITS: Final = 12


def _boolean(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be a boolean"


def _string(value: Any) -> str:
    return "" if isinstance(value, str) else "must be a string"


def _string_or_null(value: Any) -> str:
    return "" if value is None or isinstance(value, str) else "must be a string or null"


def _filled(value: Any) -> str:
    return "" if isinstance(value, str) and value else "must be a non-empty string"


def _number(value: Any) -> str:
    return "" if is_number(value) else "must be a number"


def _error_code(value: Any) -> str:
    return "" if value is None or is_number(value) else "must be a number or null"


def _uuid(value: Any) -> str:
    return "" if isinstance(value, str) and _UUID.fullmatch(value) else "must be a UUID"


def _auth_type(value: Any) -> str:
    good = value in ("ton_addr", "ton_proof") or (is_int(value) and value in (0, 1))
    return "" if good else "must be 0 or 1, or ton_addr or ton_proof"


def _object(value: Any) -> str:
    return "" if isinstance(value, dict) else "must be an object"


def _messages(value: Any) -> str:
    good = isinstance(value, list) and all(
        isinstance(item, dict) and not any(_string_or_null(item.get(name, 0)) for name in ("address", "amount"))
        for item in value
    )
    return "" if good else "must be an array of {address, amount}, both strings or null"


def _timestamp(value: Any) -> str:
    good = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) >= _MIN_MS_DIGITS
    return "" if good else "must be a string of epoch milliseconds"


_Check = Callable[[Any], str]
_REQUIRED: Final = ("user_id", "event_name", "session_id", "app_name")
_FIELDS: Final[dict[str, _Check]] = {
    "user_id": _number,
    "event_name": _filled,
    "session_id": _uuid,
    "app_name": _filled,
    "is_premium": _boolean,
    "is_success": _boolean,
    "error_message": _string,
    "error_code": _error_code,
    "wallet_address": _string_or_null,
    "wallet_type": _string_or_null,
    "wallet_version": _string_or_null,
    "auth_type": _auth_type,
    "valid_until": _string_or_null,
    "from": _string_or_null,
    "messages": _messages,
    "custom_data": _object,
    "client_timestamp": _timestamp,
    "platform": _string,
    "locale": _string,
    "start_param": _string,
    "url_referer": _string,
    "scope": _string,
}
#: sent by TON Connect, with purchase-… and with register-invoice; no document says what is right
_UNCHECKED: Final = frozenset(
    {
        "signed_transaction", "trace_id", "wallet_state_init", "slug", "business_connection_id", "title", "description",
        "payload", "provider_token", "currency", "prices", "subscription_period", "max_tip_amount",
        "suggested_tip_amounts", "provider_data", "photo_url", "photo_size", "photo_width", "photo_height", "need_name",
        "need_phone_number", "need_email", "need_shipping_address", "send_phone_number_to_provider",
        "send_email_to_provider", "is_flexible",
    }
)  # fmt: skip
_NAMES: Final = frozenset(_FIELDS) | _UNCHECKED


def _wrong(event: Any) -> str:
    """What is wrong with one event, ``""`` if nothing."""
    if not isinstance(event, dict):
        return "event must be an object"
    for name in _REQUIRED:
        if name not in event:
            return f"{name} is required"
    for name, value in event.items():
        check = _FIELDS.get(name)
        wrong = check(value) if check else ""
        if wrong:
            return f"{name} {wrong}"
    return ""


class TGAnalytics(Provider):
    """Telegram Analytics."""

    name: ClassVar[str] = "tganalytics"
    cross_origin: ClassVar[bool] = True
    telling_fields: ClassVar[tuple[str, ...]] = ("event_name", "app_name")
    person_fields: ClassVar[tuple[str, ...]] = ("user_id",)
    account_lines: ClassVar[tuple[str, ...]] = ('token = "any-token"', 'app_name = "docs"')

    def route(self, request: Request) -> Call | None:
        """``/events`` and what the SDK has below it."""
        path = request.path.rstrip("/")
        method = _METHODS.get(path)
        return None if method is None else Call(self.name, method, path, request.headers.get("tga-auth-token"))

    def authorise(self, call: Call, access: Access) -> None:
        """A missing token and an invalid one have answers of their own; thresholds need none."""
        if call.method == "threshold":
            return
        if not call.credential or any(letter.isspace() for letter in call.credential):
            raise Refused(_message(400, TOKEN_MISSING), "the token is missing or malformed")
        if access.refusal(self.name, call.key) is not None:
            raise Refused(_message(400, TOKEN_INVALID), "the credential is refused")

    def accept(self, call: Call, request: Request, access: Access) -> Accepted:
        """Judge all events; one that does not satisfy the scheme refuses the whole array."""
        wanted = "GET" if call.method == "threshold" else "POST"
        if request.http_method != wanted:
            raise Refused(_message(404, "Not Found"), f"{call.path} wants {wanted}")
        if call.method == "threshold":
            return Accepted(json_answer(200, THRESHOLDS), [], records=False)
        if call.method == "fingerprint":
            return Accepted(_message(201, "Success record."), [], records=False, note="a fingerprint is not judged")
        return self._judge(call, request, access)

    def _judge(self, call: Call, request: Request, access: Access) -> Accepted:
        if "json" not in request.headers.get("content-type", "").lower():
            raise self._mismatch("Content-Type is not application/json")
        try:
            parsed = parse_json(request.body)
        except BadJSON as error:
            raise self._mismatch("the body is not JSON") from error
        events = parsed if isinstance(parsed, list) else [parsed]
        if not events:
            raise self._mismatch("the array is empty")
        for index, event in enumerate(events):
            wrong = _wrong(event)
            if wrong:
                raise self._mismatch(f"[{index}] {wrong}" if isinstance(parsed, list) else wrong)
        app_name = access.scope_of(self.name, call.key)
        if app_name is not None and any(event["app_name"] != app_name for event in events):
            raise Refused(_message(400, APP_NAME_INVALID), "app_name is not the token's")
        note = unknown_fields(events, _NAMES)
        if not note and any(event["event_name"] not in EVENT_NAMES for event in events):
            note = "event_name is none of the known names"
        return Accepted(_message(201, "Success record."), events, note=note)

    def error(self, code: int, call: Call, detail: str = "") -> Answer:
        """The document's message for a status.

        401 stands for its ``Token is invalid.`` with status 400.
        """
        if code == 401:
            return _message(400, TOKEN_INVALID)
        if code == 400:
            return self._mismatch(detail or "refused").answer
        return _message(code, {403: DOMAIN_MISMATCH, 429: TOO_MANY, 500: "Internal server error"}.get(code, "Error"))

    def _mismatch(self, report: str) -> Refused:
        # VALIDATION_MISMATCH_REPORT stands in the document for a report whose wording it does not
        # give.
        return Refused(json_answer(400, {"status": 400, "message": f"VALIDATION_MISMATCH_REPORT: {report}"}), report)


def _message(status: int, text: str) -> Answer:
    return json_answer(status, {"message": text})
