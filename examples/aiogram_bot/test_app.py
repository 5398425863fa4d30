"""The bot's own tests: ``pytest``. Postback's plugin brings ``postback_outbox``."""

import asyncio

from aiohttp.test_utils import TestClient, TestServer
from app import SECRET_TOKEN, make_app

import postback
from postback import tgtrack
from postback.testing import Outbox

START = b'{"update_id": 10,  "message": %s}'
UPDATE = START % b'{"message_id": 1, "date": 1, "chat": {"id": 98765, "type": "private"}, "text": "/start"}'
PAID = START % (
    b'{"message_id": 2, "date": 1, "chat": {"id": 98765, "type": "private"},'
    b' "from": {"id": 98765, "is_bot": false, "first_name": "Ada"}, "successful_payment": {"currency": "RUB",'
    b' "total_amount": 150000, "invoice_payload": "order-17", "telegram_payment_charge_id": "charge-17",'
    b' "provider_payment_charge_id": "17"}}'
)


def post(body: bytes, token: str = SECRET_TOKEN) -> int:
    """The answer's status."""

    async def main() -> int:
        async with TestClient(TestServer(make_app())) as client:
            headers = {"X-Telegram-Bot-Api-Secret-Token": token, "Content-Type": "application/json"}
            return (await client.post("/telegram", data=body, headers=headers)).status

    return asyncio.run(main())


def test_an_update_is_forwarded(postback_outbox: Outbox) -> None:
    """As it came."""
    assert post(UPDATE) == 200
    assert postback_outbox == [tgtrack.OnTelegramWebhook.load(UPDATE)]


def test_a_sale_is_reported(postback_outbox: Outbox) -> None:
    """In roubles, once for each payment, behind its update."""
    assert post(PAID) == 200
    assert postback_outbox == [
        tgtrack.OnTelegramWebhook.load(PAID),
        tgtrack.AddEvent(user_id="98765", event_type="sale", event_result="success", amount=1500.0),
    ]
    assert [sent.options["idempotency_key"] for sent in postback_outbox.sent] == ["update-10", "payment-charge-17"]


def test_a_stranger(postback_outbox: Outbox) -> None:
    """Only Telegram knows the token."""
    assert post(UPDATE, token="guess") == 403
    assert postback_outbox == []


def test_no_update(postback_outbox: Outbox) -> None:
    """What is none is refused."""
    assert post(b'{"hello": 1}') == 400
    assert postback_outbox == []


def test_redis_is_away() -> None:
    """Telegram is asked to post the update again."""
    postback.configure(broker_url="redis://127.0.0.1:1/0")
    assert post(UPDATE) == 503
