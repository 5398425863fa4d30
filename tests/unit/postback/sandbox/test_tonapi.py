from __future__ import annotations

import base64

import pytest

EVENT_ID = "97264395bd65a255a429b11326c84128b7d70ffed7949abae3036d506ba38621"
BASE64URL = base64.urlsafe_b64encode(bytes.fromhex(EVENT_ID)).decode()


@pytest.mark.parametrize("event_id", [EVENT_ID, EVENT_ID.upper(), BASE64URL, BASE64URL.rstrip("=")])
def test_final(client, sandbox, event_id):
    """By default an event is final, under each spelling of its id; a look-up records nothing."""
    event = client.get(f"/v2/events/{event_id}").json()
    assert (event["event_id"], event["in_progress"], event["progress"]) == (EVENT_ID, False, 1)
    assert (sandbox.stats()["accepted"], sandbox.stats()["recorded"]) == (1, 0)


def test_script(client, sandbox):
    """A script is played one answer a request, and its last answer repeated."""
    sandbox.tonapi_script(BASE64URL, [404, "not_found", "in_progress", "final"])
    answers = [client.get(f"/v2/events/{EVENT_ID}") for _ in range(5)]
    assert [answer.status for answer in answers] == [404, 404, 200, 200, 200]
    assert [answer.json().get("in_progress") for answer in answers] == [None, None, True, False, False]
    assert answers[0].json() == {"error": "entity not found"}


def test_ambiguous(client, sandbox):
    """An id that stands for several transactions is a 404 of another kind."""
    sandbox.tonapi_script(EVENT_ID, ["ambiguous"])
    answer = client.get(f"/v2/events/{EVENT_ID}")
    assert (answer.status, answer.json()) == (404, {"error": "more than one transaction"})


def test_own_event(client, sandbox):
    """A script may hold a whole event."""
    sandbox.tonapi_script(EVENT_ID, [{"event_id": EVENT_ID, "in_progress": False, "novel": 1}])
    assert client.get(f"/v2/events/{EVENT_ID}").json()["novel"] == 1


@pytest.mark.parametrize(("event_id", "answers"), [("short", ["final"]), (EVENT_ID, ["done"]), (EVENT_ID, [None])])
def test_bad_script(sandbox, event_id, answers):
    """A script for no event id or with an unknown answer is refused."""
    with pytest.raises(ValueError, match=r"event_id|step"):
        sandbox.tonapi_script(event_id, answers)


@pytest.mark.parametrize("event_id", ["1234", "0x" + EVENT_ID, EVENT_ID[:-1] + "g", BASE64URL + "=="])
def test_bad_id(client, event_id):
    """An id that is not 32 bytes is a bad request."""
    answer = client.get(f"/v2/events/{event_id}")
    assert (answer.status, "error" in answer.json()) == (400, True)


def test_capital_error(client, sandbox):
    """The gateway's bodies say Error instead of error."""
    sandbox.fault("429")
    answer = client.get(f"/v2/events/{EVENT_ID}")
    assert (answer.status, list(answer.json())) == (429, ["Error"])


def test_language(client, sandbox):
    """The language asked for is in the ledger."""
    client.get(f"/v2/events/{EVENT_ID}", Accept_Language="ru-RU,ru;q=0.5")
    assert sandbox.ledger()[0].headers["accept-language"] == "ru-RU,ru;q=0.5"


def test_token(client, sandbox):
    """A token is optional, but one that is sent must be good."""
    sandbox.revoke("tonapi", "OLD")
    assert client.get(f"/v2/events/{EVENT_ID}", Authorization="Bearer OLD").status == 401
    assert client.get(f"/v2/events/{EVENT_ID}", Authorization="Bearer NEW").status == 200
    assert client.get(f"/v2/events/{EVENT_ID}").status == 200


def test_limits(make, connect, clock):
    """Without a token one request per four seconds, with one a request per second."""
    sandbox = make(limits={}, clock=clock)
    client = connect(sandbox)
    plain = [client.get(f"/v2/events/{EVENT_ID}").status for _ in range(2)]
    token = [client.get(f"/v2/events/{EVENT_ID}", Authorization="Bearer T").status for _ in range(2)]
    clock.now += 1
    later = client.get(f"/v2/events/{EVENT_ID}", Authorization="Bearer T").status
    assert (plain, token, later) == ([200, 429], [200, 429], 200)


def test_post(client):
    """Events are read, not posted."""
    assert client.post(f"/v2/events/{EVENT_ID}", {}).status == 405
