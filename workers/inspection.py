"""What Celery's remote control, and through it Flower, sees of a worker."""

from __future__ import annotations

from typing import Any

from celery.worker import control

from config.topology import account_queue, dead_letter_name, provider_of
from workers import process


def install_active_queues() -> None:
    """Make ``active_queues`` name the dead-letter lists too, without consuming them.

    Flower lists only queues that some worker says it consumes. A dead-letter list must never be a real queue of a consumer: the next
    add-consumer command would drain it.
    """

    @control.inspect_command(name="active_queues")
    def active_queues(state: Any) -> list[dict[str, Any]]:
        """List the task queues a worker is currently consuming from, and the dead-letter lists of its providers."""
        consumer = state.consumer.task_consumer
        queues = [dict(queue.as_dict(recurse=True)) for queue in consumer.queues] if consumer else []
        providers = {provider_of(queue) for queue in process.current_accounts()} - {None}
        # Described as whole as a real queue: Flower's Worker page reads every one of these keys.
        names = [dead_letter_name(str(provider)) for provider in sorted(map(str, providers))]
        return queues + [dict(account_queue(name).as_dict(recurse=True)) for name in names]
