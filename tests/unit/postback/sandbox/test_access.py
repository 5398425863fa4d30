from __future__ import annotations

import pytest

SALE = {"user_id": "1", "event_type": "sale"}


def test_any_key(client):
    """Without a list every key is taken."""
    assert client.tgtrack("add_event", SALE, key="whatever").status == 200


@pytest.mark.parametrize("keys", [["A", "B"], {"main": "A", "shop": "B"}])
def test_known_keys(make, connect, keys):
    """With a list a provider refuses other keys; providers without one take any."""
    client = connect(make(keys={"tgtrack": keys}))
    assert [client.tgtrack("add_event", SALE, key=key).status for key in "ABC"] == [200, 200, 401]
    assert client.mytracker("login", {"customUserId": "1"}).status == 200


def test_names(make, connect):
    """A named key's requests carry the account's name."""
    sandbox = make(keys={"tgtrack": {"shop": "A"}})
    connect(sandbox).tgtrack("add_event", SALE, key="A")
    assert sandbox.ledger()[0].account == "shop"


@pytest.mark.parametrize("code", [401, 402, 403])
def test_revoked(client, sandbox, code):
    """A revoked key is refused with the chosen code until it is restored."""
    sandbox.revoke("tgtrack", "KEY", code)
    answer = client.tgtrack("add_event", SALE)
    assert (answer.status, answer.json()["error_code"]) == (code, code)
    assert client.tgtrack("add_event", SALE, key="OTHER").status == 200
    sandbox.restore("tgtrack", "KEY")
    assert client.tgtrack("add_event", SALE).status == 200


def test_one_string_for_keys(make):
    """One string instead of a list of keys is a mistake, not a list of letters."""
    with pytest.raises(TypeError, match="tgtrack"):
        make(keys={"tgtrack": "KEY"})


@pytest.mark.parametrize(
    "act",
    [
        lambda s: s.revoke("nobody", "K"),
        lambda s: s.refuse("nobody", "a", 1),
        lambda s: s.scope("nobody", "K", "1"),
        lambda s: s.set_errors("nobody", "http"),
        lambda s: s.set_errors("mytracker", "body"),
        lambda s: s.set_errors("tgtrack", "loud"),
        lambda s: s.set_mode("test"),
        lambda s: s.set_duplicates("nobody"),
    ],
)
def test_nonsense(sandbox, act):
    """Settings for nobody or of no kind are refused at once."""
    with pytest.raises(ValueError, match=r"."):
        act(sandbox)


@pytest.mark.parametrize(
    ("field", "value", "hit"),
    [
        ("event_type", "sale", True),
        ("labels.0.name", "manager", True),
        ("amount", 1500, True),
        ("labels.1.name", "manager", False),
        ("labels.name", "manager", False),
        ("event_type.x", "sale", False),
        ("event_type", "lead", False),
        ("amount", True, False),
        ("missing", None, False),
    ],
)
def test_refusal_paths(client, sandbox, field, value, hit):
    """A rule hits by a dotted path and an equal value."""
    sandbox.refuse("tgtrack", field, value)
    event = SALE | {"amount": 1500.0, "labels": [{"name": "manager", "value": "Jane"}]}
    assert client.tgtrack("add_event", event).status == (422 if hit else 200)


def test_refusal_of_one_method(client, sandbox):
    """A rule may be for one method, and have a code of its own."""
    sandbox.refuse("tgtrack", "user_id", "1", method="send_reach_goal", code=400)
    assert client.tgtrack("add_event", SALE).status == 200
    assert client.tgtrack("send_reach_goal", {"user_id": "1", "target": "x"}).status == 400
