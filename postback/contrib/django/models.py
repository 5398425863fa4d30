"""The outbox: events that wait in the project's database until a relay puts them into Redis."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, ClassVar

from django.db import models

from postback._events.event import EVENTS

__all__ = ["OutboxEvent", "OutboxLane"]


class OutboxEvent(models.Model):
    """One event, from its transaction's commit until ``KEEP_DAYS`` after it was queued.

    The primary key is a sequence of the database. It decides the order, whatever the clocks of the
    web servers say.
    """

    class State(models.TextChoices):
        """Where an event is."""

        PENDING = "pending", "pending"
        #: Redis has it. That is not delivered. The stored word is older than the shown one.
        QUEUED = "sent", "queued"
        FAILED = "failed", "failed"

    seq: models.BigAutoField[int, int] = models.BigAutoField(primary_key=True)
    #: The Celery message's id, the same at each send: the caller's ``task_id``, else a UUID.
    event_id: models.CharField[str, str] = models.CharField("id", max_length=255)
    #: ``tgtrack``. The relay sends each provider's events in order.
    provider: models.CharField[str, str] = models.CharField(max_length=32)
    #: ``tgtrack.add_event``
    task: models.CharField[str, str] = models.CharField(max_length=64)
    #: Empty: the provider's only account, or the one named ``main``.
    account: models.CharField[str, str] = models.CharField(max_length=63, blank=True, default="")
    # Not a JSONField: PostgreSQL's jsonb changes the order of keys and refuses \u0000. The provider
    # must get what was sent.
    #: JSON of the wire form, with its time.
    wire: models.TextField[str, str] = models.TextField()
    #: JSON of the options of its send; times are absolute.
    options: models.TextField[str, str] = models.TextField(default="{}")
    state: models.CharField[str, str] = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    #: Sends whose end is known.
    attempts: models.PositiveIntegerField[int, int] = models.PositiveIntegerField(default=0)
    #: Why it was not queued, without personal data.
    error: models.TextField[str, str] = models.TextField(blank=True, default="")
    created_at: models.DateTimeField[datetime, datetime] = models.DateTimeField()
    #: When Redis took it.
    sent_at: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(
        "queued at", null=True, blank=True
    )

    objects: ClassVar[models.Manager[OutboxEvent]] = models.Manager()

    class Meta:
        """Names and indexes."""

        verbose_name = "outbox event"
        ordering: ClassVar[list[str]] = ["seq"]
        indexes: ClassVar[list[models.Index]] = [
            # The relay asks for it twice a second, so it must be small however long the history is.
            models.Index(
                fields=["provider", "seq"], condition=models.Q(state="pending"), name="postback_outbox_pending"
            ),
            models.Index(fields=["sent_at"], condition=models.Q(state="sent"), name="postback_outbox_sent"),
            models.Index(fields=["event_id"], name="postback_outbox_id"),
        ]

    def __str__(self) -> str:
        return f"{self.task} {self.event_id}"

    def summary(self) -> str:
        """The event in a few words without personal data: ``event_type=sale user=98…21``."""
        event_class = EVENTS.get(self.task)
        try:
            wire: Any = json.loads(self.wire)
        except ValueError:
            return ""
        return "" if event_class is None else event_class.summary(wire)


class OutboxLane(models.Model):
    """One provider's part of the outbox.

    One relay at a time works on it, so an account's events keep their order.

    A database with ``SKIP LOCKED`` locks the row until the relay's transaction ends. On others
    ``owner`` holds it until ``held_until``.
    """

    #: The provider.
    name: models.CharField[str, str] = models.CharField(max_length=32, primary_key=True)
    owner: models.CharField[str, str] = models.CharField(max_length=36, blank=True, default="")
    #: Seconds since the epoch.
    held_until: models.FloatField[float, float] = models.FloatField(default=0.0)

    objects: ClassVar[models.Manager[OutboxLane]] = models.Manager()

    def __str__(self) -> str:
        return str(self.name)
