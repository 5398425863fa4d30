"""Celery configuration of the workers. Producers need none of it: they send plain Celery messages."""

from __future__ import annotations

from typing import Any, Final

from config.settings import Settings
from config.topology import FOREIGN_QUEUE, route
from postback.wire import keys
from postback.wire.broker import Broker

#: Seconds a result (``GetUserInfo``, ``GetEvent``) waits for its caller.
RESULT_EXPIRES_S: Final = 600

#: Seconds without a byte from Redis after which a connection counts as dead. Longer than any command of ours, shorter
#: than a lease: a worker that lost Redis notices before its requests' leases end.
SOCKET_TIMEOUT_S: Final = 15
#: Seconds to connect to Redis.
SOCKET_CONNECT_TIMEOUT_S: Final = 5
#: Seconds of silence after which a connection is tried with PING. Below the 30 s after which many NATs and proxies drop
#: a connection.
HEALTH_CHECK_INTERVAL_S: Final = 25


#: They belong to the user's own Celery app and would win over ``POSTBACK_BROKER_URL``: Celery looks at them before its configuration.
FOREIGN_VARIABLES: Final = (
    "CELERY_BROKER_URL",
    "CELERY_BROKER_READ_URL",
    "CELERY_BROKER_WRITE_URL",
    "CELERY_RESULT_BACKEND",
)


def celery_config(settings: Settings, provider: str | None = None) -> dict[str, Any]:
    """Settings of a worker app, with Celery's lower-case names.

    Args:
        settings: From the environment.
        provider: Whose broker to use; None for the common one.
    """
    broker = settings.broker_of(provider)
    return {
        "broker_url": broker.url,
        "broker_transport_options": _transport_options(broker),
        # A worker that starts before Redis, or outlives it, waits for it: a restart loop would only hide that Redis is
        # down.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # The grants of a lost connection are still on their way to the provider and settle over the next one.
        # Cancelling them would send twice.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        **_results(broker),
        **_messages(),
        **_execution(settings),
        **_events(settings),
    }


def _transport_options(broker: Broker) -> dict[str, Any]:
    return {
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": SOCKET_CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_INTERVAL_S,
        # No retry_on_timeout: it repeats an LPUSH whose reply was lost, which doubles the message, and it turns kombu's
        # batch publishing off. Producers and workers must agree on the steps: they are part of the lists' names. Reads
        # go first (0), writes next (3).
        "priority_steps": list(keys.PRIORITY_STEPS),
        "sep": keys.PRIORITY_SEPARATOR,
        # The primary's name, with Sentinel.
        **broker.options,
    }


def _results(broker: Broker) -> dict[str, Any]:
    return {
        # The broker's own Redis: one thing less that can be down between an answer and its caller.
        "result_backend": broker.url,
        "result_backend_transport_options": dict(broker.options),
        "result_expires": RESULT_EXPIRES_S,
        # Tasks that return something to their caller say so themselves (``ignore_result=False``).
        "task_ignore_result": True,
        # A failure of an event nobody waits for is in the dead letter; storing it again would grow Redis by one key per
        # failure.
        "task_store_errors_even_if_ignored": False,
        "redis_socket_timeout": float(SOCKET_TIMEOUT_S),
        "redis_socket_connect_timeout": float(SOCKET_CONNECT_TIMEOUT_S),
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": HEALTH_CHECK_INTERVAL_S,
        "redis_retry_on_timeout": False,
    }


def _messages() -> dict[str, Any]:
    return {
        # Anyone who can write to Redis could otherwise make a worker unpickle.
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_protocol": 2,
        "task_routes": (route,),
        "task_default_queue": FOREIGN_QUEUE,
        # A link to a task of the caller's own app goes to a queue that no worker of ours has heard of.
        "task_create_missing_queues": True,
        "timezone": "UTC",
        "enable_utc": True,
    }


def _execution(settings: Settings) -> dict[str, Any]:
    return {
        # Celery runs no task for an event: the rounds deliver. Its pool has one thread, and nothing to do.
        "worker_pool": "threads",
        "worker_concurrency": 1,
        # The logging of the process is ours: one format for all, and a filter that masks secrets.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # A rate limit of Celery's is one worker's and would hold a message whose token is already spent.
        "worker_disable_rate_limits": True,
    }


def _events(settings: Settings) -> dict[str, Any]:
    return {
        # Flower sees tasks only through these.
        "worker_send_task_events": True,
        # Sent by producers, not by workers; ours would report only their own links.
        "task_send_sent_event": False,
        "worker_enable_remote_control": settings.remote_control,
    }
