"""Moves events from the outbox to Redis: in order, at least once, under the same id and key.

The database is the truth: an event is marked as queued only after Redis has taken it. A relay may
die between the two. The event is then pending, and the next relay queues it again with the same id
and idempotency key. So a worker drops the second one.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from threading import Event as Flag
from typing import Final

from django.db import DatabaseError, connections
from django.db.models import F, QuerySet
from django.utils import timezone
from kombu.utils import json as kombu_json

from postback._send import one
from postback._send.event import EVENTS, event_class
from postback.contrib.django.conf import OutboxSettings
from postback.contrib.django.lanes import Lanes
from postback.contrib.django.models import OutboxEvent
from postback.errors import ConfigurationError, PostbackError, QueueFull, SendError
from postback.wire import keys

__all__ = ["Moved", "Relay"]

logger = logging.getLogger("postback.relay")

#: Longest wait before Redis or the database is tried again, in seconds.
LONGEST_WAIT_S: Final = 5.0
#: Queued events deleted by one statement, and seconds between two such.
PURGE_ROWS: Final = 1000
PURGE_EVERY_S: Final = 60.0
#: Longest reason kept with an event, in characters.
ERROR_CHARS: Final = 500


@dataclass(slots=True)
class Moved:
    """What one look at the outbox did.

    Attributes:
        queued: Events that are in Redis now.
        failed: Events that can never be queued.
        more: Whether there is more to do at once.
        away: Why some could not be queued now; None if all went well.
    """

    queued: int = 0
    failed: int = 0
    more: bool = False
    away: str | None = None


@dataclass(slots=True)
class _Outage:
    """What cannot be reached, or has no room. It is tried again after a growing, jittered wait."""

    wait_s: float
    again_at: float


class Relay:
    """One relay process's work.

    Args:
        settings: Batch, poll, history, lease.
        database: Alias of the database that holds the outbox.
        stop: Set it to end. The event that is being queued is finished and marked first.
        clock: Seconds, never going back.
    """

    def __init__(
        self,
        settings: OutboxSettings,
        *,
        database: str = "default",
        stop: Flag | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.database = database
        self.stop = stop or Flag()
        self._clock = clock
        self._lanes = Lanes(database, settings.lease_s)
        self._outages: dict[str, _Outage] = {}
        self._purge_at = 0.0

    @property
    def _events(self) -> QuerySet[OutboxEvent]:
        return OutboxEvent.objects.using(self.database).order_by("seq")

    def run(self) -> None:
        """Work until ``stop`` is set. If Redis or the database is away, wait for it."""
        while not self.stop.is_set():
            try:
                moved = self.look()
                self._is_back("the database")
                pause_s = 0.0 if moved.more else self.settings.poll_s
            except DatabaseError as away:
                connections[self.database].close()
                pause_s = self._is_away("the database", type(away).__name__)
            if pause_s:
                self.stop.wait(pause_s)

    def drain(self) -> Moved:
        """Move all that can be moved now, for cron.

        Raises:
            django.db.DatabaseError: The database is away.
        """
        total = Moved()
        while not self.stop.is_set():
            moved = self.look()
            total.queued += moved.queued
            total.failed += moved.failed
            total.away = moved.away or total.away
            if not moved.more:
                break
        return total

    def look(self) -> Moved:
        """Move at most one batch of each provider, and delete old history once a minute."""
        moved = Moved()
        # When the outbox is empty, this short query is all.
        if self._pending().exists():
            for provider in sorted({event.provider for event in EVENTS.values()}):
                if not self.stop.is_set() and self._is_due(provider):
                    self._move(provider, moved)
        if self._clock() >= self._purge_at:
            self._purge_at = self._clock() + PURGE_EVERY_S
            while not self.stop.is_set() and self._purge() == PURGE_ROWS:
                pass
        return moved

    def _pending(self) -> QuerySet[OutboxEvent]:
        return self._events.filter(state=OutboxEvent.State.PENDING)

    def _move(self, provider: str, moved: Moved) -> None:
        """Move one batch of one provider."""
        with self._lanes.claim(provider) as may_take_s:
            if may_take_s is None:
                return
            deadline = self._clock() + may_take_s
            pending = self._pending().filter(provider=provider).exclude(account__in=self._full(provider))
            rows = list(pending[: self.settings.batch])
            queued: list[int] = []
            full: set[str] = set()
            away: str | None = None
            done = 0
            for row in rows:
                if self.stop.is_set() or self._clock() > deadline:
                    break
                done += 1
                if row.account in full:
                    continue
                try:
                    _send(row)
                except QueueFull as refused:
                    # Events of this account wait behind it, those of other accounts do not.
                    full.add(row.account)
                    moved.away = str(refused)
                    self._note(row, moved.away)
                    self._is_away(keys.queue(provider, row.account), moved.away)
                except (SendError, ConfigurationError) as refused:
                    # The event is not at fault, and no other must overtake it.
                    moved.away = away = str(refused)
                    self._note(row, away)
                    break
                except Exception as unsendable:
                    logger.error("%s %s can never be queued: %s", row.task, row.event_id, _reason(unsendable))
                    self._note(row, _reason(unsendable), state=OutboxEvent.State.FAILED)
                    moved.failed += 1
                else:
                    queued.append(row.seq)
                    self._is_back(keys.queue(provider, row.account))
            if queued:
                self._events.filter(seq__in=queued).order_by().update(
                    state=OutboxEvent.State.QUEUED, sent_at=timezone.now(), attempts=F("attempts") + 1, error=""
                )
        moved.queued += len(queued)
        if away:
            self._is_away(provider, away)
        elif rows:
            self._is_back(provider)
            moved.more = moved.more or len(rows) == self.settings.batch or done < len(rows)

    def _full(self, provider: str) -> list[str]:
        """Accounts that had no room a moment ago, as rows name them; "" is the default one."""
        places = [name.partition(".") for name in self._outages if not self._is_due(name)]
        return [account for owner, dot, account in places if dot and owner == provider]

    def _note(self, row: OutboxEvent, error: str, state: str = OutboxEvent.State.PENDING) -> None:
        self._events.filter(seq=row.seq).order_by().update(
            state=state, attempts=F("attempts") + 1, error=error[:ERROR_CHARS]
        )

    def _purge(self) -> int:
        """Delete a part of the history that is old enough; how many rows."""
        before = timezone.now() - timedelta(days=self.settings.keep_days)
        old = self._events.filter(state=OutboxEvent.State.QUEUED, sent_at__lte=before).order_by("sent_at")
        count, _ = self._events.order_by().filter(seq__in=list(old.values_list("seq", flat=True)[:PURGE_ROWS])).delete()
        return count

    # An outage is logged once when it begins and once when it ends.

    def _is_due(self, name: str) -> bool:
        outage = self._outages.get(name)
        return outage is None or self._clock() >= outage.again_at

    def _is_away(self, name: str, why: str) -> float:
        """Note an outage; how long to wait, in seconds."""
        outage = self._outages.get(name)
        if outage is None:
            logger.warning("%s: %s; the outbox waits and tries again", name.rstrip("."), why)
        wait_s = min(LONGEST_WAIT_S, 2 * outage.wait_s if outage else self.settings.poll_s)
        self._outages[name] = _Outage(wait_s, self._clock() + wait_s * random.uniform(0.5, 1.0))
        return wait_s

    def _is_back(self, name: str) -> None:
        if self._outages.pop(name, None) is not None:
            logger.warning("%s: back; the outbox goes on", name.rstrip("."))


def _send(row: OutboxEvent) -> None:
    """Put one event into Redis.

    Raises:
        SendError, ConfigurationError: It cannot be queued now.
        Exception: It can never be queued: it is not valid any more, its account is unknown, its
            options cannot be read …
    """
    event = event_class(row.task).load(json.loads(row.wire), account=row.account or None)
    one.send(event, {**kombu_json.loads(row.options), "task_id": row.event_id})


def _reason(error: Exception) -> str:
    """Why an event cannot be queued. Only the text of our own errors is free of personal data."""
    if isinstance(error, PostbackError):
        return f"{type(error).__name__}: {error}"
    return type(error).__name__
