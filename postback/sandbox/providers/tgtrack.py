"""TGTrack's bot API: twelve methods, the key in the path, errors by HTTP status or inside HTTP 200.

Source: tgtrack-bot-api. Its table of errors gives the descriptions; 400 is "syntax errors or
insufficient data", 422 "did not pass validation". Whether the HTTP status mirrors ``error_code`` is
not said there, so both occur.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final
from urllib.parse import unquote
from zlib import crc32

from ..access import Access
from ..exchange import Accepted, Answer, BadJSON, Call, Refused, Request, fingerprint, json_answer, parse_json
from ..provider import ERROR_STYLE, Option, Provider, is_int, is_number, unknown_fields

#: error_code -> error_description. Source: tgtrack-bot-api, "СПИСОК ОШИБОК".
ERRORS: Final = {
    400: "Bad request",
    401: "Invalid token",
    402: "Token expired",
    403: "Forbidden",
    404: "Method not found",
    405: "Resource not found",
    409: "Data conflict",
    415: "Unsupported media type",
    422: "Unprocessable entity",
    429: "Too many requests",
    500: "Internal server error",
    503: "Service unavailable",
}

_MODES: Final = ("production", "sandbox")

#: the latest unix time that fits 32 bits; a date in milliseconds lies beyond it
_MAX_DATE: Final = 4294967295


def _string(value: Any) -> str:
    return "" if isinstance(value, str) else "must be a string"


def _filled(value: Any) -> str:
    return "" if isinstance(value, str) and value else "must be a non-empty string"


def _date(value: Any) -> str:
    return "" if is_int(value) and 0 <= value <= _MAX_DATE else "must be unix time in seconds (int)"


def _result(value: Any) -> str:
    return "" if value in ("in_progress", "success", "failure") else "must be in_progress, success or failure"


def _amount(value: Any) -> str:
    return "" if is_number(value) else "must be a number"


def _labels(value: Any) -> str:
    if not isinstance(value, list):
        return "must be an array of {name, value}"
    for label in value:
        if (
            not isinstance(label, dict)
            or not isinstance(label.get("name"), str)
            or not isinstance(label.get("value"), str)
        ):
            return "must be an array of {name, value}, both strings"
    return ""


def _webhook(value: Any) -> str:
    return "" if isinstance(value, (dict, str)) and value else "must be Telegram's webhook"


def _update(value: Any) -> str:
    return "" if is_int(value) else "must be an integer"


_Check = Callable[[Any], str]
#: method -> field -> (required, check that returns what is wrong or ""). Methods without fields
#: take any object.
_METHODS: Final[dict[str, dict[str, tuple[bool, _Check]]]] = {
    "on_telegram_webhook": {"update_id": (True, _update)},
    "my_bot_was_started": {"start_value": (True, _string)},
    "my_bot_was_stopped": {"user_id": (True, _filled), "date": (False, _date)},
    "my_bothelp_was_started": {},
    "win_win_was_started": {},
    "sambot_on_tg_webhook": {"webhook": (True, _webhook)},
    "on_toolsy_event": {},
    "on_send_pulse_event": {},
    "user_did_start_bot": {
        "user_id": (True, _filled),
        "first_name": (True, _string),
        "last_name": (False, _string),
        "username": (False, _string),
        "full_name": (False, _string),
        "start_value": (False, _string),
    },
    "send_reach_goal": {"user_id": (True, _filled), "target": (True, _filled)},
    "add_event": {
        "user_id": (True, _filled),
        "event_type": (True, _filled),
        "event_result": (False, _result),
        "date": (False, _date),
        "conversion_target": (False, _string),
        "amount": (False, _amount),
        "labels": (False, _labels),
    },
    "get_user_info": {"user_id": (True, _filled)},
}
#: methods whose unknown fields are worth a note; the others carry somebody else's payload
_TYPED: Final = {
    method: frozenset(fields)
    for method, fields in _METHODS.items()
    if fields and method not in ("on_telegram_webhook", "sambot_on_tg_webhook")
}


class TGTrack(Provider):
    """TGTrack."""

    name: ClassVar[str] = "tgtrack"
    event_code: ClassVar[int] = 422
    options: ClassVar[tuple[Option, ...]] = (ERROR_STYLE, Option("mode", _MODES, "mode in TGTrack's answers"))
    controls: ClassVar[Mapping[str, str]] = {"mode": "set_mode", "user": "set_user"}
    telling_fields: ClassVar[tuple[str, ...]] = ("event_type", "event_result", "target")
    person_fields: ClassVar[tuple[str, ...]] = ("user_id",)
    account_lines: ClassVar[tuple[str, ...]] = ('api_key = "any-key"',)

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._mode = "production"
        self._modes: dict[str, str] = {}
        self._users: dict[str, dict[str, Any]] = {}

    def set_mode(self, mode: str, key: str | None = None) -> None:
        """Set the ``mode`` of answers for a key or (None) for all others.

        It is ``production`` or ``sandbox``.

        Raises:
            ValueError: another mode.
        """
        if mode not in _MODES:
            raise ValueError(f"mode {mode!r} is neither {' nor '.join(_MODES)}")
        if key is None:
            self._mode = mode
        else:
            self._modes[fingerprint(key)] = mode

    def set_user(self, user_id: str, data: Mapping[str, Any] | None = None, **fields: Any) -> None:
        """Set fields of get_user_info's answer for a user, in a mapping or by name.

        Raises:
            ValueError: the user is no text, or the data are no mapping.
        """
        if not isinstance(user_id, str) or not user_id:
            raise ValueError("user_id must be a non-empty string")
        if data is not None and not isinstance(data, Mapping):
            raise ValueError("data must be an object")
        self._users[user_id] = {**(data or {}), **fields}

    def limits(self, call: Call) -> str:
        """Source: tgtrack-bot-api, "Лимиты на использование API"."""
        return "3/second; 500/hour; 5000/day"

    def route(self, request: Request) -> Call | None:
        """``/v1/<key>/<method>``."""
        segments = request.segments
        if len(segments) != 3 or segments[0] != "v1" or not segments[1]:
            return None
        method = segments[2]
        known = method if method in _METHODS else "unknown"
        return Call(self.name, known, f"/v1/<key>/{known}", unquote(segments[1]))

    def accept(self, call: Call, request: Request, access: Access) -> Accepted:
        """Judge by the document's table of each method."""
        fields = _METHODS.get(call.method)
        if fields is None:
            raise self._refused(404, call, "no such method")
        if request.http_method != "POST":
            raise self._refused(405, call, "data are sent by POST")
        if "json" not in request.headers.get("content-type", "").lower():
            raise self._refused(415, call, "Content-Type is not application/json")
        try:
            event = parse_json(request.body)
        except BadJSON as error:
            raise self._refused(400, call, "the body is not JSON") from error
        if not isinstance(event, dict):
            raise self._refused(400, call, "the body is not a JSON object")
        for name, (required, check) in fields.items():
            if name in event:
                wrong = check(event[name])
                if wrong:
                    raise self._refused(422, call, f"{name} {wrong}")
            elif required:
                raise self._refused(400, call, f"{name} is missing")
        typed = _TYPED.get(call.method)
        note = unknown_fields((event,), typed) if typed and not event.keys() <= typed else ""
        if call.method == "get_user_info":
            return Accepted(self._ok(call, self._user(event["user_id"])), [event], records=False, note=note)
        return Accepted(self._ok(call), [event], note=note)

    def error(self, code: int, call: Call, detail: str = "") -> Answer:
        """The document's error envelope."""
        body: dict[str, Any] = {
            "status": "error",
            "mode": self._modes.get(call.key, self._mode),
            "error_code": code,
            "error_description": ERRORS.get(code, "Error"),
        }
        if detail:
            body["error_details"] = detail
        return json_answer(200 if self.in_body(call) else code, body, code=code)

    def clear(self) -> None:
        """Forget users set by tests."""
        self._users.clear()

    def _ok(self, call: Call, data: dict[str, Any] | None = None) -> Answer:
        body: dict[str, Any] = {"status": "OK"}
        if data is not None:
            body["data"] = data
        body["mode"] = self._modes.get(call.key, self._mode)
        return json_answer(200, body)

    def _refused(self, code: int, call: Call, reason: str) -> Refused:
        return Refused(self.error(code, call, reason), reason)

    def _user(self, user_id: str) -> dict[str, Any]:
        joined = 1680387078 + crc32(user_id.encode("utf-8", "surrogatepass")) % 31_536_000
        return {
            "user_id": user_id,
            "first_join_date": joined,
            "last_join_date": joined,
            "invite_link": "Яндекс.Директ",
            "left_date": 0,
            "first_name": "Вася",
            "last_name": "",
            "username": "vasya",
            "utm_source": "test_source",
            "utm_medium": "test_medium",
            "utm_campaign": "test_campaign",
        } | self._users.get(user_id, {})
