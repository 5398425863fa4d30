from __future__ import annotations

import pytest

CONVERSION = {"eventType": "conversion", "eventData": {"telegramUserId": "1728125519"}}


def test_success(client, sandbox):
    """A conversion is answered with status 200 and the documented body."""
    answer = client.tonai(CONVERSION)
    assert (answer.status, answer.json()) == (200, {"status": "success"})
    assert sandbox.events("tonai") == [CONVERSION]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        [],
        {},
        {"eventType": "click", "eventData": {"telegramUserId": "1"}},
        {"eventType": "conversion"},
        {"eventType": "conversion", "eventData": []},
        {"eventType": "conversion", "eventData": {}},
        {"eventType": "conversion", "eventData": {"telegramUserId": 1728125519}},
        {"eventType": "conversion", "eventData": {"telegramUserId": ""}},
        {"eventType": "conversion", "eventData": {"telegramUserId": "@name"}},
        {"eventType": "conversion", "eventData": {"telegramUserId": "١٢"}},
    ],
)
def test_refused(client, sandbox, body):
    """Anything but the documented body is refused."""
    assert client.tonai(body).status == 400
    assert sandbox.events() == []


@pytest.mark.parametrize("key", [None, "REVOKED"])
def test_key(client, sandbox, key):
    """A missing or revoked key is 401."""
    sandbox.revoke("tonai", "REVOKED")
    assert client.tonai(CONVERSION, key).status == 401


def test_error_inside_200(client, sandbox):
    """In the body style a failure comes with status 200, and is no success."""
    sandbox.set_errors("tonai", "body")
    answer = client.tonai({})
    assert (answer.status, answer.json()["status"]) == (200, "error")


def test_refusal_rule(client, sandbox):
    """A rule reaches into eventData."""
    sandbox.refuse("tonai", "eventData.telegramUserId", "1728125519")
    assert client.tonai(CONVERSION).status == 400


def test_needless_data_noted(client, sandbox):
    """Data beyond the essential are noted: "protect user privacy by transmitting only essential
    information".
    """
    client.tonai({**CONVERSION, "eventData": {"telegramUserId": "1", "name": "Jane"}})
    assert sandbox.ledger()[0].reason == "recorded; unknown fields ignored: name"


def test_get(client):
    """GET is no way to report."""
    assert client.get("/api/v2/openapi/exchange/event/report/conversion", x_api_key="KEY").status == 405
