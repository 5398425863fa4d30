"""docs/guides/django.md: settings, the outbox, and a test as a site would write it."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection, models, transaction
from django.http import HttpRequest, HttpResponse

from tests.acceptance.documents import python

settings_in_short, outbox, all_settings, pytest_test, django_test = python("docs/guides/django.md", 5)
written: dict[str, Any] = {}
settings_in_short.run(written)
apps, broker = written["INSTALLED_APPS"], written["POSTBACK"]
assert apps == [..., "postback.contrib.django"]
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=apps[1:],
    POSTBACK={},  # the stack's Redis is in the environment
    ROOT_URLCONF=__name__,
    USE_TZ=True,
)
django.setup()

from django.test import Client, TestCase, override_settings  # noqa: E402
from django.urls import path  # noqa: E402

from postback import tgtrack  # noqa: E402
from postback.contrib.django.models import OutboxEvent  # noqa: E402
from postback.testing import collect  # noqa: E402


class Order(models.Model):
    """An ordinary model."""

    user_id = models.BigIntegerField()
    total = models.DecimalField(max_digits=10, decimal_places=2)

    class Meta:  # noqa: D106
        app_label = "shop"


def orders(request: HttpRequest) -> HttpResponse:
    """What the guide's tests buy from."""
    with transaction.atomic():
        event = tgtrack.AddEvent(user_id=98765, event_type="sale", amount=Decimal(request.POST["total"]))
        event.delay_on_commit()
    return HttpResponse()


urlpatterns = [path("orders", orders)]

call_command("migrate", verbosity=0)
with connection.schema_editor() as editor:
    editor.create_model(Order)

all_settings.run(written)
for values in (broker, written["POSTBACK"]):
    with override_settings(POSTBACK=values):
        call_command("check", fail_level="WARNING")

names: dict[str, Any] = {
    "Decimal": Decimal,
    "Order": Order,
    "tgtrack": tgtrack,
    "transaction": transaction,
    "user": SimpleNamespace(telegram_id=98765),
}
outbox.run(names)
call_command("postback_relay", once=True)
assert OutboxEvent.objects.get().event_id == names["result"].id

pytest_test.run(names)
with collect() as collected:
    names["test_a_sale_is_reported"](Client(), collected, TestCase.captureOnCommitCallbacks)

names["self"] = TestCase()
names["self"].client = Client()
django_test.run(names)
