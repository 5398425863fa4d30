"""docs/guides/aiogram.md: a bot behind a webhook; the handlers of one that polls."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from postback.testing import collect
from tests.acceptance.documents import python

webhook, sale, polling, bot_test = python("docs/guides/aiogram.md", 4)
names: dict[str, Any] = {}
for block in (webhook, sale, polling, bot_test):
    block.run(names)

USER = {"id": 98765, "is_bot": False, "first_name": "Ada"}
MESSAGE = {"message_id": 1, "date": 1, "chat": {"id": 98765, "type": "private"}, "from": USER}
PAYMENT = {"currency": "RUB", "total_amount": 149990, "invoice_payload": "x", "telegram_payment_charge_id": "c1"}
PAID = MESSAGE | {"successful_payment": PAYMENT | {"provider_payment_charge_id": "p1"}}
SECRET = {"X-Telegram-Bot-Api-Secret-Token": "secret"}


async def post() -> None:
    """A stranger, then Telegram: an update that no handler wants, and a payment."""
    async with TestClient(TestServer(names["make_app"]())) as client:
        body = json.dumps({"update_id": 10, "message": MESSAGE | {"text": "/start"}}, indent=1)
        assert (await client.post("/telegram", data=body)).status == 403
        assert (await client.post("/telegram", data=body, headers=SECRET)).status == 200
        body = json.dumps({"update_id": 11, "message": PAID})
        assert (await client.post("/telegram", data=body, headers=SECRET)).status == 200


async def poll() -> None:
    """What the handlers do with what aiogram hands them; one saw the webhook's /start too."""
    user = SimpleNamespace(id=98765, first_name="Ada")
    await names["started"](SimpleNamespace(from_user=user), SimpleNamespace(args="spring"))
    await names["stopped"](SimpleNamespace(from_user=user))


asyncio.run(post())
asyncio.run(poll())
with collect() as outbox:
    names["test_me"](outbox)
    text = SimpleNamespace(from_user=SimpleNamespace(id=98765), answer=lambda text: text)
    assert asyncio.run(names["me"](text)) == "You came by https://t.me/+spring"
