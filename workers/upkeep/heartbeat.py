"""The heartbeat: a worker announces itself and its accounts, and reports buried events."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import redis

from config.accounts import Account
from postback._send.directory import read_announcement
from postback.operations import queues
from postback.wire import keys, schedule
from postback.wire.time import redis_now_ms
from tasks.delivery import Report
from tasks.envelopes import Envelope
from tasks.grants import Grant, Settlement
from tasks.rulings import Dead
from workers.upkeep.announce import announce_accounts, announce_worker
from workers.worker import Worker

logger = logging.getLogger(__name__)

#: Seconds between two heartbeats of a worker.
HEARTBEAT_S: Final = 2.5
#: Seconds by which this machine's clock may differ from Redis' clock.
SKEW_S: Final = 2.0
#: Milliseconds of silence after which a worker is forgotten, and between two searches for such.
FORGOTTEN_MS: Final = 600_000
#: Milliseconds after which all accounts are announced again: another worker may have withdrawn one.
ANNOUNCED_MS: Final = 60_000
#: Most notes of buried messages that are read in one heartbeat.
NOTES: Final = 1_000


class Heartbeat:
    """The heartbeat of one worker. In the event loop's thread."""

    def __init__(self, worker: Worker, client: redis.Redis, provider: str | None) -> None:
        """Nothing is sent yet.

        Args:
            worker: The worker.
            client: Its time-outs are short, since it is used on the event loop.
            provider: The provider that the worker serves; None for all.
        """
        self._worker, self._client, self._provider = worker, client, provider
        self._skewed = False
        #: The accounts, and the name of their set.
        self._name_of_set: tuple[Mapping[str, Account], str] | None = None
        self._forget_at_ms = self._announce_at_ms = 0.0
        #: The worker's node name, while it is connected.
        self.hostname = ""
        #: Address of its metrics, ``host:port``.
        self.metrics = ""
        #: Accounts whose limits may have changed since their last TAKE.
        self.changed: set[str] = set(worker.accounts)
        #: Removed accounts whose announcement is still to be withdrawn.
        self.withdrawn: set[str] = set()

    def beat(self) -> None:
        """Send one heartbeat."""
        worker = self._worker
        try:
            now_ms = self._now_ms()
            identities = worker.governor.identities
            served = self._served()
            if identities.learn(self._client):
                self._announce_at_ms = 0.0
            identities.serve(worker.accounts)
            is_announced = announce_worker(
                self._client,
                self.hostname,
                served,
                now_ms,
                provider=self._provider or "",
                held=len(worker.grants),
                metrics=self.metrics,
            )
            if not is_announced or self.changed or now_ms >= self._announce_at_ms:
                announce_accounts(self._client, worker.accounts, identities, served)
                self._announce_at_ms = now_ms + ANNOUNCED_MS
                self._update_identities(now_ms)
            schedule.due(self._client, self.changed, "changed")
            self.changed.clear()
            self._withdraw()
            self._report_buried()
            self._forget_dead(now_ms)
        except redis.RedisError as error:
            logger.debug("cannot announce the accounts now (%s)", type(error).__name__)

    def _update_identities(self, now_ms: float) -> None:
        """Find accounts of other workers and files with the same key or the same quota."""
        announced = queues.announced(self._client, {queue.partition(".")[0] for queue in self._worker.accounts})
        served = queues.served(self._client, queues.workers(self._client, now_ms), announced, now_ms)
        alive = {queue: announcement for queue, announcement in announced.items() if queue in served}
        for warning in self._worker.governor.identities.update(alive):
            logger.warning("%s", warning)

    def _served(self) -> str:
        """The name of the set of accounts. It is computed on a change: they may be thousands."""
        if self._name_of_set is None or self._name_of_set[0] is not self._worker.accounts:
            self._name_of_set = self._worker.accounts, keys.name_of_set(self._worker.accounts)
        return self._name_of_set[1]

    def _now_ms(self) -> float:
        """Redis' clock, the only one that counts; warns if this machine's clock differs."""
        now_ms = redis_now_ms(self._client)
        skew_s = time.time() - now_ms / 1000
        if abs(skew_s) > SKEW_S and not self._skewed:
            direction = "ahead of" if skew_s > 0 else "behind"
            logger.warning(
                "this machine's clock is %.0f s %s Redis' clock, which decides; the log has this machine's time",
                abs(skew_s),
                direction,
            )
        self._skewed = abs(skew_s) > SKEW_S
        return now_ms

    def end(self) -> None:
        """Withdraw the worker's announcement. If Redis is away, its age shows that it is over."""
        with contextlib.suppress(redis.RedisError):
            self._client.hdel(keys.WORKERS, self.hostname)

    def _withdraw(self) -> None:
        """Withdraw each removed account once: another worker, with another file, may serve it."""
        if self.withdrawn:
            self._client.hdel(keys.ACCOUNTS, *self.withdrawn)
            self.withdrawn.clear()

    def _forget_dead(self, now_ms: float) -> None:
        """Remove the announcements and mailboxes of killed workers."""
        if now_ms < self._forget_at_ms:
            return
        self._forget_at_ms = now_ms + FORGOTTEN_MS
        names: Any = self._client.hkeys(keys.WORKERS)
        for name in names:
            at = read_announcement(self._client.hget(keys.WORKERS, name) or b"").get("at")  # type: ignore[arg-type]
            if not isinstance(at, (int, float)) or now_ms - at > FORGOTTEN_MS:
                self._client.hdel(keys.WORKERS, name)
                self._client.srem(keys.MAILBOXES, keys.mailbox(name.decode("utf-8", "replace")))

    def _report_buried(self) -> None:
        """Report messages that killed too many workers.

        TAKE buries them, so no worker reports their end. It leaves a note of each, which one worker
        reads.
        """
        for provider in dict.fromkeys(queue.partition(".")[0] for queue in self._worker.accounts):
            notes: Any = self._client.lpop(keys.buried(provider), NOTES)
            for note in notes or ():
                queue, task_id, task = note.decode("utf-8", "replace").split(" ", 2)
                ruling = Dead("crashed its worker died too often with it", letter="", possible_duplicate=True)
                buried = Grant("", queue, [Envelope(raw=b"", id=task_id, task=task, ruling=ruling)])
                self._worker.observe(Report(buried, Settlement("none")))
