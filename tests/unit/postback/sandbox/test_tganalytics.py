from __future__ import annotations

import gzip
import json

import pytest

from postback.sandbox.providers.tganalytics import EVENT_NAMES
from postback.tganalytics import KNOWN_NAMES

EVENT = {
    "event_name": "app-init",
    "session_id": "10c574d9-6d2c-4e6d-a141-ce6da141ce6d",
    "user_id": 111111111,
    "app_name": "docs",
    "is_premium": True,
    "platform": "tdesktop",
    "locale": "en",
    "client_timestamp": "1743503599534",
}


@pytest.mark.parametrize("body", [EVENT, [EVENT], [EVENT, EVENT | {"error_code": None, "custom_data": {"a": 1}}]])
def test_recorded(client, sandbox, body):
    """One event or an array is recorded with 201."""
    answer = client.tganalytics(body)
    assert (answer.status, answer.json()) == (201, {"message": "Success record."})
    assert sandbox.events("tganalytics") == (body if isinstance(body, list) else [body])


@pytest.mark.parametrize(
    "wrong",
    [
        {"user_id": "1"},
        {"user_id": True},
        {"event_name": ""},
        {"event_name": 1},
        {"session_id": "1234"},
        {"session_id": 5},
        {"app_name": None},
        {"is_premium": "true"},
        {"is_success": 1},
        {"error_message": 5},
        {"error_code": "5"},
        {"wallet_address": 1},
        {"auth_type": 2},
        {"auth_type": "0"},
        {"auth_type": "ton"},
        {"auth_type": None},
        {"auth_type": True},
        {"valid_until": 1743503599},
        {"from": 1},
        {"messages": {"address": "a", "amount": "1"}},
        {"messages": [{"address": "a", "amount": 1}]},
        {"messages": [{"address": None}]},
        {"custom_data": []},
        {"client_timestamp": 1743503599534},
        {"client_timestamp": "1743503599"},
        {"client_timestamp": "now"},
        {"locale": None},
    ],
)
def test_bad_field(client, wrong):
    """A field of the wrong type refuses the whole array with a validation report that names the
    field.
    """
    answer = client.tganalytics([EVENT, EVENT | wrong])
    assert (answer.status, answer.json()["status"]) == (400, 400)
    assert answer.json()["message"].startswith(f"VALIDATION_MISMATCH_REPORT: [1] {next(iter(wrong))} ")


@pytest.mark.parametrize("field", ["user_id", "event_name", "session_id", "app_name"])
def test_required(client, sandbox, field):
    """Each required field is missed."""
    answer = client.tganalytics({name: value for name, value in EVENT.items() if name != field})
    assert field in answer.json()["message"]
    assert sandbox.events() == []


@pytest.mark.parametrize("body", [b"", b"{", [], [1], 5])
def test_bad_body(client, body):
    """What is no event and no array of events is refused with a report."""
    assert client.tganalytics(body).json()["message"].startswith("VALIDATION_MISMATCH_REPORT")


def test_media_type(client):
    """A body that does not say it is JSON is not read."""
    assert client.tganalytics(EVENT, headers={"Content-Type": "text/plain"}).status == 400


@pytest.mark.parametrize("token", [None, "two words"])
def test_token_missing(client, token):
    """A missing or malformed token has its own message."""
    answer = client.tganalytics(EVENT, token)
    message = "The token is not specified in the headers or is specified incorrectly."
    assert (answer.status, answer.json()) == (400, {"message": message})


def test_token_invalid(client, sandbox):
    """A revoked token has its own message."""
    sandbox.revoke("tganalytics", "TOKEN")
    answer = client.tganalytics(EVENT)
    assert (answer.status, answer.json()) == (400, {"message": "Token is invalid."})


def test_app_name(client, sandbox):
    """An app_name that is not the token's has its own message."""
    sandbox.scope("tganalytics", "TOKEN", "other")
    answer = client.tganalytics(EVENT)
    assert (answer.status, answer.json()) == (400, {"message": "Invalid app_name is specified."})


def test_failed_to_record(client, sandbox):
    """The server's own failure is the fifth 400."""
    sandbox.fault("failed_to_record", provider="tganalytics", count=1)
    answer = client.tganalytics(EVENT)
    assert (answer.status, answer.json()) == (400, {"message": "Failed to record"})
    assert client.tganalytics(EVENT).status == 201


@pytest.mark.parametrize(
    ("kind", "message"), [("403", "The domain name does not match."), ("429", "Too many requests. Try again later.")]
)
def test_documented_statuses(client, sandbox, kind, message):
    """403 and 429 have the document's messages."""
    sandbox.fault(kind)
    answer = client.tganalytics(EVENT)
    assert (answer.status, answer.json()) == (int(kind), {"message": message})


def test_unknown_name(client, sandbox):
    """An event name outside the known ones is recorded and noted."""
    assert client.tganalytics(EVENT | {"event_name": "purchase"}).status == 201
    assert "event_name" in sandbox.ledger()[0].reason


