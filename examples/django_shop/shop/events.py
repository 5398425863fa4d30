"""What the shop does with dead letters.

``POSTBACK_ON_DEAD=shop.events:on_dead`` in the workers' environment.
"""

import os
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
# A worker imports this module, and no manage.py has set Django up there.
django.setup()

from django.db import close_old_connections  # noqa: E402

from shop.models import DeadEvent  # noqa: E402


def on_dead(letter: dict[str, Any]) -> None:
    """Note it for the shop's staff.

    Twice is as good as once: after a crash it may be called again.
    """
    close_old_connections()
    DeadEvent.objects.update_or_create(
        event_id=letter["id"] or "",
        defaults={"task": letter["task"] or "", "reason": letter["reason"]},
    )
