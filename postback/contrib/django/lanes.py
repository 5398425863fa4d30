"""Lanes: one relay at a time works on a provider's part of the outbox.

If it dies, another one takes over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import uuid4

from django.db import connections, transaction

from postback.contrib.django.models import OutboxLane

__all__ = ["Lanes"]

#: Part of a lease after which a batch is cut short. So it ends before another relay takes over.
USABLE_PART: Final = 0.5
#: Longest work on one batch in a transaction, in seconds. Until it commits, other transactions see
#: its rows as pending.
LONGEST_S: Final = 15.0


class Lanes:
    """Claims lanes of one database for one relay.

    Args:
        database: Alias.
        lease_s: How long a claim holds on a database without ``SKIP LOCKED``.
    """

    def __init__(self, database: str, lease_s: float) -> None:
        self.database = database
        self.lease_s = lease_s
        self.owner = str(uuid4())
        self._made: set[str] = set()
        self._lanes = OutboxLane.objects.using(database)

    @contextmanager
    def claim(self, provider: str) -> Iterator[float | None]:
        """Hold a provider's lane for one batch. What the block writes is committed by its end.

        Yields:
            Seconds that the batch may take; None if another relay holds the lane.
        """
        self._make(provider)
        if connections[self.database].features.has_select_for_update_skip_locked:
            with transaction.atomic(using=self.database):
                yield LONGEST_S if self._lock(provider) else None
            return
        # No transaction may be open while Redis is asked: on SQLite it would keep the whole site
        # from writing.
        if not self._lease(provider):
            yield None
            return
        try:
            yield self.lease_s * USABLE_PART
        finally:
            self._lanes.filter(name=provider, owner=self.owner).update(owner="", held_until=0.0)

    def _lock(self, provider: str) -> bool:
        return bool(list(self._lanes.select_for_update(skip_locked=True).filter(name=provider)))

    def _lease(self, provider: str) -> bool:
        now = time.time()
        free = self._lanes.filter(name=provider, held_until__lt=now)
        return bool(free.update(owner=self.owner, held_until=now + self.lease_s))

    def _make(self, provider: str) -> None:
        """Make the row that is locked, once, in a transaction of its own.

        Other relays cannot skip a row that is not committed yet. They would wait for it.
        """
        if provider in self._made and self._lanes.filter(name=provider).exists():
            return
        self._lanes.bulk_create([OutboxLane(name=provider)], ignore_conflicts=True)
        self._made.add(provider)
