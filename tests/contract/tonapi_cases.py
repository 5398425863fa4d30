"""TonAPI. Source: TonAPI, Get event."""

from __future__ import annotations

from typing import Any

from postback import tonapi
from tasks.outcomes import Outcome
from tests.contract.cases import AnswerCase, RequestCase, refusals

PROVIDER = "tonapi"
ACCOUNT = {"token": "AF-token-of-a-plan"}
SECRETS = ("AF-token-of-a-plan",)
SECRETS_TRAVEL_IN = "headers"

_ID = "97264395BD65A255A429B11326C84128B7D70FFED7949ABAE3036D506BA38621"
_PATH = f"/v2/events/{_ID.lower()}"
_HEADERS = {"Accept": "application/json", "Authorization": "Bearer AF-token-of-a-plan"}
_ANONYMOUS = {"Accept": "application/json"}

REQUESTS = [
    RequestCase(
        "in Russian",
        lambda: [tonapi.GetEvent(event_id=_ID, accept_language="ru-RU,ru;q=0.5")],
        _PATH,
        {**_HEADERS, "Accept-Language": "ru-RU,ru;q=0.5"},
        None,
        "GET",
    ),
    RequestCase("in no language", lambda: [tonapi.GetEvent(event_id=_ID)], _PATH, _HEADERS, None, "GET"),
    RequestCase(
        "a language that begins with a space",
        lambda: [tonapi.GetEvent(event_id=_ID, accept_language=" ru ")],
        _PATH,
        {**_HEADERS, "Accept-Language": "ru"},
        None,
        "GET",
    ),
    RequestCase(
        "a language of spaces only",
        lambda: [tonapi.GetEvent(event_id=_ID, accept_language="  ")],
        _PATH,
        _HEADERS,
        None,
        "GET",
    ),
    RequestCase(
        "an id in base64url",
        lambda: [tonapi.GetEvent(event_id="lyZDlb1lolWkKbETJshBKLfXD_7XlJq64wNtUGujhiE=")],
        _PATH,
        _HEADERS,
        None,
        "GET",
    ),
    RequestCase(
        "without a token",
        lambda: [tonapi.GetEvent(event_id=_ID)],
        _PATH,
        _ANONYMOUS,
        None,
        "GET",
        account={"token": None},
    ),
    RequestCase(
        "base_url as the document writes it",
        lambda: [tonapi.GetEvent(event_id=_ID)],
        _PATH,
        _HEADERS,
        None,
        "GET",
        account={"base_url": "https://tonapi.io/v2"},
    ),
]

#: The document's example, cut to one of each.
_EVENT: dict[str, Any] = {
    "event_id": "e8b0e3fee4a26bd2317ac1f9952fcdc87dc08fdb617656b5202416323337372e",
    "timestamp": 1234567890,
    "actions": [{"type": "TonTransfer", "status": "ok", "simple_preview": {"name": "Ton Transfer", "value": "5 Ton"}}],
    "value_flow": [{"account": {"address": "0:10C1073837B93FDA", "is_scam": True}, "ton": 80, "fees": 10}],
    "is_scam": False,
    "lt": 25713146000001,
    "in_progress": False,
    "progress": 0.5,
    "last_slice_id": 12345678,
    "ext_msg_hash": "a1b2c3d4e5f6789012345678901234567890abcdef1234567890abcdef123456",
}
_RUNNING = {**_EVENT, "in_progress": True, "last_slice_id": None}
_UNKNOWN = {**_EVENT, "a_new_field": [1, {"deep": None}], "actions": [{"type": "NotInventedYet"}]}

SUCCESS = AnswerCase("final", 200, _EVENT, Outcome.DELIVERED, method="get_event", data=_EVENT)
SUCCESS_STATUSES = frozenset({200})

_CODES = {
    **dict.fromkeys((400, 405, 406, 413, 414, 422), Outcome.REJECTED),
    **dict.fromkeys((401, 402, 403), Outcome.CREDENTIALS),
    429: Outcome.QUOTA,
    **dict.fromkeys((500, 501, 502, 503, 504), Outcome.RETRY),
    **dict.fromkeys((202, 203, 204, 206, 301, 304, 404, 408), Outcome.AMBIGUOUS),
}

ANSWERS = [
    SUCCESS,
    AnswerCase("final with fields that we do not know", 200, _UNKNOWN, Outcome.DELIVERED, data=_UNKNOWN),
    AnswerCase("final without actions", 200, {"event_id": "e8", "in_progress": False}, Outcome.DELIVERED,
               data={"event_id": "e8", "in_progress": False}),
    AnswerCase("final with a huge number", 200, {**_EVENT, "lt": 10**300}, Outcome.DELIVERED,
               data={**_EVENT, "lt": 10**300}),
    AnswerCase("in progress", 200, _RUNNING, Outcome.PENDING, detail="not finished"),
    AnswerCase("in progress at 1.0", 200, {**_RUNNING, "progress": 1}, Outcome.PENDING),
    AnswerCase("404 entity not found", 404, {"error": "entity not found"}, Outcome.PENDING, detail="entity not found"),
    AnswerCase("404 Entity not found, Error", 404, {"Error": "Entity not found"}, Outcome.PENDING),
    AnswerCase("404 more than one transaction", 404, {"error": "more than one transaction"}, Outcome.REJECTED,
               detail="more than one transaction"),
    AnswerCase("404 more than one transaction, Error", 404, {"Error": "more than one transaction"}, Outcome.REJECTED),
    AnswerCase("404 of a gateway", 404, b"404 page not found", Outcome.AMBIGUOUS),
    AnswerCase("404 entity not found as text", 404, b"entity not found", Outcome.AMBIGUOUS),
    AnswerCase("404 with an error that is no text", 404, {"error": {"code": 1}}, Outcome.AMBIGUOUS),
    AnswerCase("200 that says entity not found", 200, {"error": "entity not found"}, Outcome.AMBIGUOUS),
    *refusals(_CODES, lambda code: {"error": f"code {code}"}, style="with error"),
    *refusals(_CODES, lambda code: {"Error": f"code {code}"}, style="with Error", detail="code"),
    *refusals(_CODES, lambda code: b"<html>no JSON</html>", style="as HTML"),
    *refusals(_CODES, lambda code: _EVENT, style="with a final event"),
    AnswerCase("in_progress missing", 200, {"event_id": "e8", "actions": []}, Outcome.AMBIGUOUS),
    AnswerCase("in_progress as text", 200, {**_EVENT, "in_progress": "false"}, Outcome.AMBIGUOUS),
    AnswerCase("in_progress null", 200, {**_EVENT, "in_progress": None}, Outcome.AMBIGUOUS),
    AnswerCase("in_progress 0", 200, {**_EVENT, "in_progress": 0}, Outcome.AMBIGUOUS),
    AnswerCase("event_id missing", 200, {"in_progress": False}, Outcome.AMBIGUOUS),
    AnswerCase("several events", 200, {"events": [_EVENT]}, Outcome.AMBIGUOUS),
    AnswerCase("a number that is none", 200, b'{"event_id": "e8", "in_progress": false, "lt": NaN}', Outcome.AMBIGUOUS),
]  # fmt: skip
