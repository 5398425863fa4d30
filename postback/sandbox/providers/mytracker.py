"""myTracker's S2S API: registration, login and custom events, singly and in all-or-nothing batches.

Source: mytracker-import-events. What is not in it but known from elsewhere (VK Mini Apps'
identifier, the values of three switches) is marked *ext*.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs

from ..access import Access
from ..exchange import Accepted, Answer, BadJSON, Call, Refused, Request, json_answer, parse_json
from ..provider import Provider, unknown_fields

#: bytes. Source: "Limit on the maximum size of imported data — 10Kb".
MAX_BYTES: Final = 10240
#: events. Source: "Array. Maximum size 20".
MAX_BATCH: Final = 20
#: Source: "Status codes". The letter O of the success text is Cyrillic (U+041E).
OK: Final = '{"message": "\u041eK"}'.encode()
ERRORS: Final = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Method not found",
    429: "Too Many Requests",
    500: "Internal Server Error",
}

_METHODS: Final = {"registration", "login", "customEvent", "registrationBatch", "loginBatch", "customEventBatch"}
_DEVICES: Final = ("instanceId", "lvid", "gaid", "androidId", "appSetId", "idfa", "iosVendorId")
_VK_PLATFORMS: Final = frozenset(
    (
        "desktop_web",
        "mobile_web",
        "mobile_android",
        "mobile_android_messenger",
        "mobile_ipad",
        "mobile_iphone",
        "mobile_iphone_messenger",
    )
)

_Check = Callable[[Any], str]


def _number(low: int, high: int) -> _Check:
    def check(value: Any) -> str:
        # The document's examples send numbers as strings; plain JSON numbers are taken too.
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[:20])
        return "" if type(value) is int and low <= value <= high else f"must be a number from {low} to {high}"

    return check


def _text(low: int, high: int) -> _Check:
    wrong = (
        f"must be a string of {low} characters" if low == high else f"must be a string of {low} to {high} characters"
    )

    def check(value: Any) -> str:
        return "" if isinstance(value, str) and low <= len(value) <= high else wrong

    return check


def _vk_platform(value: Any) -> str:
    return "" if isinstance(value, str) and value in _VK_PLATFORMS else "is none of the VK platforms"


def _params(value: Any) -> str:
    if not isinstance(value, dict):
        return "must be an object"
    for name, param in value.items():
        if not (1 <= len(name) <= 255 and isinstance(param, str) and 1 <= len(param) <= 255):
            return "must map strings to strings, both of 1 to 255 characters"
    return ""


#: Source: "Parameters".
_COMMON: Final[dict[str, _Check]] = {
    "eventTimestamp": _number(946674000, 4294967295),
    "customUserId": _text(1, 1024),
    "ipv4": _text(0, 15),
    "ipv6": _text(0, 45),
    "idGender": _number(0, 2),
    "age": _number(0, 128),
    "connectionType": _number(0, 2),
    "bluetoothEnabled": _number(0, 2),  # ext
    "instanceId": _text(36, 36),
    "adTrackingEnabled": _number(0, 1),  # ext
    "idfa": _text(36, 36),
    "iosVendorId": _text(36, 36),
    "gaid": _text(36, 36),
    "appSetId": _text(36, 36),
    "androidId": _text(16, 16),
    "lvid": _text(32, 32),
    "adBlocker": _number(0, 1),  # ext
    "userAgent": _text(0, 2048),
    "customPlatformUserId": _text(1, 1024),
    "vkPlatform": _vk_platform,
}
#: Source: "customEvent".
_CUSTOM: Final[dict[str, _Check]] = _COMMON | {"customEventName": _text(1, 255), "customEventParams": _params}
_COMMON_NAMES: Final = frozenset(_COMMON)
_CUSTOM_NAMES: Final = frozenset(_CUSTOM)


def _wrong(event: Any, custom: bool) -> str:
    """What is wrong with one event, ``""`` if nothing."""
    if not isinstance(event, dict):
        return "is not a JSON object"
    checks = _CUSTOM if custom else _COMMON
    for name, value in event.items():
        check = checks.get(name)
        wrong = check(value) if check else ""
        if wrong:
            return f"{name} {wrong}"
    if custom:
        if "customEventName" not in event:
            return "customEventName is missing"
        if "customUserId" not in event and not any(device in event for device in _DEVICES):
            return "customUserId or a device identifier is missing"
    elif "customUserId" not in event and not ("customPlatformUserId" in event and "vkPlatform" in event):  # ext
        return "customUserId is missing"
    return ""


class MyTracker(Provider):
    """myTracker."""

    name: ClassVar[str] = "mytracker"
    telling_fields: ClassVar[tuple[str, ...]] = ("customEventName",)
    person_fields: ClassVar[tuple[str, ...]] = ("customUserId",)
    key_code: ClassVar[int] = 403
    account_lines: ClassVar[tuple[str, ...]] = ("id_app = 666", 'token = "any-token"')

    def route(self, request: Request) -> Call | None:
        """``/v1/<method>/?idApp=N``.

        Another version of a known method is answered with ``Bad api version``.
        """
        segments = request.segments
        if not 2 <= len(segments) <= 3 or (len(segments) == 3 and segments[2]) or not _is_version(segments[0]):
            return None
        query = parse_qs(request.query)
        if segments[1] not in _METHODS and "idApp" not in query:
            return None
        method = segments[1] if segments[1] in _METHODS else "unknown"
        id_app = query.get("idApp", [""])[0]
        id_app = id_app if id_app.isascii() and id_app.isdigit() else ""
        return Call(
            self.name, method, f"/{segments[0]}/{method}/", request.headers.get("authorization"), account=id_app
        )

    def authorise(self, call: Call, access: Access) -> None:
        """The token is sent raw, and belongs to one application."""
        super().authorise(call, access)
        if call.credential is None or " " in call.credential.strip():
            raise self._refused(403, call, "Authorization is the raw token, without a scheme")
        if not call.account:
            raise self._refused(403, call, "idApp is missing")
        if access.scope_of(self.name, call.key) not in (None, call.account):
            raise self._refused(403, call, "the token is not suitable for the application")

    def accept(self, call: Call, request: Request, access: Access) -> Accepted:
        """Judge by the document; one invalid event refuses the whole batch."""
        if not call.path.startswith("/v1/"):
            raise self._text_refused("Bad api version")
        if call.method == "unknown":
            raise self._refused(404, call, "no such method")
        if not request.body:
            raise self._text_refused("Empty post data")
        if len(request.body) > MAX_BYTES:
            raise self._refused(400, call, f"the body is over {MAX_BYTES} bytes")
        try:
            parsed = parse_json(request.body)
        except BadJSON as error:
            raise self._text_refused("Bad json") from error
        custom = call.method.startswith("customEvent")
        known = _CUSTOM_NAMES if custom else _COMMON_NAMES
        if not call.method.endswith("Batch"):
            wrong = _wrong(parsed, custom)
            if wrong:
                raise self._refused(400, call, wrong)
            return Accepted(Answer(200, OK), [parsed], note=unknown_fields((parsed,), known))
        if not isinstance(parsed, list) or not 1 <= len(parsed) <= MAX_BATCH:
            raise self._refused(400, call, f"a batch is an array of 1 to {MAX_BATCH} events")
        for index, event in enumerate(parsed):
            wrong = _wrong(event, custom)
            if wrong:
                raise self._refused(400, call, f"[{index}] {wrong}")
        return Accepted(Answer(200, OK), parsed, note=unknown_fields(parsed, known))

    def error(self, code: int, call: Call, detail: str = "") -> Answer:
        """The document's error body; it has no place for a detail."""
        return json_answer(code, {"error": ERRORS.get(code, "Error")})

    def _refused(self, code: int, call: Call, reason: str) -> Refused:
        return Refused(self.error(code, call), reason)

    def _text_refused(self, text: str) -> Refused:
        return Refused(Answer(400, json.dumps({"error": text}).encode()), text)


def _is_version(segment: str) -> bool:
    return segment[:1] == "v" and segment[1:].isascii() and segment[1:].isdigit()
