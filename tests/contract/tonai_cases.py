"""TON AI. Source: TON AI, API for Reporting Conversion Events."""

from __future__ import annotations

from postback import tonai
from tasks.outcomes import Outcome
from tests.contract.cases import AnswerCase, RequestCase, refusals

PROVIDER = "tonai"
ACCOUNT = {"api_key": "YOUR_API_KEY_HERE", "environment": "staging"}
SECRETS = ("YOUR_API_KEY_HERE",)
SECRETS_TRAVEL_IN = "headers"

_PATH = "/api/v2/openapi/exchange/event/report/conversion"
_HEADERS = {"Accept": "application/json", "Content-Type": "application/json", "x-api-key": "YOUR_API_KEY_HERE"}
_BODY = {"eventType": "conversion", "eventData": {"telegramUserId": "1728125519"}}

REQUESTS = [
    RequestCase("the document's curl", lambda: [tonai.Conversion.load(_BODY)], _PATH, _HEADERS, _BODY),
    RequestCase(
        "in production",
        lambda: [tonai.Conversion(telegram_user_id="1728125519")],
        _PATH,
        _HEADERS,
        _BODY,
        account={"environment": "production"},
    ),
    RequestCase(
        "at another address",
        lambda: [tonai.Conversion(telegram_user_id="17")],
        _PATH,
        _HEADERS,
        b'{"eventType":"conversion","eventData":{"telegramUserId":"17"}}',
        account={"environment": None, "base_url": "http://127.0.0.1:8900/"},
    ),
]

SUCCESS = AnswerCase("success", 200, {"status": "success"}, Outcome.DELIVERED, method="conversion")
SUCCESS_STATUSES = frozenset({200})

_CODES = {
    **dict.fromkeys((401, 403), Outcome.CREDENTIALS),
    **dict.fromkeys((400, 402, 404, 405, 409, 413, 415, 422), Outcome.REJECTED),
    429: Outcome.QUOTA,
    **dict.fromkeys((500, 502, 503, 504), Outcome.RETRY),
    **dict.fromkeys((201, 202, 204, 302, 307, 408), Outcome.AMBIGUOUS),
}
#: What may stand inside an HTTP 200 that is no success.
_FAILURES = dict.fromkeys((400, 401, 403, 404, 429, 500), Outcome.AMBIGUOUS)

ANSWERS = [
    SUCCESS,
    AnswerCase("success and more", 200, {"status": "success", "data": {"id": 1}}, Outcome.DELIVERED),
    *refusals(_CODES, lambda code: {"status": "error", "message": f"code {code}"}, style="as HTTP status"),
    *refusals(_CODES, lambda code: b"<html>no JSON</html>", style="as HTML"),
    *refusals(_CODES, lambda code: {"status": "success"}, style="that says success"),
    *refusals(_FAILURES, lambda code: {"status": "error", "code": code}, style="inside HTTP 200", status=200),
    AnswerCase("its words", 400, {"message": "unknown user"}, Outcome.REJECTED, detail="unknown user"),
    AnswerCase("its error", 400, {"error": "unknown user"}, Outcome.REJECTED, detail="unknown user"),
    AnswerCase("SUCCESS in capitals", 200, {"status": "SUCCESS"}, Outcome.AMBIGUOUS),
    AnswerCase("success with a Cyrillic letter", 200, {"status": "suc\u0441ess"}, Outcome.AMBIGUOUS),
    AnswerCase("success deeper inside", 200, {"data": {"status": "success"}}, Outcome.AMBIGUOUS),
    AnswerCase("success as a list", 200, {"status": ["success"]}, Outcome.AMBIGUOUS),
    AnswerCase("true", 200, {"status": True}, Outcome.AMBIGUOUS),
    AnswerCase("the bare word", 200, "success", Outcome.AMBIGUOUS),
    AnswerCase("an empty object", 200, {}, Outcome.AMBIGUOUS),
]
