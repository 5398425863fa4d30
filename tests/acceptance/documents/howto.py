"""docs/guides/how-to.md: finding an event, and the two ways to hear of dead letters in a shop."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from contextlib import nullcontext, redirect_stdout
from typing import Any

from postback import tgtrack
from postback.operations import find as searching
from tests.acceptance.documents import ROOT, python

find, task, function = python("docs/guides/how-to.md", 3)

# No process moves records here, so Redis alone is searched.
searching.journal_of = lambda environ: nullcontext()  # type: ignore[assignment, return-value]
sale = tgtrack.AddEvent(user_id="987654321", event_type="sale")
sale.apply_async(idempotency_key="order-17", countdown=3600)
with redirect_stdout(io.StringIO()) as printed:
    find.run({})
# Other documents send events with that key, too. The latest comes first.
assert printed.getvalue().startswith("delayed None []\n"), printed.getvalue()

site = tempfile.mkdtemp(dir=".")
shutil.copytree(ROOT / "examples" / "django_shop", site, dirs_exist_ok=True)
sys.path.insert(0, site)
names: dict[str, Any] = {}
function.run(names)

from celery import shared_task  # noqa: E402
from django.core.management import call_command  # noqa: E402
from shop.models import DeadEvent  # noqa: E402

call_command("migrate", verbosity=0, database="default")
assert os.environ["DJANGO_SETTINGS_MODULE"] == "shop.settings"
letter = {"id": "5c1b", "task": "tgtrack.add_event", "reason": "rejected"}
names["on_dead"](letter)
names["on_dead"]({**letter, "reason": "exhausted"})
assert DeadEvent.objects.get().reason == "exhausted"

names |= {"shared_task": shared_task, "DeadEvent": DeadEvent}
task.run(names)
names["on_dead"]({**letter, "id": "77aa"})
assert names["on_dead"].name == "shop.tasks.on_dead"
assert DeadEvent.objects.count() == 2
