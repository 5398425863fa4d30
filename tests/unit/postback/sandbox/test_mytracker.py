from __future__ import annotations

import json

import pytest

LOGIN = {"customUserId": "1111", "lvid": "0" * 32}
CUSTOM = {
    "customUserId": "1",
    "customEventName": "levelUp",
    "customEventParams": {"level": "2"},
    "idGender": "1",
    "age": "25",
    "eventTimestamp": "1580213208",
    "instanceId": "00000000-0000-0000-0000-000000000000",
}
OK = '{"message": "\u041eK"}'.encode()


@pytest.mark.parametrize(("method", "event"), [("registration", LOGIN), ("login", LOGIN), ("customEvent", CUSTOM)])
def test_single(client, sandbox, method, event):
    """A single event is answered with the documented text, whose O is Cyrillic, and recorded for
    its idApp.
    """
    answer = client.mytracker(method, event)
    assert (answer.status, answer.body) == (200, OK)
    assert sandbox.events("mytracker") == [event]
    assert sandbox.ledger()[0].account == "666"


@pytest.mark.parametrize(
    ("method", "event"), [("registrationBatch", LOGIN), ("loginBatch", LOGIN), ("customEventBatch", CUSTOM)]
)
def test_batch(client, sandbox, method, event):
    """A batch of twenty is recorded as twenty events in one request."""
    events = [{**event, "customUserId": str(n)} for n in range(20)]
    assert client.mytracker(method, events).body == OK
    assert sandbox.events() == events
    assert (sandbox.stats()["recorded"], sandbox.stats()["events"]) == (1, 20)


def test_batch_all_or_nothing(client, sandbox):
    """One invalid event refuses the whole batch, and the ledger says which one it was."""
    answer = client.mytracker("loginBatch", [LOGIN, {**LOGIN, "age": 129}, LOGIN])
    assert (answer.status, answer.json()) == (400, {"error": "Bad Request"})
    assert sandbox.events() == []
    assert "[1] age" in sandbox.ledger()[0].reason


@pytest.mark.parametrize("batch", [[], [LOGIN] * 21, LOGIN, [1], [[LOGIN]]])
def test_bad_batch(client, batch):
    """A batch is an array of 1 to 20 objects."""
    answer = client.mytracker("loginBatch", batch)
    assert (answer.status, answer.json()) == (400, {"error": "Bad Request"})


@pytest.mark.parametrize("size", [10240, 10241])
def test_body_limit(client, size):
    """A body may have 10 Kb, and not a byte more."""
    body = json.dumps({**CUSTOM, "customEventParams": {}}).encode()
    body += b" " * (size - len(body))
    assert client.mytracker("customEvent", body).status == (200 if size == 10240 else 400)


@pytest.mark.parametrize(
    "wrong",
    [
        {"customUserId": None},
        {"customUserId": ""},
        {"customUserId": 5},
        {"customUserId": "x" * 1025},
        {"eventTimestamp": 946673999},
        {"eventTimestamp": 1580213208000},
        {"eventTimestamp": "soon"},
        {"eventTimestamp": 1580213208.5},
        {"eventTimestamp": True},
        {"ipv4": "1" * 16},
        {"ipv6": "1" * 46},
        {"idGender": 3},
        {"idGender": -1},
        {"age": 129},
        {"connectionType": 3},
        {"bluetoothEnabled": 3},
        {"adTrackingEnabled": 2},
        {"adBlocker": 2},
        {"instanceId": "0" * 35},
        {"idfa": "0" * 37},
        {"iosVendorId": ""},
        {"gaid": "0"},
        {"appSetId": "0"},
        {"lvid": "0" * 36},
        {"androidId": "0" * 15},
        {"userAgent": "x" * 2049},
        {"vkPlatform": "phone"},
        {"vkPlatform": []},
        {"customEventName": ""},
        {"customEventName": "x" * 256},
        {"customEventParams": []},
        {"customEventParams": {"level": 2}},
        {"customEventParams": {"": "2"}},
        {"customEventParams": {"level": ""}},
        {"customEventParams": {"level": "x" * 256}},
    ],
)
def test_bad_field(client, sandbox, wrong):
    """Every bound of the document is kept; the reason names the field."""
    answer = client.mytracker("customEvent", CUSTOM | wrong)
    assert (answer.status, answer.json()) == (400, {"error": "Bad Request"})
    assert next(iter(wrong)) in sandbox.ledger()[0].reason


