"""The shop's own tests: ``pytest``. Postback's plugin brings ``postback_outbox``."""

from app import SECRET_TOKEN, app
from fastapi.testclient import TestClient

import postback
from postback import DeadLettered, tgtrack
from postback.testing import Outbox

UPDATE = b'{"update_id": 10,  "message": {"text": "/start"}}'
ORDER = {"user_id": "98765", "amount": 1500}
client = TestClient(app)


def post(body: bytes, token: str = SECRET_TOKEN) -> int:
    """The status of the answer to an update."""
    headers = {"X-Telegram-Bot-Api-Secret-Token": token}
    return client.post("/telegram", content=body, headers=headers).status_code


def test_a_sale_is_reported(postback_outbox: Outbox) -> None:
    """Once for each order."""
    assert client.put("/orders/17", json=ORDER).json() == {"event": postback_outbox.sent[0].id}
    assert postback_outbox == [
        tgtrack.AddEvent(user_id="98765", event_type="sale", event_result="success", amount=1500.0)
    ]
    assert postback_outbox.sent[0].options == {"idempotency_key": "order-17"}


def test_a_customer_without_an_id(postback_outbox: Outbox) -> None:
    """The answer names the field."""
    answer = client.put("/orders/17", json={**ORDER, "user_id": ""})
    assert (answer.status_code, "user_id" in answer.text) == (400, True)


def test_redis_is_away() -> None:
    """The client is asked to try again."""
    postback.configure(broker_url="redis://127.0.0.1:1/0")
    assert client.put("/orders/17", json=ORDER).status_code == 503


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


def test_a_customer(postback_outbox: Outbox) -> None:
    """TGTrack's answer, which the test gives."""
    postback_outbox.answers[tgtrack.GetUserInfo] = {"user_id": "98765", "first_name": "Ada"}
    assert client.get("/customers/98765").json()["first_name"] == "Ada"


def test_no_answer_in_time(postback_outbox: Outbox) -> None:
    """The client learns that it was TGTrack."""
    assert client.get("/customers/98765").status_code == 504


def test_a_refused_look_up(postback_outbox: Outbox) -> None:
    """The client learns why."""
    postback_outbox.answers[tgtrack.GetUserInfo] = DeadLettered("rejected 404 no such user")
    answer = client.get("/customers/98765")
    assert (answer.status_code, answer.json()["detail"]) == (502, "rejected 404 no such user")
