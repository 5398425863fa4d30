"""myTracker. Source: myTracker, Import events."""

from __future__ import annotations

from postback import mytracker
from tasks.outcomes import Outcome
from tests.contract.cases import AnswerCase, RequestCase, refusals

PROVIDER = "mytracker"
ACCOUNT = {"id_app": 666, "token": "skjdfASFasf03asdffar3asJHB32r"}
SECRETS = ("skjdfASFasf03asdffar3asJHB32r",)
SECRETS_TRAVEL_IN = "headers"

_HEADERS = {"Authorization": "skjdfASFasf03asdffar3asJHB32r", "Content-Type": "application/json"}
_LVID = "0" * 32

REQUESTS = [
    RequestCase(
        "customEvent, the document's curl",
        lambda: [
            mytracker.CustomEvent.load(
                {
                    "customUserId": "1",
                    "customEventName": "levelUp",
                    "customEventParams": {"level": "2"},
                    "idGender": "1",
                    "age": "25",
                    "eventTimestamp": "1580213208",
                    "instanceId": "00000000-0000-0000-0000-000000000000",
                }
            )
        ],
        "/v1/customEvent/?idApp=666",
        _HEADERS,
        {
            "customUserId": "1",
            "customEventName": "levelUp",
            "customEventParams": {"level": "2"},
            "idGender": 1,
            "age": 25,
            "eventTimestamp": 1580213208,
            "instanceId": "00000000-0000-0000-0000-000000000000",
        },
    ),
    RequestCase(
        "customEvent of a device",
        lambda: [mytracker.CustomEvent(custom_event_name="messageReceived", lvid=_LVID)],
        "/v1/customEvent/?idApp=666",
        _HEADERS,
        {"customEventName": "messageReceived", "lvid": _LVID, "eventTimestamp": 1580213208},
    ),
    RequestCase(
        "registration",
        lambda: [mytracker.Registration(custom_user_id="1234", event_timestamp=1577191920)],
        "/v1/registration/?idApp=666",
        _HEADERS,
        {"customUserId": "1234", "eventTimestamp": 1577191920},
    ),
    RequestCase(
        "registration from VK Mini Apps",
        lambda: [mytracker.Registration(custom_platform_user_id="12345", vk_platform="desktop_web")],
        "/v1/registration/?idApp=666",
        _HEADERS,
        {"customPlatformUserId": "12345", "vkPlatform": "desktop_web", "eventTimestamp": 1580213208},
    ),
    RequestCase(
        "login",
        lambda: [mytracker.Login(custom_user_id="юзер", id_gender=2, ad_tracking_enabled=0)],
        "/v1/login/?idApp=666",
        _HEADERS,
        {"customUserId": "юзер", "idGender": 2, "adTrackingEnabled": 0, "eventTimestamp": 1580213208},
    ),
    RequestCase(
        "registrationBatch is a bare array",
        lambda: [mytracker.Registration(custom_user_id=user, lvid=_LVID) for user in ("1111", "2222")],
        "/v1/registrationBatch/?idApp=666",
        _HEADERS,
        [
            {"customUserId": "1111", "lvid": _LVID, "eventTimestamp": 1580213208},
            {"customUserId": "2222", "lvid": _LVID, "eventTimestamp": 1580213208},
        ],
    ),
    RequestCase(
        "loginBatch of twenty",
        lambda: [mytracker.Login(custom_user_id=str(number), event_timestamp=1577191920) for number in range(20)],
        "/v1/loginBatch/?idApp=666",
        _HEADERS,
        [{"customUserId": str(number), "eventTimestamp": 1577191920} for number in range(20)],
    ),
    RequestCase(
        "customEventBatch",
        lambda: [
            mytracker.CustomEvent(custom_user_id=user, custom_event_name="messageReceived", event_timestamp=1577191920)
            for user in ("1111", "2222")
        ],
        "/v1/customEventBatch/?idApp=666",
        _HEADERS,
        [
            {"customUserId": user, "customEventName": "messageReceived", "eventTimestamp": 1577191920}
            for user in ("1111", "2222")
        ],
    ),
]

#: The document's own success text: its О is Cyrillic.
_OK = '{"message": "\u041eK"}'.encode()

SUCCESS = AnswerCase("ОK with a Cyrillic О", 200, _OK, Outcome.DELIVERED, method="custom_event")
SUCCESS_STATUSES = frozenset({200})

_CODES = {
    **dict.fromkeys((400, 404, 405, 409, 413, 415, 422), Outcome.REJECTED),
    **dict.fromkeys((401, 403), Outcome.CREDENTIALS),
    429: Outcome.QUOTA,
    **dict.fromkeys((500, 502, 503, 504, 599), Outcome.RETRY),
    **dict.fromkeys((202, 204, 302, 408), Outcome.AMBIGUOUS),
}

ANSWERS = [
    SUCCESS,
    AnswerCase("OK with a Latin O", 200, {"message": "OK"}, Outcome.DELIVERED),
    AnswerCase("a batch of twenty", 200, _OK, Outcome.DELIVERED, events=20),
    AnswerCase("fields that we do not know", 200, {"message": "done", "id": 1}, Outcome.DELIVERED),
    AnswerCase("Bad Request", 400, {"error": "Bad Request"}, Outcome.REJECTED, detail="Bad Request"),
    AnswerCase("Bad Request of a batch", 400, {"error": "Bad Request"}, Outcome.REJECTED, events=20),
    AnswerCase("Empty post data", 400, {"error": "Empty post data"}, Outcome.REJECTED, detail="Empty post data"),
    AnswerCase("Bad json", 400, {"error": "Bad json"}, Outcome.REJECTED, detail="Bad json"),
    AnswerCase("Bad api version", 400, {"error": "Bad api version"}, Outcome.REJECTED, detail="Bad api version"),
    AnswerCase("Forbidden", 403, {"error": "Forbidden"}, Outcome.CREDENTIALS, detail="Forbidden"),
    AnswerCase("Method not found", 404, {"error": "Method not found"}, Outcome.REJECTED, detail="Method not found"),
    AnswerCase("Internal Server Error", 500, {"error": "Internal Server Error"}, Outcome.RETRY),
    *refusals(_CODES, lambda code: {"error": f"code {code}"}, style="as HTTP status"),
    *refusals(_CODES, lambda code: b"<html>no JSON</html>", style="as HTML"),
    *refusals(_CODES, lambda code: {"message": "\u041eK"}, style="that says ОK"),
    AnswerCase("200 that says Bad Request", 200, {"error": "Bad Request"}, Outcome.AMBIGUOUS, detail="Bad Request"),
    AnswerCase("200 that says both", 200, {"message": "\u041eK", "error": "x"}, Outcome.AMBIGUOUS),
    AnswerCase("200 with an error that is null", 200, {"message": "\u041eK", "error": None}, Outcome.AMBIGUOUS),
    AnswerCase("200 with a message that is no text", 200, {"message": {"O": "K"}}, Outcome.AMBIGUOUS),
    AnswerCase("200 with an empty object", 200, {}, Outcome.AMBIGUOUS),
    AnswerCase("200 with the bare text", 200, "\u041eK".encode(), Outcome.AMBIGUOUS),
    AnswerCase("201 that says ОK", 201, _OK, Outcome.AMBIGUOUS),
]
