"""A worker process's periodic work: it announces its accounts, and reads the accounts file again when it has changed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import redis

from config.accounts import load_accounts
from config.settings import Settings
from config.topology import account_queue
from postback import keys
from postback.errors import ConfigurationError
from workers import logs, process, rows

logger = logging.getLogger(__name__)

#: Seconds between two heartbeats of a worker.
HEARTBEAT_S: Final = 5.0
#: Seconds for which task events (for Flower) are gathered into one message. Celery sends what there is at each turn of its loop, which costs a
#: seventh of a busy worker's time.
GATHER_EVENTS_S: Final = 0.1
#: Most task events in one message.
GATHERED_EVENTS: Final = 250
#: Seconds between two looks at the accounts file.
RELOAD_S: Final = 2.0


class Watch:
    """Runs on Celery's event loop."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], provider: str | None, client: redis.Redis
    ) -> None:
        """Remember the accounts file as it is now."""
        self._settings = settings
        self._environ = environ
        self._provider = provider
        self._client = client
        self._seen = _stamp(settings.accounts_path)
        self._timers: list[Any] = []
        self._hostname = ""

    def start(self, consumer: Any) -> None:
        """Begin, with a connection's consumer."""
        self._hostname = consumer.hostname
        rows.use(consumer.event_dispatcher)
        self._announce()
        loop = consumer.hub
        if loop is None:
            return
        self._gather_events(consumer)
        self._timers = [
            loop.call_repeatedly(HEARTBEAT_S, self._announce),
            loop.call_repeatedly(RELOAD_S, self._reload, consumer),
        ]

    def stop(self) -> None:
        """End, with that consumer."""
        for timer in self._timers:
            timer.cancel()
        self._timers = []
        # If Redis is away the heartbeat ends by itself: it is read with its time.
        with contextlib.suppress(redis.RedisError):
            self._client.hdel(keys.WORKERS, self._hostname)

    def _gather_events(self, consumer: Any) -> None:
        dispatcher = consumer.event_dispatcher
        if not dispatcher or not dispatcher.on_send_buffered:
            return
        send_now = dispatcher.on_send_buffered
        armed = False

        def flush() -> None:
            nonlocal armed
            armed = False
            send_now()

        def soon() -> None:
            nonlocal armed
            if not armed:
                armed = True
                consumer.hub.call_soon(consumer.hub.call_later, GATHER_EVENTS_S, flush)

        dispatcher.on_send_buffered = soon
        dispatcher.buffer_limit = GATHERED_EVENTS

    def _announce(self) -> None:
        governor = process.governor()
        if governor is None:
            return
        try:
            governor.announce(self._hostname, self._provider or "", keys.ACCOUNTS, keys.WORKERS)
        except redis.RedisError as error:
            logger.debug("cannot announce the accounts now (%s)", type(error).__name__)

    def _reload(self, consumer: Any) -> None:
        stamp = _stamp(self._settings.accounts_path)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            new = load_accounts(self._settings.accounts_path, self._environ, provider=self._provider)
        except ConfigurationError as error:
            logger.error("the accounts file has changed and is wrong; the accounts stay as they were: %s", error)
            return
        old = process.current_accounts()
        logs.learn(new)
        process.replace_accounts(new)
        for queue in new.keys() - old.keys():
            consumer.add_task_queue(account_queue(queue))
        for queue in old.keys() - new.keys():
            consumer.cancel_task_queue(queue)
        self._forget(old.keys() - new.keys())
        self._announce()
        logger.info("the accounts file has changed: serving %s", ", ".join(new))

    def _forget(self, removed: set[str]) -> None:
        if removed:
            try:
                self._client.hdel(keys.ACCOUNTS, *removed)
            except redis.RedisError as error:
                logger.warning("cannot withdraw removed accounts (%s)", type(error).__name__)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
