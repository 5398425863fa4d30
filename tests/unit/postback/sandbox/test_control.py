from __future__ import annotations

import pytest

SALE = {"user_id": "1", "event_type": "sale"}
EVENT_ID = "97264395bd65a255a429b11326c84128b7d70ffed7949abae3036d506ba38621"


def test_ledger(client):
    """The ledger is read with filters; reading it leaves no trace in it."""
    client.tgtrack("add_event", SALE)
    client.tonai({})
    answer = client.get("/_sandbox/ledger?provider=tgtrack&recorded=1&since=0&last=5").json()
    assert [record["events"] for record in answer["records"]] == [[SALE]]
    assert answer["seq"] == 2


def test_stats(client):
    """Counts are read."""
    client.tgtrack("add_event", SALE)
    assert client.get("/_sandbox/stats").json()["providers"]["tgtrack"]["events"] == 1


def test_faults(client):
    """Faults are set, listed with their hits, and removed singly or all."""
    fault = client.post("/_sandbox/faults", {"kind": "500", "provider": "tgtrack", "key": "KEY"}).json()
    client.post("/_sandbox/faults", {"kind": "503"})
    assert client.tgtrack("add_event", SALE).status == 500
    assert [one["hits"] for one in client.get("/_sandbox/faults").json()["faults"]] == [1, 0]
    assert client.send("DELETE", f"/_sandbox/faults?id={fault['id']}").json() == {"removed": 1}
    assert client.tgtrack("add_event", SALE).status == 503
    assert client.send("DELETE", "/_sandbox/faults").json() == {"removed": 1}
    assert client.tgtrack("add_event", SALE).status == 200


def test_refuse(client):
    """A rule is set and removed."""
    client.post("/_sandbox/refuse", {"provider": "tgtrack", "field": "user_id", "value": "1"})
    assert client.tgtrack("add_event", SALE).status == 422
    client.send("DELETE", "/_sandbox/refuse")
    assert client.tgtrack("add_event", SALE).status == 200


def test_keys(client):
    """Keys are revoked, restored and tied."""
    client.post("/_sandbox/revoke", {"provider": "tgtrack", "key": "KEY", "code": 402})
    assert client.tgtrack("add_event", SALE).status == 402
    client.post("/_sandbox/restore", {"provider": "tgtrack", "key": "KEY"})
    assert client.tgtrack("add_event", SALE).status == 200
    client.post("/_sandbox/scope", {"provider": "mytracker", "key": "TOKEN", "scope": "1"})
    assert client.mytracker("login", {"customUserId": "1"}).status == 403


def test_settings(client):
    """Limits, error style, mode, duplicates and users are set."""
    client.post("/_sandbox/mode", {"mode": "sandbox", "key": "KEY"})
    client.post("/_sandbox/user", {"user_id": "1", "data": {"first_name": "Jane"}})
    answer = client.tgtrack("get_user_info", {"user_id": "1"}).json()
    assert (answer["mode"], answer["data"]["first_name"]) == ("sandbox", "Jane")
    client.post("/_sandbox/duplicates", {"provider": "tgtrack"})
    assert [client.tgtrack("add_event", SALE).status for _ in range(2)] == [200, 409]
    client.post("/_sandbox/errors", {"provider": "tgtrack", "style": "body"})
    assert client.tgtrack("add_event", SALE).status == 200
    client.post("/_sandbox/limits", {"provider": "tgtrack", "limits": "1/day", "key": "K2"})
    assert [client.tgtrack("add_event", SALE, key="K2").json().get("error_code") for _ in range(2)] == [None, 429]


def test_script(client):
    """TonAPI's answers are scripted."""
    client.post("/_sandbox/tonapi", {"event_id": EVENT_ID, "answers": [404, "final"]})
    assert [client.get(f"/v2/events/{EVENT_ID}").status for _ in range(2)] == [404, 200]


def test_reset(client):
    """Everything is forgotten."""
    client.tgtrack("add_event", SALE)
    client.post("/_sandbox/reset")
    assert client.get("/_sandbox/ledger").json()["records"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", {"kind": "explode"}),
        ("faults", {"kind": "500", "provider": "nobody"}),
        ("faults", []),
        ("faults", b"{"),
        ("refuse", {"provider": "tgtrack", "field": "a"}),
        ("refuse", {"provider": "tgtrack", "field": "a", "value": 1, "if": 2}),
        ("refuse", {"provider": "nobody", "field": "a", "value": 1}),
        ("refuse", {"provider": "tgtrack", "field": "a", "value": 1, "code": "400"}),
        ("revoke", {"provider": "tgtrack"}),
        ("revoke", {"provider": "tgtrack", "key": "K", "code": "401"}),
        ("restore", {"key": "K"}),
        ("scope", {"provider": "mytracker", "key": "K"}),
        ("limits", {"provider": "tgtrack", "limits": 3}),
        ("limits", {"provider": "tgtrack", "limits": "often"}),
        ("errors", {"provider": "mytracker", "style": "body"}),
        ("mode", {"mode": "test"}),
        ("mode", {}),
        ("mode", {"mode": "sandbox", "key": 5}),
        ("mode", {"mode": "sandbox", "color": "red"}),
        ("duplicates", {"provider": "nobody"}),
        ("tonapi", {"event_id": EVENT_ID}),
        ("tonapi", {"event_id": "1", "answers": []}),
        ("tonapi", {"event_id": EVENT_ID, "answers": "final"}),
        ("tonapi", {"event_id": 5, "answers": []}),
        ("user", {"user_id": "1", "data": 5}),
        ("user", {"user_id": 1, "data": {}}),
    ],
)
def test_mistakes(client, path, body):
    """A mistaken control request is a 400 with one sentence."""
    answer = client.post(f"/_sandbox/{path}", body)
    assert (answer.status, bool(answer.json()["error"])) == (400, True)


@pytest.mark.parametrize("query", ["color=1", "since=soon"])
def test_unknown_filter(client, query):
    """A filter that does not exist is not ignored."""
    assert client.get(f"/_sandbox/ledger?{query}").status == 400


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "nothing", 404), ("GET", "reset", 405), ("PUT", "faults", 405)]
)
def test_no_such_request(client, method, path, status):
    """What the control API does not have is said so."""
    assert client.send(method, f"/_sandbox/{path}").status == status


def test_other_origin(client):
    """A web page elsewhere cannot steer the sandbox."""
    answer = client.post("/_sandbox/reset", {}, {"Origin": "http://elsewhere.example"})
    assert answer.status == 403
