"""TON AI: conversions of exchange tasks.

Source: tonai-conversion. Only the success is documented, as status 200 *and* ``{"status":
"success"}``; a failure may come as an HTTP error or inside HTTP 200, so both can be chosen.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from ..access import Access
from ..exchange import Accepted, Answer, BadJSON, Call, Refused, Request, json_answer, parse_json
from ..provider import ERROR_STYLE, Option, Provider, unknown_fields

_PATH: Final = "/api/v2/openapi/exchange/event/report/conversion"
_TEXTS: Final = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 429: "Too Many Requests"}
_BODY: Final = frozenset(("eventType", "eventData"))
_DATA: Final = frozenset(("telegramUserId",))


def _wrong(body: Any) -> str:
    """What is wrong with the body, ``""`` if nothing."""
    if not isinstance(body, dict):
        return "the body is not a JSON object"
    if body.get("eventType") != "conversion":
        return 'eventType must be "conversion"'
    data = body.get("eventData")
    if not isinstance(data, dict):
        return "eventData must be an object"
    user = data.get("telegramUserId")
    if not (isinstance(user, str) and user.isascii() and user.isdigit()):
        return "eventData.telegramUserId must be a string of digits"
    return ""


class TonAI(Provider):
    """TON AI."""

    name: ClassVar[str] = "tonai"
    options: ClassVar[tuple[Option, ...]] = (ERROR_STYLE,)
    telling_fields: ClassVar[tuple[str, ...]] = ("eventType",)
    person_fields: ClassVar[tuple[str, ...]] = ("telegramUserId",)
    account_lines: ClassVar[tuple[str, ...]] = ('api_key = "any-key"',)

    def route(self, request: Request) -> Call | None:
        """The conversion address."""
        if request.path != _PATH:
            return None
        return Call(self.name, "conversion", _PATH, request.headers.get("x-api-key"))

    def accept(self, call: Call, request: Request, access: Access) -> Accepted:
        """Judge by the document's two tables."""
        if request.http_method != "POST":
            raise self._refused(405, call, "conversions are sent by POST")
        if "json" not in request.headers.get("content-type", "").lower():
            raise self._refused(415, call, "Content-Type is not application/json")
        try:
            body = parse_json(request.body)
        except BadJSON as error:
            raise self._refused(400, call, "the body is not JSON") from error
        wrong = _wrong(body)
        if wrong:
            raise self._refused(400, call, wrong)
        note = unknown_fields((body,), _BODY) or unknown_fields((body["eventData"],), _DATA)
        return Accepted(json_answer(200, {"status": "success"}), [body], note=note)

    def error(self, code: int, call: Call, detail: str = "") -> Answer:
        """``{"status": "error", "message": …}``, by HTTP status or inside HTTP 200."""
        body = {
            "status": "error",
            "message": detail or _TEXTS.get(code, "Internal Server Error" if code >= 500 else "Error"),
        }
        return json_answer(200 if self.in_body(call) else code, body, code=code)

    def _refused(self, code: int, call: Call, reason: str) -> Refused:
        return Refused(self.error(code, call, reason), reason)
