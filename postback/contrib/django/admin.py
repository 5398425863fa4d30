"""Admin pages: what is in the outbox, without showing people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.http import HttpRequest

from postback.contrib.django.models import OutboxEvent

if TYPE_CHECKING:
    from django.db.models import QuerySet

    _Base = admin.ModelAdmin[OutboxEvent]
else:
    _Base = admin.ModelAdmin

__all__ = ["OutboxEventAdmin"]


@admin.register(OutboxEvent)
class OutboxEventAdmin(_Base):
    """Shows events, and queues failed ones again. The wire form is personal: it is not shown."""

    list_display = ("event_id", "task", "account", "event", "state", "attempts", "created_at", "sent_at", "error")
    list_filter = ("state", "task", "account")
    search_fields = ("=event_id",)
    ordering = ("-seq",)
    fields = readonly_fields = ("seq", *list_display)
    actions = ("queue_again",)
    # To count a large history for every page costs more than the number is worth.
    show_full_result_count = False

    @admin.display(description="event")
    def event(self, row: OutboxEvent) -> str:
        """The event without names and texts, and with shortened ids."""
        return row.summary()

    @admin.action(description="Queue again", permissions=["change"])
    def queue_again(self, request: HttpRequest, queryset: QuerySet[OutboxEvent]) -> None:
        """Give failed events back to the relay.

        Queued ones are left alone: workers would drop them as duplicates.
        """
        changed = (
            queryset.filter(state=OutboxEvent.State.FAILED)
            .order_by()
            .update(state=OutboxEvent.State.PENDING, error="", attempts=0)
        )
        self.message_user(request, f"Will be queued again: {changed}.", messages.SUCCESS)
        left = queryset.filter(state=OutboxEvent.State.QUEUED).count()
        if left:
            self.message_user(request, f"Left alone, already in Redis: {left}.", messages.WARNING)

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        """Nobody: events come from code."""
        return False
