from __future__ import annotations

import contextlib
import http.client
import json
import threading

import pytest

SALE = {"user_id": "1", "event_type": "sale"}


@pytest.mark.parametrize("code", ["400", "401", "402", "403", "404", "409", "422", "429", "500", "503"])
def test_status(client, sandbox, code):
    """A status is worded as the provider words it, and nothing is recorded."""
    sandbox.fault(code, count=1)
    answer = client.tgtrack("add_event", SALE)
    assert (answer.status, answer.json()["error_code"]) == (int(code), int(code))
    assert (sandbox.ledger()[0].fault, sandbox.events()) == (code, [])
    assert client.tgtrack("add_event", SALE).status == 200


def test_status_in_body_style(client, sandbox):
    """A provider that hides errors in HTTP 200 hides this one too."""
    sandbox.set_errors("tgtrack", "body")
    sandbox.fault(503)
    answer = client.tgtrack("add_event", SALE)
    assert (answer.status, answer.json()["error_code"]) == (200, 503)


@pytest.mark.parametrize("retry_after", [7, "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_retry_after(client, sandbox, retry_after):
    """A 429 may say when to come back."""
    sandbox.fault(429, retry_after=retry_after)
    assert client.tgtrack("add_event", SALE).headers["retry-after"] == str(retry_after)


def test_no_retry_after(client, sandbox):
    """By default a 429 says nothing more."""
    sandbox.fault(429)
    assert "retry-after" not in client.tgtrack("add_event", SALE).headers


@pytest.mark.parametrize(("kind", "recorded"), [("reset_before", 0), ("reset_after", 1)])
def test_reset(client, sandbox, kind, recorded):
    """The connection is reset, before or after the event was recorded."""
    sandbox.fault(kind, count=1)
    with pytest.raises(ConnectionResetError):
        client.tgtrack("add_event", SALE)
    assert len(sandbox.events()) == recorded
    assert (sandbox.ledger()[0].status, sandbox.stats()["unanswered"]) == (None, 1)


@pytest.mark.parametrize(("kind", "recorded"), [("close_before", 0), ("close_after", 1)])
def test_close(client, sandbox, kind, recorded):
    """The connection ends without an answer."""
    sandbox.fault(kind, count=1)
    with pytest.raises(http.client.RemoteDisconnected):
        client.tgtrack("add_event", SALE)
    assert len(sandbox.events()) == recorded


@pytest.mark.parametrize(("kind", "recorded"), [("timeout_before", 0), ("timeout_after", 1)])
def test_timeout(client, sandbox, kind, recorded):
    """Nothing is answered in time, before or after the event was recorded."""
    sandbox.fault(kind, count=1)
    client.connection.timeout = 0.1
    with pytest.raises(TimeoutError):
        client.tgtrack("add_event", SALE)
    assert len(sandbox.events()) == recorded


def test_held_until_removed(client, sandbox):
    """A held connection is let go when its fault is removed: with the answer, if the event was
    recorded.
    """
    sandbox.fault("timeout_after")
    replies = []
    thread = threading.Thread(target=lambda: replies.append(client.tgtrack("add_event", SALE)))
    thread.start()
    sandbox.wait_for(lambda s: s.stats()["recorded"] == 1)
    assert replies == []
    sandbox.clear_faults()
    thread.join(10)
    assert replies[0].json()["status"] == "OK"


def test_held_for_seconds(client, sandbox):
    """A hold of given length ends by itself; without a record the connection then closes."""
    sandbox.fault("timeout_before", seconds=0.01)
    with pytest.raises(http.client.RemoteDisconnected):
        client.tgtrack("add_event", SALE)


def test_slow_drip(client, sandbox):
    """A dripping body arrives whole in the end."""
    sandbox.fault("slow_drip", seconds=0.02)
    assert client.tgtrack("add_event", SALE).json() == {"status": "OK", "mode": "production"}
    assert len(sandbox.events()) == 1


def test_truncated(client, sandbox):
    """Half a body, then the end."""
    sandbox.fault("truncated")
    with pytest.raises(http.client.IncompleteRead):
        client.tgtrack("add_event", SALE)
    assert len(sandbox.events()) == 1


@pytest.mark.parametrize(
    ("kind", "status", "recorded"),
    [
        ("garbage", 200, 1),
        ("empty", 200, 1),
        ("html_502", 502, 0),
        ("203", 203, 0),
        ("redirect", 302, 0),
        ("failed_to_record", 400, 0),
    ],
)
def test_strange_answers(client, sandbox, kind, status, recorded):
    """Each strange answer has its status and leaves its trace or none."""
    sandbox.fault(kind)
    answer = client.tgtrack("add_event", SALE)
    assert (answer.status, len(sandbox.events())) == (status, recorded)


@pytest.mark.parametrize("kind", ["garbage", "empty", "html_502", "203"])
def test_not_json(client, sandbox, kind):
    """Strange answers are not JSON."""
    sandbox.fault(kind)
    with pytest.raises(ValueError, match=r"."):
        json.loads(client.tgtrack("add_event", SALE).body)


@pytest.mark.parametrize(
    ("kind", "recorded"), [("garbage", False), ("203", True), ("500", True), ("reset_before", True)]
)
def test_recorded_chosen(client, sandbox, kind, recorded):
    """Whether the event is recorded all the same can be chosen."""
    sandbox.fault(kind, recorded=recorded, count=1)
    with contextlib.suppress(ConnectionResetError):
        client.tgtrack("add_event", SALE)
    assert len(sandbox.events()) == recorded


def test_redirect_followed(client, sandbox):
    """A client that follows the redirect leaves a trace."""
    sandbox.fault("redirect", count=1)
    client.get(client.tgtrack("add_event", SALE).headers["location"])
    assert [record.method for record in sandbox.ledger()] == ["add_event", "redirected"]


def test_own_answer(client, sandbox):
    """Any status and body can be answered."""
    sandbox.fault("status", status=418, body="short and stout", content_type="text/plain", headers={"X-Tea": "1"})
    answer = client.tgtrack("add_event", SALE)
    assert (answer.status, answer.body, answer.headers["x-tea"]) == (418, b"short and stout", "1")


def test_invalid_event_stays_unrecorded(client, sandbox):
    """A fault after recording records nothing that the provider would have refused."""
    sandbox.fault("empty")
    client.tgtrack("add_event", {})
    assert sandbox.events() == []


@pytest.mark.parametrize(
    "rule",
    [
        {"provider": "mytracker"},
        {"key": "OTHER"},
        {"method": "send_reach_goal"},
        {"contains": "poison"},
        {"account": "shop"},
        {"count": 0},
    ],
)
def test_not_matching(client, sandbox, rule):
    """A fault leaves alone what it does not match."""
    sandbox.fault("500", **rule)
    assert client.tgtrack("add_event", SALE).status == 200


@pytest.mark.parametrize(
    "rule",
    [{"provider": "tgtrack"}, {"key": "KEY"}, {"method": "add_event"}, {"contains": '"sale"'}, {"account": "main"}],
)
def test_matching(make, connect, rule):
    """A fault hits by provider, key, account, method and a part of the body."""
    sandbox = make(keys={"tgtrack": {"main": "KEY"}})
    sandbox.fault("500", **rule)
    assert connect(sandbox).tgtrack("add_event", SALE).status == 500


def test_count_and_skip(client, sandbox):
    """A fault may let some requests pass, and ends after its count."""
    fault = sandbox.fault("500", skip=1, count=2)
    assert [client.tgtrack("add_event", SALE).status for _ in range(4)] == [200, 500, 500, 200]
    assert fault.hits == 2


def test_probability(make, connect):
    """A fault may hit by chance."""
    sandbox = make(seed=1)
    client = connect(sandbox)
    sandbox.fault("500", probability=0.5)
    assert {client.tgtrack("add_event", SALE).status for _ in range(50)} == {200, 500}


def test_one_removed(client, sandbox):
    """One fault can be removed, and the next in force takes over."""
    first = sandbox.fault("500")
    sandbox.fault("503")
    sandbox.clear_faults(first)
    assert client.tgtrack("add_event", SALE).status == 503


def test_quota_before_fault(make, connect):
    """A request over the limit is refused by the quota and uses up no fault."""
    sandbox = make(limits={"tgtrack": "1/day"})
    client = connect(sandbox)
    fault = sandbox.fault("500")
    assert [client.tgtrack("add_event", SALE).status for _ in range(2)] == [500, 429]
    assert fault.hits == 1


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "explode"},
        {"kind": "99"},
        {"kind": "status"},
        {"kind": "500", "color": 1},
        {"kind": "500", "count": "1"},
        {"kind": "500", "count": True},
        {"kind": "500", "provider": "nobody"},
        {"kind": "500", "headers": []},
        {"kind": ""},
    ],
)
def test_bad_fault(sandbox, rule):
    """A fault that makes no sense is refused at once."""
    with pytest.raises(ValueError, match=r"fault|provider"):
        sandbox.fault(**rule)
