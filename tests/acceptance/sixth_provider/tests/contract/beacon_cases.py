"""Beacon. Source: Beacon, "Reporting visits" and "Answers"."""

from __future__ import annotations

from postback import beacon
from tasks.outcomes import Outcome
from tests.contract.cases import NOW_S, AnswerCase, RequestCase, refusals

PROVIDER = "beacon"
ACCOUNT = {"key": "beacon-key-1"}
SECRETS = ("beacon-key-1",)
SECRETS_TRAVEL_IN = "headers"

_HEADERS = {"Content-Type": "application/json", "X-Beacon-Key": "beacon-key-1"}

REQUESTS = [
    RequestCase(
        "the document's example",
        lambda: [beacon.Visit(visitor="v-17", page="/prices", at=1_580_213_208)],
        "/eu/visits",
        _HEADERS,
        {"visitor": "v-17", "page": "/prices", "at": 1_580_213_208},
    ),
    RequestCase(
        "in another region, its time filled in",
        lambda: [beacon.Visit(visitor="v-17", page="/")],
        "/us/visits",
        _HEADERS,
        {"visitor": "v-17", "page": "/", "at": int(NOW_S)},
        account={"region": "us"},
    ),
]

SUCCESS = AnswerCase("success", 202, {"accepted": 1}, Outcome.DELIVERED, method="visit")
SUCCESS_STATUSES = frozenset({202})

_CODES = {
    **dict.fromkeys((401, 403), Outcome.CREDENTIALS),
    **dict.fromkeys((400, 404, 422), Outcome.REJECTED),
    429: Outcome.QUOTA,
    **dict.fromkeys((500, 503), Outcome.RETRY),
    **dict.fromkeys((200, 201, 302, 408), Outcome.AMBIGUOUS),
}

ANSWERS = [
    SUCCESS,
    *refusals(_CODES, lambda code: {"reason": f"error {code}"}, style="as HTTP status"),
    *refusals(_CODES, lambda code: {"accepted": 1}, style="that says accepted"),
    AnswerCase("its words", 422, {"reason": "no such page"}, Outcome.REJECTED, detail="no such page"),
    AnswerCase("nothing accepted", 202, {"accepted": 0}, Outcome.AMBIGUOUS),
    AnswerCase("true is not one", 202, {"accepted": "1"}, Outcome.AMBIGUOUS),
]
