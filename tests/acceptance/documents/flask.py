"""docs/guides/flask.md: a webhook, and its test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from postback.testing import collect
from tests.acceptance.documents import python

webhook, site_test = python("docs/guides/flask.md", 2)
printed = 'app.config["POSTBACK_BROKER_URL"] = "redis://127.0.0.1:6379/0"'
assert printed in webhook.text
names: dict[str, Any] = {}
replace(webhook, text=webhook.text.replace(printed, "")).run(names)  # the stack's Redis is in the environment
names["UPDATE"] = b'{"update_id": 10,  "message": {"text": "/start"}}'
assert names["app"].test_client().post("/telegram", data=names["UPDATE"]).status_code == 200

site_test.run(names)
with collect() as outbox:
    names["test_an_update_is_forwarded"](outbox)
