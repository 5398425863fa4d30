from __future__ import annotations

from html.parser import HTMLParser

import pytest

from postback.sandbox.pages import shortened

SALE = {"user_id": "987654321", "event_type": "sale"}


@pytest.mark.parametrize("path", ["/_sandbox/", "/_sandbox", "/last_events/"])
def test_page(client, path):
    """The page shows requests with their status and reason, also under TGTrack's own address for
    it.
    """
    client.tgtrack("add_event", SALE)
    client.tgtrack("add_event", {"user_id": "987654321"})
    page = client.get(path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    text = page.body.decode()
    assert "event_type is missing" in text
    assert "sale · user 98…21" in text


def test_empty(client):
    """Without a request the page says what to do."""
    assert "No request yet" in client.get("/_sandbox/").body.decode()


def test_no_personal_data(client):
    """Ids are shortened, names are not shown."""
    client.tgtrack("user_did_start_bot", {"user_id": "987654321", "first_name": "Wilhelmina", "username": "willi99"})
    client.tonai({"eventType": "conversion", "eventData": {"telegramUserId": "1728125519"}})
    text = client.get("/_sandbox/").body.decode()
    assert not any(secret in text for secret in ("987654321", "Wilhelmina", "willi99", "1728125519"))


def test_escaped(client):
    """What a client sends is text on the page, never markup."""
    client.tgtrack("add_event", SALE | {"event_type": "<script>alert(1)</script>", "<b>": 1})
    page = client.get("/_sandbox/")
    assert b"<script" not in page.body
    assert b"<b>:" not in page.body
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_no_external_assets(client, sandbox):
    """The page loads nothing."""
    client.tgtrack("add_event", SALE)
    sandbox.fault("500")
    sources = []

    class Finder(HTMLParser):
        def handle_starttag(self, tag, attributes):
            sources.extend(value for name, value in attributes if name in ("src", "href"))

    Finder().feed(client.get("/_sandbox/").body.decode())
    assert sources == []


@pytest.mark.parametrize(
    ("body", "told"),
    [(b"{", "1 bytes"), (b'[{"customUserId":"1234567"},{}]', "2 events · user 12…67"), (b"[]", "2 bytes")],
)
def test_odd_bodies(client, body, told):
    """Odd bodies do not break the page."""
    client.mytracker("loginBatch", body)
    assert told in client.get("/_sandbox/").body.decode()


def test_unanswered(client, sandbox):
    """A request without an answer is shown as such."""
    sandbox.fault("close_before", count=1)
    with pytest.raises(OSError, match=r"."):
        client.tgtrack("add_event", SALE)
    assert ">none</span>" in client.get("/_sandbox/").body.decode()


@pytest.mark.parametrize(("value", "short"), [("987654321", "98…21"), ("12345", "…"), (987654321, "98…21"), ("", "…")])
def test_shortened(value, short):
    """A short value is not shown at all."""
    assert shortened(value) == short
