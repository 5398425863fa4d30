"""Celery's remote control: pause and resume from wherever Celery is, and answers for Flower.

``celery -A workers.app control pause_account tgtrack.main`` ·
``… control resume_account tgtrack`` · ``… inspect accounts``
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import redis
from celery.utils.functional import maybe_list
from celery.worker import control

from config.topology import account_queue, dead_letter_name, provider_of, together
from postback.operations import pause, resume
from postback.wire import keys
from postback.wire.time import redis_now_ms
from tasks.grants import Grant
from workers.observe.rows import kwargs_shown
from workers.worker import Worker

logger = logging.getLogger(__name__)

#: Longest id that gets a tombstone; our own have 36 characters.
MAX_ID: Final = 255
#: Who pauses and resumes, in the journal: a command does not say who sent it.
WHO: Final = "celery control"


def install_control(worker: Worker, client: redis.Redis) -> None:
    """Register the commands. They run on the event loop: the client's time-outs must be short."""

    def for_each(target: str, act: Callable[[str], str]) -> Any:
        queues = [queue for queue in worker.accounts if target in (queue, queue.partition(".")[0])]
        if not queues:
            # Every worker gets the command. Another one answers for the account.
            return {"error": f"{target[:100]}: not served by this worker"}
        try:
            return {"ok": "; ".join(act(queue) for queue in queues)}
        except redis.RedisError as error:
            return {"error": f"Redis is away ({type(error).__name__}): ask again"}

    @control.control_command(args=[("target", str), ("detail", str)], signature="PROVIDER[.ACCOUNT] [DETAIL]")
    def pause_account(state: Any, target: str, detail: str = "") -> Any:
        """Hold the events of an account, or of all accounts of a provider, until it is resumed."""

        def act(queue: str) -> str:
            done = pause(client, queue, detail, who=WHO)
            return f"{queue} paused" if done.changed else f"{queue} was already paused ({done.reason})"

        return for_each(target, act)

    @control.control_command(args=[("target", str)], signature="PROVIDER[.ACCOUNT]")
    def resume_account(state: Any, target: str) -> Any:
        """End the pause of an account, or of all accounts of a provider."""

        def act(queue: str) -> str:
            done = resume(client, queue, who=WHO)
            return f"{queue} resumed (it was paused: {done.reason})" if done.was_paused else f"{queue} was not paused"

        return for_each(target, act)

    _install_revoke(client)
    _install_active_queues(worker)
    _install_events(worker)

    @control.inspect_command()
    def accounts(state: Any) -> dict[str, Any]:
        """Accounts that the worker serves now; no credentials."""
        in_flight = Counter(grant.queue for grant in worker.grants)
        return {
            queue: {
                "limits": "; ".join(window.text for window in account.windows),
                "batch_max": account.batch_max,
                "requests_in_flight": in_flight[queue],
            }
            for queue, account in worker.accounts.items()
        }


def _install_revoke(client: redis.Redis) -> None:
    """Make Celery's ``revoke`` durable: a tombstone in Redis outlives every worker (ADR 23)."""
    celery_control: Any = control  # its stubs have no commands
    in_memory = celery_control.revoke

    @control.control_command(name="revoke", variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
    def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **options: Any) -> Any:
        """Revoke events by id: they are not sent, even after a restart of all workers."""
        ids = [name for name in maybe_list(task_id) or [] if isinstance(name, str) and 0 < len(name) <= MAX_ID]
        try:
            if ids:
                client.zadd(keys.REVOKED, dict.fromkeys(ids, round(redis_now_ms(client))), nx=True)
        except redis.RedisError as error:
            logger.error("%d revocations hold in this worker's memory only: %s", len(ids), type(error).__name__)
        return in_memory(state, task_id, terminate, signal, **options)


def _install_active_queues(worker: Worker) -> None:
    """Make ``active_queues`` name the dead-letter lists, too, without consuming them.

    Flower lists only the queues that workers say they consume. A dead-letter list must never be a
    real queue of a consumer: the next add-consumer command would drain it.
    """

    @control.inspect_command(name="active_queues")
    def active_queues(state: Any) -> list[dict[str, Any]]:
        """List the accounts' queues (one name for very many) and their dead-letter lists."""
        consumer = state.consumer.task_consumer
        foreign = [queue for queue in consumer.queues if queue.name not in worker.accounts] if consumer else []
        providers = {provider_of(queue) for queue in worker.accounts} - {None}
        # The full description of a queue: Flower's Worker page reads every one of these keys.
        names = together(worker.accounts) + [
            dead_letter_name(str(provider)) for provider in sorted(map(str, providers))
        ]
        return [dict(queue.as_dict(recurse=True)) for queue in (*foreign, *map(account_queue, names))]


def _install_events(worker: Worker) -> None:
    """Make ``active`` and ``reserved`` name events: Celery runs no message for them."""

    def shown(grant: Grant) -> list[dict[str, Any]]:
        return [
            {
                "id": event.id,
                "name": event.task,
                "args": [],
                "kwargs": kwargs_shown(event, grant.queue),
                "type": event.task,
                "hostname": worker.hostname,
                "time_start": grant.granted_us / 1_000_000,
                "acknowledged": False,
                "delivery_info": {"exchange": "", "routing_key": grant.queue, "priority": 0, "redelivered": False},
                "worker_pid": os.getpid(),
            }
            for event in grant.envelopes
        ]

    @control.inspect_command(alias="dump_active")
    def active(state: Any, **_: Any) -> list[dict[str, Any]]:
        """Events whose request is on the wire."""
        return [event for grant in worker.grants if grant.sent for event in shown(grant)]

    @control.inspect_command(alias="dump_reserved")
    def reserved(state: Any, **_: Any) -> list[dict[str, Any]]:
        """Events that are taken and whose request is about to begin."""
        return [event for grant in worker.grants if not grant.sent for event in shown(grant)]
