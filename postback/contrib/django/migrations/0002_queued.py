"""The words that the admin shows: what is in Redis is queued. No row and no column changes."""

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Made by Django 5.2."""

    dependencies: ClassVar[list[Any]] = [("postback", "0001_initial")]

    operations: ClassVar[list[Any]] = [
        migrations.AlterField(
            model_name="outboxevent",
            name="state",
            field=models.CharField(
                choices=[("pending", "pending"), ("sent", "queued"), ("failed", "failed")],
                default="pending",
                max_length=8,
            ),
        ),
        migrations.AlterField(
            model_name="outboxevent",
            name="sent_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="queued at"),
        ),
    ]
