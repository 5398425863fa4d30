"""README.md: one line, and the view of a shop whose model has an integer id and a Decimal."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace

import django
from django.conf import settings
from django.db import connection, models, transaction
from django.http import HttpResponse
from django.test import RequestFactory

from tests.acceptance.documents import blocks, python

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["postback.contrib.django"],
    POSTBACK={},
    USE_TZ=True,
)
django.setup()


class Order(models.Model):
    """An ordinary model."""

    telegram_id = models.BigIntegerField()
    total = models.DecimalField(max_digits=10, decimal_places=2)

    class Meta:  # noqa: D106
        app_label = "shop"


with connection.schema_editor() as editor:
    editor.create_model(Order)

one_line, view = python("README.md", 2)
names = {
    "Order": Order,
    "cart_total": lambda request: Decimal("1499.90"),
    "redirect": HttpResponse,
    "transaction": transaction,
}
one_line.run(names)
view.run(names)
request = RequestFactory().post("/checkout")
request.user = SimpleNamespace(telegram_id=7000000001)
assert names["checkout"](request).status_code == 200
assert Order.objects.get().total == Decimal("1499.90")

# The error is the one that is printed.
(printed,) = [block for block in blocks("README.md") if block.text.startswith("postback.errors.InvalidEvent")]
try:
    names["tgtrack"].AddEvent(userid=7, event_type="sale", amount="1500")
except Exception as error:
    said = f"{type(error).__module__}.{type(error).__name__}: {error}"
    assert said == " ".join(printed.text.split()), said
else:
    raise AssertionError("no error")
