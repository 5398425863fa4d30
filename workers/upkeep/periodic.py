"""Starts and stops a worker's periodic work with each connection of its consumer."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any, Final

import redis
from celery import bootsteps

from workers.observe.metrics_server import Endpoint
from workers.observe.rows import Listeners, Rows
from workers.upkeep.accounts_file import LOOK_S, AccountsFile
from workers.upkeep.heartbeat import HEARTBEAT_S, Heartbeat

#: New objects after which the cyclic collector runs. Python's 700 suits programs that make few.
COLLECT_AFTER: Final = 50_000


class PeriodicWork:
    """A worker's periodic work, on Celery's event loop."""

    def __init__(
        self,
        heartbeat: Heartbeat,
        accounts_file: AccountsFile,
        rows: Rows,
        client: redis.Redis,
        endpoint: Endpoint | None = None,
    ) -> None:
        """Nothing runs yet.

        Args:
            heartbeat: Beats each :data:`~workers.upkeep.heartbeat.HEARTBEAT_S`.
            accounts_file: Is checked each :data:`~workers.upkeep.accounts_file.LOOK_S`.
            rows: Sent through the current connection.
            client: Its time-outs are short, since it is used on the event loop.
            endpoint: Serves this process's metrics; None for no metrics.
        """
        self._heartbeat, self._file, self._rows = heartbeat, accounts_file, rows
        self._client, self._endpoint = client, endpoint
        self._timers: list[Any] = []

    def start(self, consumer: Any) -> None:
        """Begin, with a connection's consumer."""
        self._heartbeat.hostname = consumer.hostname
        if self._endpoint:
            self._heartbeat.metrics = self._endpoint.open()
        self._file.match(consumer)
        self._heartbeat.beat()
        loop = consumer.hub
        if loop is None:
            self._rows.use(consumer.event_dispatcher)
            return
        self._rows.use(consumer.event_dispatcher, Listeners(self._client), partial(loop.call_soon, loop.call_later))
        _calm_collector()
        self._timers = [
            loop.call_repeatedly(HEARTBEAT_S, self._heartbeat.beat),
            loop.call_repeatedly(LOOK_S, self._file.look, consumer),
        ]

    def stop(self) -> None:
        """End, with that consumer."""
        self._rows.flush()
        self._rows.use(None)
        for timer in self._timers:
            timer.cancel()
        self._timers = []
        self._heartbeat.end()


def periodic_step(watch: PeriodicWork) -> type[bootsteps.StartStopStep]:
    """Starts the process's periodic work with each connection's consumer."""

    class WatchStep(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)
        name = "postback.watch"

        def start(self, c: Any) -> None:
            watch.start(c)

        def stop(self, c: Any) -> None:
            watch.stop()

    return WatchStep


def _calm_collector() -> None:
    """Exclude the objects of imported modules, some hundred thousand, from the cyclic collector.

    It took a tenth of a busy worker's time to visit them (``make bench ONLY=batches``).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
