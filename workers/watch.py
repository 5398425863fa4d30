"""A worker process's periodic work: it announces its accounts, and reads the accounts file again when it has changed."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis
from prometheus_client import CollectorRegistry

from config.accounts import load_accounts
from config.settings import Settings
from config.topology import account_queue
from postback import keys
from postback.errors import ConfigurationError
from tasks.delivery import Fate, Report
from tasks.envelopes import Envelope
from tasks.grants import Grant, Settlement
from workers import logs, process, rows
from workers.metrics.server import listen, metrics_page, reached_at

logger = logging.getLogger(__name__)

#: Seconds between two heartbeats of a worker.
HEARTBEAT_S: Final = 5.0
#: Seconds for which task events (for Flower) are gathered into one message. Celery sends what there is at each turn of its loop, which costs a
#: seventh of a busy worker's time.
GATHER_EVENTS_S: Final = 0.1
#: Most task events in one message.
GATHERED_EVENTS: Final = 250
#: Seconds between two looks at the accounts file. A change counts when two looks see the same: until then somebody may be writing.
LOOK_S: Final = 1.0

#: Size, times and identity of a file; None if there is none.
Stamp = tuple[int, ...] | None


#: New objects after which the cyclic collector looks; Python's own 700 is for programs that make few.
COLLECT_AFTER: Final = 50_000


class Watch:
    """Runs on Celery's event loop."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        provider: str | None,
        client: redis.Redis,
        told: Callable[[Grant, Report], None],
        registry: CollectorRegistry | None,
    ) -> None:
        """Remember the accounts file as it is now.

        Args:
            settings: From the environment.
            environ: Where the accounts file's ``env:NAME`` values come from: the process's own, which no file can change.
            provider: Serve this provider's accounts only; None for all.
            client: Its time-outs are short, since it is used on the event loop.
            told: Told of events that died without having run.
            registry: This process's metrics, if they are to be served.
        """
        self._settings = settings
        self._environ = environ
        self._provider = provider
        self._client = client
        self._told = told
        self._registry = registry
        self._metrics = ""
        self._used = self._seen = _stamp(settings.accounts_path)
        #: Accounts that the file had since the start and has no more.
        self._removed: set[str] = set()
        #: Those of them whose announcement is still to be withdrawn.
        self._announced: set[str] = set()
        self._timers: list[Any] = []
        self._hostname = ""

    def start(self, consumer: Any) -> None:
        """Begin, with a connection's consumer."""
        self._hostname = consumer.hostname
        self._serve_metrics()
        hub = consumer.hub
        if hub is None:
            rows.use(consumer.event_dispatcher)
        else:
            rows.use(consumer.event_dispatcher, rows.Listeners(self._client), partial(hub.call_soon, hub.call_later))
        self._match(consumer)
        self._beat()
        loop = consumer.hub
        if loop is None:
            return
        _calm_collector()
        self._gather_events(consumer)
        self._timers = [
            loop.call_repeatedly(HEARTBEAT_S, self._beat),
            loop.call_repeatedly(LOOK_S, self._look, consumer),
        ]

    def stop(self) -> None:
        """End, with that consumer."""
        rows.flush()
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

    # Who is there

    def _beat(self) -> None:
        governor = process.governor()
        if governor is None:
            return
        try:
            governor.announce(self._hostname, self._provider or "", keys.ACCOUNTS, keys.WORKERS, self._metrics)
            self._withdraw()
            self._tell_buried()
        except redis.RedisError as error:
            logger.debug("cannot announce the accounts now (%s)", type(error).__name__)

    def _withdraw(self) -> None:
        """Once for each account that was removed: another worker, with another file, may serve it."""
        if self._announced:
            self._client.hdel(keys.ACCOUNTS, *self._announced)
            self._announced.clear()

    def _tell_buried(self) -> None:
        """TAKE buries a message that has killed too many workers, and no task runs for it. It leaves a note; one worker picks it up."""
        queues = list(process.current_accounts())
        pipeline = self._client.pipeline(transaction=False)
        for queue in queues:
            pipeline.hexists(keys.meta(queue), "buried")
        for queue in [queue for queue, noted in zip(queues, pipeline.execute(), strict=True) if noted]:
            both: Any = self._client.pipeline(transaction=True)
            note, _ = both.hget(keys.meta(queue), "buried").hdel(keys.meta(queue), "buried").execute()
            for line in (note or b"").decode("utf-8", "replace").splitlines():
                task_id, _, task = line.partition(" ")
                envelope = Envelope(raw=b"", id=task_id, task=task)
                fate = Fate("dead", "crashed: its worker died too often with it")
                self._told(Grant("", queue, [envelope]), Report(Settlement(), [fate]))

    def _serve_metrics(self) -> None:
        port, address = self._settings.metrics_port, self._settings.metrics_address
        if self._registry is None or port is None or self._metrics:
            return
        try:
            server = listen(address, port, {"/metrics": metrics_page(self._registry)})
        except OSError as error:
            # Events are worth more than their metrics.
            logger.error(
                "no metrics: POSTBACK_METRICS_PORT: cannot listen on %s from port %d on: %s",
                address,
                port,
                error.strerror,
            )
            return
        self._metrics = reached_at(address, server.port)
        logger.info("metrics at http://%s/metrics", self._metrics)

    # The accounts file

    def _look(self, consumer: Any) -> None:
        stamp = _stamp(self._settings.accounts_path)
        settled = stamp == self._seen
        self._seen = stamp
        if settled and stamp != self._used:
            self._used = stamp
            self._reload(consumer)

    def _reload(self, consumer: Any) -> None:
        try:
            new = load_accounts(self._settings.accounts_path, self._environ, provider=self._provider)
        except ConfigurationError as error:
            logger.error("the accounts file has changed and is wrong; the accounts stay as they were: %s", error)
            return
        old = process.current_accounts()
        added, removed = new.keys() - old.keys(), old.keys() - new.keys()
        changed = {queue for queue in new.keys() & old.keys() if new[queue] != old[queue]}
        logs.learn(new)
        process.replace_accounts(new)
        self._removed = (self._removed | removed) - new.keys()
        self._announced = (self._announced | removed) - new.keys()
        self._match(consumer)
        self._beat()
        for queue in changed:
            process.ask(queue)
        words = [
            f"{word} {', '.join(sorted(some))}"
            for word, some in (("added", added), ("changed", changed), ("removed", removed))
            if some
        ]
        logger.info("the accounts file has changed: %s", "; ".join(words) or "nothing that concerns this worker")
        if not new:
            logger.warning("the accounts file has no account for this worker any more: it serves none")

    def _match(self, consumer: Any) -> None:
        """Consume the accounts that there are, and no other. Safe to repeat; a lost connection's work is done by the next one's."""
        tasks, queues = consumer.task_consumer, consumer.app.amqp.queues
        for queue in process.current_accounts():
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


def _calm_collector() -> None:
    """What stands now stands to the end: Celery's and our own modules, some hundred thousand objects that the cyclic collector need not visit.

    A tenth of a busy worker's time (``make bench ONLY=batches``).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
