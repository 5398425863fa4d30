from __future__ import annotations

import pytest

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
        {"auth_type": True},
        {"valid_until": 1743503599},
        {"from": 1},
        {"messages": {"address": "a", "amount": "1"}},
        {"messages": [{"address": "a", "amount": 1}]},
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
