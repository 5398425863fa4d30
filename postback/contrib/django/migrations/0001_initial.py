"""The outbox and its lanes."""

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Made by Django 5.2."""

    initial = True

    dependencies: ClassVar[list[Any]] = []

    operations: ClassVar[list[Any]] = [
        migrations.CreateModel(
            name="OutboxLane",
            fields=[
                ("name", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("owner", models.CharField(blank=True, default="", max_length=36)),
                ("held_until", models.FloatField(default=0.0)),
            ],
        ),
        migrations.CreateModel(
            name="OutboxEvent",
            fields=[
                ("seq", models.BigAutoField(primary_key=True, serialize=False)),
                ("event_id", models.CharField(max_length=255, verbose_name="id")),
                ("provider", models.CharField(max_length=32)),
                ("task", models.CharField(max_length=64)),
                ("account", models.CharField(blank=True, default="", max_length=63)),
                ("wire", models.TextField()),
                ("options", models.TextField(default="{}")),
                (
                    "state",
                    models.CharField(
                        choices=[("pending", "pending"), ("sent", "sent"), ("failed", "failed")],
                        default="pending",
                        max_length=8,
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("error", models.TextField(blank=True, default="")),
                ("created_at", models.DateTimeField()),
                ("sent_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "verbose_name": "outbox event",
                "ordering": ["seq"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "pending")),
                        fields=["provider", "seq"],
                        name="postback_outbox_pending",
                    ),
                    models.Index(
                        condition=models.Q(("state", "sent")), fields=["sent_at"], name="postback_outbox_sent"
                    ),
                    models.Index(fields=["event_id"], name="postback_outbox_id"),
                ],
            },
        ),
    ]