def test_get(client):
    """GET is no way to record."""
    assert client.get("/events", TGA_Auth_Token="TOKEN").status == 404


def test_refusal_rule(client, sandbox):
    """A rule refuses one event of an array with a validation report."""
    sandbox.refuse("tganalytics", "user_id", 13)
    answer = client.tganalytics([EVENT, EVENT | {"user_id": 13}])
    assert answer.json()["message"].startswith("VALIDATION_MISMATCH_REPORT")
    assert client.tganalytics([EVENT]).status == 201


#: What TON Connect says of a wallet that it does not know, and of a purchase.
FORWARDED = (
    {"wallet_address": None, "wallet_type": None, "wallet_version": None, "wallet_state_init": None, "trace_id": None},
    {"auth_type": "ton_addr"},
    {"auth_type": "ton_proof", "signed_transaction": "te6c"},
    {"valid_until": None, "from": None, "messages": [{"address": None, "amount": None}]},
    {"event_name": "purchase-init", "slug": "a1"},
    {"event_name": "register-invoice", "slug": "a1", "payload": "p", "prices": [{"label": "Tea", "amount": 10}]},
)


@pytest.mark.parametrize("fields", FORWARDED)
def test_forwarded(client, sandbox, fields):
    """What the browser SDK forwards is recorded without a note, although the document lacks it."""
    assert client.tganalytics([EVENT | fields]).status == 201
    assert sandbox.ledger()[0].reason == "recorded"


def test_names():
    """The sandbox and the SDK know the same event names."""
    assert EVENT_NAMES == KNOWN_NAMES


def test_thresholds(client, sandbox):
    """The browser SDK asks without a token how often a session may send an event."""
    answer = client.get("/events/threshold")
    assert (answer.status, answer.json()) == (200, {"app-hide": 3})
    assert (sandbox.events(), sandbox.ledger()[0].reason) == ([], "answered")


def test_thresholds_are_read_only(client):
    """Nothing is posted to the thresholds."""
    assert client.post("/events/threshold", {}).status == 404


def test_fingerprint(client, sandbox):
    """The browser SDK's fingerprint of a wallet is answered; it is no event."""
    body = {"app_name": "docs", "wallet_address": "0:ab", "request_id": "1"}
    assert client.post("/events/fingerprint", body).status == 400
    assert client.send("POST", "/events/fingerprint", body, {"TGA-Auth-Token": "TOKEN"}).status == 201
    assert sandbox.events() == []


def test_other_address(client):
    """Nothing else below the events is the provider's."""
    assert client.get("/events/thresholds").status == 404


PACKED = {"Content-Type": "application/json", "Content-Encoding": "gzip"}


def test_compressed(client, sandbox):
    """A compressed array is recorded as what is in it."""
    body = [EVENT, EVENT | {"event_name": "app-hide"}]
    assert client.tganalytics(gzip.compress(json.dumps(body).encode()), headers=PACKED).status == 201
    assert sandbox.events("tganalytics") == body


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "is compressed and damaged"),
        (json.dumps([EVENT]).encode(), "is compressed and damaged"),
        (gzip.compress(json.dumps([EVENT]).encode())[:-9], "is compressed and damaged"),
        (gzip.compress(bytes(9_000_000)), "has more than 8388608 bytes when it is decompressed"),
    ],
    ids=["empty", "plain", "cut", "bomb"],
)
def test_badly_compressed(client, sandbox, body, problem):
    """A compressed body that cannot be read is refused; answer and ledger say why, and the
    connection goes on.
    """
    answer = client.tganalytics(body, headers=PACKED)
    reason = f"Content-Encoding is gzip, but the body {problem}"
    assert (answer.status, answer.json()["message"]) == (400, f"VALIDATION_MISMATCH_REPORT: {reason}")
    assert (sandbox.ledger()[0].reason, sandbox.events()) == (reason, [])
    assert client.tganalytics(EVENT).status == 201


def test_preflight(client, sandbox):
    """A browser is told that its page may send any header; that takes no token, meets no fault and
    is no event.
    """
    fault = sandbox.fault(503, count=1)
    headers = {"Origin": "http://localhost:5173", "Access-Control-Request-Method": "POST"}
    answer = client.send("OPTIONS", "/events", headers=headers)
    allowed = [answer.headers[f"access-control-allow-{name}"] for name in ("origin", "headers")]
    assert (answer.status, answer.body, allowed, fault.hits) == (200, b"", ["*", "*"], 0)
    assert (sandbox.events(), sandbox.ledger()[0].recorded) == ([], False)


@pytest.mark.parametrize("kind", ["503", "429", "html_502", "failed_to_record"])
def test_page_reads_every_answer(client, sandbox, kind):
    """A page in a browser may read an error too, or the SDK would take it for a lost connection."""
    sandbox.fault(kind, count=1)
    assert client.tganalytics(EVENT).headers["access-control-allow-origin"] == "*"
    assert client.tganalytics(EVENT, token=None).headers["access-control-allow-origin"] == "*"
