"""The table of dead letters."""

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Dead events."""

    dependencies: ClassVar[list[Any]] = [("shop", "0001_initial")]

    operations: ClassVar[list[Any]] = [
        migrations.CreateModel(
            name="DeadEvent",
            fields=[
                ("event_id", models.CharField(max_length=200, primary_key=True, serialize=False)),
                ("task", models.CharField(max_length=100)),
                ("reason", models.CharField(max_length=50)),
            ],
        ),
    ]
