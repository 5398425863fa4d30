"""The bot's own tests: ``pytest``. Postback's plugin brings ``postback_outbox``."""

from app import SECRET_TOKEN, app

from postback import tgtrack
from postback.testing import Outbox

UPDATE = b'{"update_id": 10,  "message": {"text": "/start"}}'


def post(body: bytes, token: str = SECRET_TOKEN) -> int:
    """The answer's status."""
    headers = {"X-Telegram-Bot-Api-Secret-Token": token, "Content-Type": "application/json"}
    return app.test_client().post("/telegram", data=body, headers=headers).status_code


def test_an_update_is_forwarded(postback_outbox: Outbox) -> None:
    """As it came."""
    assert post(UPDATE) == 200
    assert postback_outbox == [tgtrack.OnTelegramWebhook.load(UPDATE)]


def test_a_stranger(postback_outbox: Outbox) -> None:
    """Only Telegram knows the token."""
    assert post(UPDATE, token="guess") == 403
    assert postback_outbox == []


def test_no_update(postback_outbox: Outbox) -> None:
    """What is none is refused."""
    assert post(b'{"hello": 1}') == 400
    assert postback_outbox == []
