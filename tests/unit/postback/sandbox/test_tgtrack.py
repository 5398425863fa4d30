from __future__ import annotations

from typing import Any

import pytest

SALE = {"user_id": "987654321", "event_type": "sale"}
WRITES: dict[str, Any] = {
    "on_telegram_webhook": {"update_id": 1, "message": {}},
    "my_bot_was_started": {"start_value": ""},
    "my_bot_was_stopped": {"user_id": "1", "date": 1622520000},
    "my_bothelp_was_started": {"anything": [1]},
    "win_win_was_started": {},
    "sambot_on_tg_webhook": {"webhook": "{}"},
    "on_toolsy_event": {"x": None},
    "on_send_pulse_event": {"y": 1},
    "user_did_start_bot": {"user_id": "1", "first_name": "John"},
    "send_reach_goal": {"user_id": "1", "target": "userDidSharePhone"},
    "add_event": SALE,
}


@pytest.mark.parametrize("method", WRITES)
def test_writes(client, sandbox, method):
    """Each of the eleven writing methods answers the documented envelope and is recorded."""
    answer = client.tgtrack(method, WRITES[method])
    assert (answer.status, answer.json()) == (200, {"status": "OK", "mode": "production"})
    assert sandbox.events("tgtrack", method=method) == [WRITES[method]]


def test_user_info(client, sandbox):
    """get_user_info answers the documented fields, and records nothing."""
    sandbox.set_user("123456789", first_name="Jane", utm_source="ads")
    data = client.tgtrack("get_user_info", {"user_id": "123456789"}).json()["data"]
    assert data["user_id"] == "123456789"
    assert (data["first_name"], data["utm_source"], data["left_date"]) == ("Jane", "ads", 0)
    assert {"first_join_date", "last_join_date", "invite_link", "username"} <= data.keys()
    assert sandbox.events() == []
    assert sandbox.stats()["accepted"] == 1


def test_webhook_bytes(client, sandbox):
    """The raw bytes of a forwarded webhook are kept as they came."""
    raw = '{ "update_id":7,\n"text":"Привет"}'.encode()
    client.tgtrack("on_telegram_webhook", raw)
    assert sandbox.ledger()[0].body == raw


@pytest.mark.parametrize(
    ("method", "event", "code", "field"),
    [
        ("add_event", {"event_type": "sale"}, 400, "user_id"),
        ("add_event", {"user_id": "1"}, 400, "event_type"),
        ("add_event", SALE | {"user_id": 987654321}, 422, "user_id"),
        ("add_event", SALE | {"user_id": ""}, 422, "user_id"),
        ("add_event", SALE | {"date": 1622520000000}, 422, "date"),
        ("add_event", SALE | {"date": "1622520000"}, 422, "date"),
        ("add_event", SALE | {"date": True}, 422, "date"),
        ("add_event", SALE | {"amount": "1500"}, 422, "amount"),
        ("add_event", SALE | {"event_result": "done"}, 422, "event_result"),
        ("add_event", SALE | {"event_result": []}, 422, "event_result"),
        ("add_event", SALE | {"conversion_target": 1}, 422, "conversion_target"),
        ("add_event", SALE | {"labels": {"name": "a", "value": "b"}}, 422, "labels"),
        ("add_event", SALE | {"labels": [{"name": "a"}]}, 422, "labels"),
        ("add_event", SALE | {"labels": [{"name": "a", "value": 1}]}, 422, "labels"),
        ("my_bot_was_started", {}, 400, "start_value"),
        ("my_bot_was_started", {"start_value": None}, 422, "start_value"),
        ("my_bot_was_stopped", {"date": 1}, 400, "user_id"),
        ("my_bot_was_stopped", {"user_id": "1", "date": -1}, 422, "date"),
        ("user_did_start_bot", {"user_id": "1"}, 400, "first_name"),
        ("user_did_start_bot", {"user_id": "1", "first_name": "J", "username": 5}, 422, "username"),
        ("send_reach_goal", {"user_id": "1"}, 400, "target"),
        ("send_reach_goal", {"user_id": "1", "target": ""}, 422, "target"),
        ("sambot_on_tg_webhook", {}, 400, "webhook"),
        ("sambot_on_tg_webhook", {"webhook": 5}, 422, "webhook"),
        ("on_telegram_webhook", {"message": {}}, 400, "update_id"),
        ("on_telegram_webhook", {"update_id": "1"}, 422, "update_id"),
        ("get_user_info", {}, 400, "user_id"),
        ("on_toolsy_event", [], 400, "object"),
        ("add_event", [SALE], 400, "object"),
    ],
)
def test_refused(client, sandbox, method, event, code, field):
    """An invalid event is refused with the document's code and a detail that names the field;
    nothing is recorded.
    """
    answer = client.tgtrack(method, event)
    assert (answer.status, answer.json()["error_code"], answer.json()["status"]) == (code, code, "error")
    assert field in answer.json()["error_details"]
    assert sandbox.events() == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b'{"user_id": "\xff"}', b'{"user_id":"1","event_type":"s","amount":NaN}']
)
def test_not_json(client, body):
    """A body that is not JSON in UTF-8 is a bad request."""
    assert client.tgtrack("add_event", body).json()["error_code"] == 400


