"""docs/guides/quickstart.md: sending, a test, another Celery client."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from postback import tgtrack
from postback.testing import collect
from tests.acceptance.documents import python

sending, site_test, any_client = python("docs/guides/quickstart.md", 3)
names: dict[str, Any] = {}
sending.run(names)
assert names["info"]["user_id"] == "987654321"

names |= {"order": None, "checkout": lambda order: tgtrack.AddEvent(user_id="98765", event_type="sale").delay()}
site_test.run(names)
with collect() as outbox:
    names["test_a_sale_is_reported"](outbox)

names["app"] = Celery("shop", broker=os.environ["POSTBACK_BROKER_URL"])
any_client.run(names)
