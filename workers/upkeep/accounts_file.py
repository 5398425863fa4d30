"""Reads the accounts file again when it has changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from config.accounts import load_accounts
from config.settings import Settings
from config.topology import account_queue
from postback.errors import ConfigurationError
from workers.observe.masking import Masker
from workers.upkeep.heartbeat import Heartbeat
from workers.worker import Worker

logger = logging.getLogger(__name__)

#: Seconds between two checks of the accounts file. A change counts if two checks see the same file:
#: until then somebody may be writing.
LOOK_S: Final = 1.0

#: Time, size and inode of a file; None without a file.
Stamp = tuple[int, ...] | None


class AccountsFile:
    """The accounts file of one worker. In the event loop's thread."""

    def __init__(
        self,
        worker: Worker,
        settings: Settings,
        environ: Mapping[str, str],
        provider: str | None,
        masker: Masker,
        heartbeat: Heartbeat,
    ) -> None:
        """Remember the file as it is now.

        Args:
            worker: Serves the accounts.
            settings: From the environment.
            environ: For the file's ``env:NAME`` values: that of the process.
            provider: Serve this provider's accounts only; None for all.
            masker: Learns new credentials.
            heartbeat: Announces the accounts.
        """
        self._worker, self._provider, self._environ = worker, provider, environ
        self._masker, self._heartbeat = masker, heartbeat
        self._path = settings.accounts_path
        self._used = self._seen = _stamp(self._path)
        #: Accounts that were removed from the file since the start.
        self._removed: set[str] = set()

    def look(self, consumer: Any) -> None:
        """Serve the file's accounts, if it has changed and nobody is writing."""
        stamp = _stamp(self._path)
        settled = stamp == self._seen
        self._seen = stamp
        if settled and stamp != self._used:
            self._used = stamp
            self._reload(consumer)

    def _reload(self, consumer: Any) -> None:
        try:
            new = load_accounts(self._path, self._environ, provider=self._provider)
        except ConfigurationError as error:
            logger.error("the accounts file has changed and is wrong; the accounts stay as they were: %s", error)
            return
        old = self._worker.accounts
        added, removed = new.keys() - old.keys(), old.keys() - new.keys()
        changed = {queue for queue in new.keys() & old.keys() if new[queue] != old[queue]}
        self._masker.learn(new)
        self._worker.accounts = new
        self._removed = (self._removed | removed) - new.keys()
        self._heartbeat.withdrawn = (self._heartbeat.withdrawn | removed) - new.keys()
        self.match(consumer)
        self._heartbeat.changed |= changed
        self._heartbeat.beat()
        changes = [
            f"{change} {', '.join(sorted(queues))}"
            for change, queues in (("added", added), ("changed", changed), ("removed", removed))
            if queues
        ]
        logger.info("the accounts file has changed: %s", "; ".join(changes) or "nothing that concerns this worker")
        if not new:
            logger.warning("the accounts file has no account for this worker any more: it serves none")

    def match(self, consumer: Any) -> None:
        """Make Celery consume the queues of exactly these accounts.

        It is safe to repeat: the next connection completes the work of a lost one.
        """
        tasks, queues = consumer.task_consumer, consumer.app.amqp.queues
        for queue in self._worker.accounts:
            if not tasks.consuming_from(queue):
                queues.select_add(account_queue(queue))
                consumer.add_task_queue(queue)
        for queue in self._removed:
            if tasks.consuming_from(queue):
                consumer.cancel_task_queue(queue)


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
