"""The examples with a webhook, run from the wheel: a real site, a real worker, and what the
provider got.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from tests.shared.sites import PATIENCE_S, Site, settled, sites_stack
from workers.devkit import Stack, fetch

#: The examples with a webhook -> how Python serves each.
BOTS: Final = {
    "flask_bot": "-m flask --app app run --port {port}",
    "aiogram_bot": "app.py",
    "fastapi_shop": "-m uvicorn app:app --port {port}",
}
#: Of updates. A bot forwards each number once.
NUMBERS: Final = count(10)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Shared by the module's tests."""
    with sites_stack() as stack:
        yield stack


def only(name: str) -> pytest.MarkDecorator:
    """A test of one of them."""
    return pytest.mark.parametrize("webhook", [name], indirect=True, scope="module")


@pytest.fixture(scope="module", params=BOTS)
def webhook(
    request: pytest.FixtureRequest, stack: Stack, wheel_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """An example with a webhook, running."""
    env = {"POSTBACK_BROKER_URL": stack.redis.url, "BOT_SECRET_TOKEN": "t0ken"}
    site = Site(request.param, tmp_path_factory.mktemp(request.param), wheel_python, env)
    env["PORT"] = str(site.port)
    try:
        site.serve(*BOTS[request.param].format(port=site.port).split())
        yield site
    finally:
        site.stop()


@pytest.fixture
def bot(webhook: Site, stack: Stack) -> Iterator[Site]:
    """It, with Redis up, the queue and the ledger empty."""
    stack.redis.start()
    settled(stack)
    stack.sandbox.reset()
    yield webhook
    stack.redis.start()


def update() -> bytes:
    """A new one."""
    return (
        f'{{"update_id": {next(NUMBERS)},  "message": {{"message_id": 1, "date": 1, "n": 1.50,'
        ' "chat": {"id": 5, "type": "private"}, "text": "/start \\u0041 ж"}}'
    ).encode()


def forward(bot: Site, body: bytes, token: str = "t0ken") -> int:
    return bot.post("/telegram", body, X_Telegram_Bot_Api_Secret_Token=token)[0]


@pytest.mark.parametrize(("name", "tests"), [("flask_bot", 3), ("aiogram_bot", 5), ("fastapi_shop", 9)])
def test_the_bots_own_tests(wheel_python: Path, tmp_path: Path, name: str, tests: int) -> None:
    """They pass with the wheel, whose pytest plugin brings ``postback_outbox``, and without
    Redis.
    """
    site = Site(name, tmp_path, wheel_python, {"POSTBACK_BROKER_URL": "redis://127.0.0.1:1/0"})
    assert f"{tests} passed" in site.run("-m", "pytest", "-q")


def test_an_update_byte_for_byte(bot: Site, stack: Stack) -> None:
    """What Telegram posted is what TGTrack gets: spaces, escapes and numbers as they came."""
    body = update()
    assert forward(bot, body) == 200
    stack.sandbox.wait_for(lambda sandbox: sandbox.ledger("tgtrack"), PATIENCE_S)
    assert stack.sandbox.ledger("tgtrack")[0].body == body


def test_a_repeated_update(bot: Site, stack: Stack) -> None:
    """Telegram posts again what it got no answer to; TGTrack gets it once."""
    body = update()
    assert [forward(bot, body), forward(bot, body)] == [200, 200]
    stack.sandbox.wait_for(lambda sandbox: sandbox.ledger("tgtrack"), PATIENCE_S)
    settled(stack)
    assert len(stack.sandbox.ledger("tgtrack")) == 1


def test_redis_is_away(bot: Site, stack: Stack) -> None:
    """The bot answers 503, so that Telegram posts the update again."""
    stack.redis.kill()
    assert forward(bot, update()) == 503


@pytest.mark.parametrize(("body", "token", "status"), [(b'{"update_id": 1}', "guess", 403), (b"{", "t0ken", 400)])
def test_what_is_no_update(bot: Site, stack: Stack, body: bytes, token: str, status: int) -> None:
    """Strangers and rubbish are refused before anything is sent."""
    assert forward(bot, body, token) == status
    assert stack.waiting("tgtrack.main") == 0


@only("flask_bot")
def test_status_from_the_bots_terminal(bot: Site) -> None:
    """``flask postback status`` speaks of the bot's Redis."""
    told = json.loads(bot.run("-m", "flask", "--app", "app", "postback", "status", "--json"))
    assert [account["account"] for account in told["accounts"] if account["provider"] == "tgtrack"] == ["main"]


@only("aiogram_bot")
def test_a_payment_in_telegram(bot: Site, stack: Stack) -> None:
    """The update that was forwarded is aiogram's too, and its handler reports the sale."""
    paid = {
        "currency": "RUB", "total_amount": 150_000, "invoice_payload": "order-17",
        "telegram_payment_charge_id": "charge-17", "provider_payment_charge_id": "17",
    }  # fmt: skip
    buyer = {"id": 98765, "is_bot": False, "first_name": "Ada"}
    body = json.loads(update())
    body["message"] |= {"from": buyer, "successful_payment": paid}
    assert forward(bot, json.dumps(body).encode()) == 200
    stack.sandbox.wait_for(lambda sandbox: sandbox.events("tgtrack", method="add_event"), PATIENCE_S)
    (sale,) = stack.sandbox.events("tgtrack", method="add_event")
    assert (sale["user_id"], sale["amount"], sale["event_result"]) == ("98765", 1500.0, "success")


@only("fastapi_shop")
def test_a_customer_is_looked_up(bot: Site, stack: Stack) -> None:
    """The page waits for a worker's answer: what TGTrack knows, or why it knows nothing."""
    stack.sandbox.set_user("42", first_name="Ada")
    status, page = fetch(f"http://127.0.0.1:{bot.port}/customers/42", timeout_s=PATIENCE_S)
    assert (status, json.loads(page)["first_name"]) == (200, "Ada")
    stack.sandbox.fault("404", count=1)
    status, page = fetch(f"http://127.0.0.1:{bot.port}/customers/43", timeout_s=PATIENCE_S)
    assert (status, json.loads(page)["detail"].split()[:2]) == (502, ["rejected", "404"])
