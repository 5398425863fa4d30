"""Delivery as a step of Celery's consumer. It starts with the first connection and outlives it."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.worker import state as worker_state

from workers.rounds.rounds import Rounds
from workers.rounds.watcher import Watcher
from workers.worker import Worker


def delivery_step(
    worker: Worker, rounds: Rounds, watcher: Watcher, *, after: tuple[type[bootsteps.Step], ...]
) -> type[bootsteps.StartStopStep]:
    """The step.

    Args:
        worker: Gets Celery's name of it.
        rounds: Started and finished.
        watcher: Started and finished with the rounds.
        after: Steps that must run before anything is taken.
    """

    class DeliveryStep(bootsteps.StartStopStep):
        requires = after
        name = "postback.delivery"

        def start(self, c: Any) -> None:
            worker.hostname = c.hostname
            rounds.start()
            watcher.start()

        def stop(self, c: Any) -> None:
            # A lost connection to the broker stops no request: the rounds have their own.
            if worker_state.should_stop is not None and worker_state.should_terminate is None:
                watcher.finish()
                rounds.finish()

    return DeliveryStep