def test_deep_json(client):
    """A body nested beyond reason is a bad request, not a crash."""
    assert client.tgtrack("on_toolsy_event", b'{"a":' + b"[" * 200_000).json()["error_code"] == 400


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}])
def test_media_type(client, headers):
    """Another content type than JSON is refused with 415."""
    answer = client.tgtrack("add_event", SALE, headers=headers)
    assert (answer.status, answer.json()["error_description"]) == (415, "Unsupported media type")


def test_get(client):
    """GET is refused with 405."""
    answer = client.get("/v1/KEY/add_event")
    assert (answer.status, answer.json()["error_description"]) == (405, "Resource not found")


def test_unknown_method(client, sandbox):
    """An unknown method is 404, and its name stays out of the ledger."""
    answer = client.tgtrack("secretive", SALE)
    assert (answer.status, answer.json()["error_description"]) == (404, "Method not found")
    assert sandbox.ledger()[0].path == "/v1/<key>/unknown"


def test_error_in_body(client, sandbox):
    """In the body style an error travels inside HTTP 200, and counts by its own code."""
    sandbox.set_errors("tgtrack", "body")
    answer = client.tgtrack("add_event", {})
    assert (answer.status, answer.json()["error_code"]) == (200, 400)
    assert (sandbox.ledger()[0].status, sandbox.ledger()[0].code) == (200, 400)


def test_error_style_per_key(client, sandbox):
    """The style of one key is not that of another."""
    sandbox.set_errors("tgtrack", "body", key="A")
    assert (client.tgtrack("add_event", {}, key="A").status, client.tgtrack("add_event", {}, key="B").status) == (
        200,
        400,
    )


def test_mixed_errors(make, connect):
    """In the mixed style both occur."""
    client = connect(make(errors={"tgtrack": "mixed"}, seed=1))
    assert {client.tgtrack("add_event", {}).status for _ in range(50)} == {200, 400}


@pytest.mark.parametrize("style", ["http", "body"])
def test_over_limit(make, connect, style):
    """Over the limit the answer is 429 in either style."""
    client = connect(make(limits={"tgtrack": "1/day"}, errors={"tgtrack": style}))
    client.tgtrack("add_event", SALE)
    answer = client.tgtrack("add_event", SALE)
    assert (answer.status, answer.json()["error_code"]) == (429 if style == "http" else 200, 429)
    assert answer.json()["error_description"] == "Too many requests"


def test_default_limits(make, connect, clock):
    """By default a key has the documented three limits: the fourth request of a second is
    refused.
    """
    client = connect(make(limits={}, clock=clock))
    assert [client.tgtrack("add_event", SALE).status for _ in range(4)] == [200, 200, 200, 429]


def test_mode(client, sandbox):
    """The mode of the answers can be set for all keys and for one."""
    sandbox.set_mode("sandbox", key="TEST")
    assert client.tgtrack("add_event", SALE, key="TEST").json()["mode"] == "sandbox"
    assert client.tgtrack("add_event", {}, key="TEST").json()["mode"] == "sandbox"
    assert client.tgtrack("add_event", SALE).json()["mode"] == "production"


def test_duplicates(make, connect):
    """With duplicates watched, an identical body is a conflict; another body, key or method is
    not.
    """
    sandbox = make(duplicates=["tgtrack"])
    client = connect(sandbox)
    goal = {"user_id": "1", "target": "x"}
    assert client.tgtrack("send_reach_goal", goal).status == 200
    answer = client.tgtrack("send_reach_goal", goal)
    assert (answer.status, answer.json()["error_description"]) == (409, "Data conflict")
    assert client.tgtrack("send_reach_goal", goal | {"user_id": "2"}).status == 200
    assert client.tgtrack("send_reach_goal", goal, key="OTHER").status == 200
    assert len(sandbox.events()) == 3


def test_duplicates_later(client, sandbox):
    """Duplicates watched from now on are compared with what is already in the ledger."""
    client.tgtrack("add_event", SALE)
    sandbox.set_duplicates("tgtrack")
    assert client.tgtrack("add_event", SALE).status == 409
    sandbox.set_duplicates("tgtrack", on=False)
    assert client.tgtrack("add_event", SALE).status == 200


def test_unknown_fields_noted(client, sandbox):
    """A field that no document knows is ignored as the provider does, and noted for the
    developer.
    """
    assert client.tgtrack("add_event", SALE | {"evnt_result": "success", "a\nb": 1}).status == 200
    assert sandbox.ledger()[0].reason == "recorded; unknown fields ignored: ?, evnt_result"


def test_quoted_key(client, sandbox):
    """A percent-encoded key is the same key."""
    sandbox.revoke("tgtrack", "1:A")
    assert client.tgtrack("add_event", SALE, key="1%3AA").status == 401