@pytest.mark.parametrize(
    ("method", "event"),
    [
        ("login", {}),
        ("login", {"lvid": "0" * 32}),
        ("login", {"customPlatformUserId": "1"}),
        ("customEvent", {"customEventName": "x"}),
        ("customEvent", {"customUserId": "1"}),
        ("customEvent", {"customEventName": "x", "customPlatformUserId": "1", "vkPlatform": "desktop_web"}),
        ("login", []),
    ],
)
def test_identity(client, method, event):
    """An event without its required identity is refused."""
    assert client.mytracker(method, event).status == 400


@pytest.mark.parametrize(
    ("method", "event"),
    [
        ("login", {"customPlatformUserId": "1", "vkPlatform": "desktop_web"}),
        ("customEvent", {"customEventName": "x", "androidId": "0" * 16}),
        ("customEvent", {"customEventName": "x", "customUserId": "1", "eventTimestamp": 1580213208, "age": 128}),
    ],
)
def test_other_identities(client, method, event):
    """VK's identifier, a device and plain JSON numbers are taken."""
    assert client.mytracker(method, event).status == 200


@pytest.mark.parametrize(("body", "text"), [(b"", "Empty post data"), (b"{", "Bad json"), (b"\xff", "Bad json")])
def test_bad_bodies(client, body, text):
    """An empty body and one that is not JSON have texts of their own."""
    answer = client.mytracker("login", body)
    assert (answer.status, answer.json()) == (400, {"error": text})


def test_version(client):
    """Another version of a known method is refused."""
    answer = client.post("/v2/login/?idApp=666", LOGIN, {"Authorization": "TOKEN"})
    assert (answer.status, answer.json()) == (400, {"error": "Bad api version"})


def test_unknown_method(client):
    """An unknown method is 404."""
    answer = client.mytracker("logout", LOGIN)
    assert (answer.status, answer.json()) == (404, {"error": "Method not found"})


@pytest.mark.parametrize(
    ("token", "query"),
    [(None, "?idApp=666"), ("Bearer TOKEN", "?idApp=666"), ("TOKEN", ""), ("TOKEN", "?idApp=x"), ("BAD", "?idApp=666")],
)
def test_forbidden(client, sandbox, token, query):
    """No token, a token with a scheme, no idApp and a revoked token are all 403."""
    sandbox.revoke("mytracker", "BAD")
    answer = client.mytracker("login", LOGIN, token, query)
    assert (answer.status, answer.json()) == (403, {"error": "Forbidden"})


def test_scope(client, sandbox):
    """A token tied to one idApp is forbidden for another."""
    sandbox.scope("mytracker", "TOKEN", "666")
    assert client.mytracker("login", LOGIN).status == 200
    assert client.mytracker("login", LOGIN, query="?idApp=667").status == 403


def test_no_limits(client, sandbox):
    """The document knows no limit, so there is none."""
    assert {client.mytracker("login", LOGIN).status for _ in range(50)} == {200}


def test_configured_limit(make, connect):
    """A configured limit counts each idApp for itself."""
    client = connect(make(limits={"mytracker": "1/day"}))
    assert [client.mytracker("login", LOGIN).status for _ in range(2)] == [200, 429]
    assert client.mytracker("login", LOGIN, query="?idApp=667").status == 200


def test_refused_in_batch(client, sandbox):
    """A rule refuses a valid event alone and inside a batch, for good."""
    sandbox.refuse("mytracker", "customUserId", "poison")
    batch = [LOGIN, {**LOGIN, "customUserId": "poison"}]
    assert client.mytracker("loginBatch", batch).json() == {"error": "Bad Request"}
    assert client.mytracker("login", batch[1]).status == 400
    assert client.mytracker("loginBatch", [LOGIN]).status == 200
    sandbox.clear_refusals()
    assert client.mytracker("loginBatch", batch).status == 200
