"""docs/guides/how-to.md: the two ways to hear of dead letters, in the example of a shop."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from typing import Any

from tests.acceptance.documents import ROOT, python

task, function = python("docs/guides/how-to.md", 2)
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
