"""docs/guides/fastapi.md: a shop, a webhook, a look-up, and its test."""

from __future__ import annotations

from typing import Any

from postback.testing import collect
from tests.acceptance.documents import python

shop, redis_away, webhook, look_up, site_test = python("docs/guides/fastapi.md", 5)
names: dict[str, Any] = {}
for block in (shop, redis_away, webhook, look_up, site_test):
    block.run(names)

with names["TestClient"](names["app"]) as client:
    for _ in range(2):  # a repeat is dropped by its key
        assert client.put("/orders/17", params={"user_id": 98765, "amount": "1499.90"}).status_code == 200
    body = b'{"update_id": 20,  "message": {"text": "/start"}}'
    assert client.post("/telegram", content=body).status_code == 403
    secret = {"X-Telegram-Bot-Api-Secret-Token": "secret"}
    assert client.post("/telegram", content=body, headers=secret).status_code == 200
    assert client.get("/customers/98765").json()["user_id"] == "98765"
    with collect() as outbox:
        names["test_a_customer"](outbox)

import postback  # noqa: E402

postback.configure(broker_url="redis://127.0.0.1:1/0")
with names["TestClient"](names["app"]) as client:
    assert client.put("/orders/18", params={"user_id": 98765, "amount": "1"}).status_code == 503
