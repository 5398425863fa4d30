"""Moves the records of one Redis into the journal's database (ADR 41).

It reads each stream from its beginning, writes one transaction, then removes from the stream what
it has written. So it may be killed at any moment: a record is in the stream until it is in the
database, and one that is read twice is one row.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from postback.journal.records import FIELD, Gap, Record, Unreadable, read_gap, read_record
from postback.journal.refusals import DatabaseAway, RecordsRefused
from postback.journal.store import Store
from postback.operations.sites import Site
from postback.wire import keys
from postback.wire.scripts import Script
from postback.wire.time import redis_now_ms

logger = logging.getLogger("postback.journal")

#: Most records of one stream in one transaction.
PART: Final = 1000
#: Milliseconds for which a read waits for the first record.
BLOCK_MS: Final = 1000
#: Seconds for which records are gathered once there is one: fewer transactions.
GATHER_S: Final = 1.0
#: Seconds after which the database and Redis hear that it writes, even if there is nothing to
#: write.
HEARTBEAT_S: Final = 5.0
#: Seconds for which a process holds the right to write for a Redis, and after which it renews it.
LOCK_S: Final = 7.0
RENEW_S: Final = 2.0
#: Seconds between two tries of a process that stands by.
STANDBY_S: Final = 1.0
#: Seconds between two tries while Redis or the database is away: the first and the longest.
AWAY_S: Final = (0.5, 15.0)
#: Seconds between two looks for what is too old.
PRUNE_S: Final = 60.0
DAY_MS: Final = 86_400_000

_hold_lock: Final = Script("workers.upkeep", "hold_lock")
_name: Final = Script("workers.journal", "name")
_moved: Final = Script("workers.journal", "moved")


@dataclass(frozen=True, slots=True)
class Part:
    """What is moved in one transaction.

    Attributes:
        records: In their order; unreadable ones are left out.
        gap: What the stream has lost; None: nothing.
        unreadable: Records that could not be read.
        next_id: The id that follows the last record; empty: there was none.
        is_full: There may be more.
    """

    provider: str
    records: list[Record]
    gap: Gap | None
    unreadable: Gap | None
    next_id: str
    is_full: bool


class Mover:
    """Moves the records of one Redis. In its own thread."""

    def __init__(self, site: Site, open_store: Callable[[], Store], days: int) -> None:
        """Nothing is opened yet.

        Args:
            site: The Redis.
            open_store: Opens the database for writing.
            days: For how many days records are kept.
        """
        self._client = site.client
        self._shown, self._providers = site.broker.shown, site.providers
        self._open_store, self._days = open_store, days
        self._store: Store | None = None
        self._token = uuid.uuid4().hex
        self._held_until = self._heard_at = self._prune_at = 0.0
        self._away_s, self._warned = 0.0, ""
        #: The last thing that it said of its part.
        self._said = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"journal {self._shown}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Begin no further transaction."""
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the running transaction."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                wait_s = self.turn()
            except (redis.RedisError, OSError) as error:
                wait_s = self._away(f"Redis at {self._shown} is away", error)
                self._held_until = 0.0
            except DatabaseAway as error:
                wait_s = self._away("records wait in Redis", error)
                # A database that comes back may be another one, and lack its tables.
                self._close_store()
            except Exception as error:
                logger.exception("a turn failed; the next one follows")
                wait_s = self._away("a turn failed", error)
            self._stopping.wait(wait_s)
        self.end()

    def end(self) -> None:
        """Let go of the Redis and of the database: another process may go on at once."""
        with contextlib.suppress(redis.RedisError, OSError):  # the lock ends by itself
            if self._held_until:
                _hold_lock(self._client, [keys.JOURNAL_WRITER], [self._token, 0])
        self._close_store()

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _away(self, sentence: str, error: Exception) -> float:
        """Warn once. Returns seconds until the next try."""
        if self._warned != sentence:
            logger.warning("%s (%s)", sentence, str(error).partition("\n")[0][:300] or type(error).__name__)
            self._warned = sentence
        self._away_s = min(max(AWAY_S[0], self._away_s * 2), AWAY_S[1])
        return self._away_s

    def turn(self) -> float:
        """Move what is there. Returns seconds until the next turn.

        Raises:
            redis.RedisError, OSError: Redis is away.
            DatabaseAway: The database is away, or takes no writes.
        """
        if not self._hold():
            self._say(f"another process has the journal of {self._shown}: this one stands by")
            return STANDBY_S
        if self._store is None:
            self._store = self._open_store()
        now = time.monotonic()
        is_due = now >= self._heard_at + HEARTBEAT_S
        if not is_due and not self._await_records():
            self._prune(self._store)
            return 0.0
        now_ms = int(redis_now_ms(self._client))
        journal, is_full = self._journal_id(), False
        for part in self._read():
            if is_due or part.next_id or part.gap:
                self._move(self._store, journal, part, now_ms)
            is_full = is_full or part.is_full
        if self._warned:
            logger.info("records are moved again")
        self._say(f"writes the journal of {self._shown}")
        self._heard_at, self._warned, self._away_s = now if is_due else self._heard_at, "", 0.0
        self._prune(self._store)
        # Fuller transactions, unless records queue up.
        return 0.0 if is_full else GATHER_S

    def _say(self, sentence: str) -> None:
        """Log a change of its part."""
        if sentence != self._said:
            logger.info("%s", sentence)
            self._said = sentence

    def _hold(self) -> bool:
        """Take or keep the right to write for this Redis."""
        now = time.monotonic()
        if now < self._held_until - (LOCK_S - RENEW_S):
            return True
        holds = bool(_hold_lock(self._client, [keys.JOURNAL_WRITER], [self._token, int(LOCK_S * 1000)]))
        self._held_until = now + LOCK_S if holds else 0.0
        return holds

    def _journal_id(self) -> str:
        """This Redis' name in the database."""
        return str(_name(self._client, [keys.JOURNAL], [uuid.uuid4().hex]).decode())

    def _await_records(self) -> bool:
        """Whether there are records now, or within :data:`BLOCK_MS`."""
        streams: Any = dict.fromkeys(map(keys.journal, self._providers), "0")
        try:
            return bool(self._client.xread(streams, count=1, block=BLOCK_MS))
        except redis.ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            # One of them is not ours. The others are read all the same.
            self._stopping.wait(BLOCK_MS / 1000)
            return True

    def _read(self) -> list[Part]:
        """What each provider's stream begins with."""
        pipeline = self._client.pipeline(transaction=False)
        for provider in self._providers:
            pipeline.xrange(keys.journal(provider), count=PART)
            pipeline.hgetall(keys.journal_gap(provider))
        replies = iter(pipeline.execute(raise_on_error=False))
        parts = []
        for provider, entries, gap in zip(self._providers, replies, replies, strict=False):
            for reply in (entries, gap):
                if isinstance(reply, redis.RedisError) and "WRONGTYPE" not in str(reply):
                    raise reply
            # What is of another type counts as empty.
            lost = None if isinstance(gap, Exception) else read_gap(provider, gap)
            parts.append(_part(provider, [] if isinstance(entries, Exception) else entries, lost))
        return parts

    def _move(self, store: Store, journal: str, part: Part, now_ms: int) -> None:
        refused = self._add(store, journal, part.provider, part.records, part.gap, now_ms)
        if ours := _together(part.unreadable, *refused):
            store.add(journal, part.provider, [], ours, now_ms)
        names = [keys.journal(part.provider), keys.journal_gap(part.provider), keys.JOURNAL]
        gap = part.gap or Gap(part.provider, 0, 0, 0)
        _moved(self._client, names, [part.next_id, gap.lost, gap.until_ms, now_ms])

    def _add(
        self, store: Store, journal: str, provider: str, records: Sequence[Record], gap: Gap | None, now_ms: int
    ) -> list[Gap]:
        """Write records and a gap. Returns what the database refuses: it must not stop the rest."""
        try:
            store.add(journal, provider, records, gap, now_ms)
            return []
        except RecordsRefused:
            if not records:
                raise
        if len(records) > 1:
            middle = len(records) // 2
            first = self._add(store, journal, provider, records[:middle], gap, now_ms)
            return first + self._add(store, journal, provider, records[middle:], None, now_ms)
        logger.error("%s: the database refuses a record", provider)
        store.add(journal, provider, [], gap, now_ms)
        (record,) = records
        at_ms = record.action.at_ms if record.action else record.entries[0].at_ms if record.entries else now_ms
        return [Gap(provider, at_ms, at_ms, 1)]

    def _prune(self, store: Store) -> None:
        """Remove what is too old, a little at a time."""
        if time.monotonic() >= self._prune_at and not store.prune(int(time.time() * 1000) - self._days * DAY_MS):
            self._prune_at = time.monotonic() + PRUNE_S


def _together(*gaps: Gap | None) -> Gap | None:
    """Several gaps of one provider as one."""
    some = [gap for gap in gaps if gap is not None]
    if not some:
        return None
    since, until = min(gap.since_ms for gap in some), max(gap.until_ms for gap in some)
    return Gap(some[0].provider, since, until, sum(gap.lost for gap in some))


def _part(provider: str, entries: Sequence[Any], gap: Gap | None) -> Part:
    records, bad_ms = list[Record](), list[int]()
    for name, fields in entries:
        try:
            records.append(read_record(fields.get(FIELD.encode(), b"")))
        except Unreadable as error:
            logger.error("%s: a record of the journal cannot be read: %s", provider, error)
            bad_ms.append(int(name.split(b"-")[0]))
    unreadable = Gap(provider, bad_ms[0], bad_ms[-1], len(bad_ms)) if bad_ms else None
    next_id = ""
    if entries:
        at, _, number = entries[-1][0].decode().partition("-")
        next_id = f"{at}-{int(number) + 1}"
    return Part(provider, records, gap, unreadable, next_id, len(entries) == PART)
