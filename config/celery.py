"""Celery configuration of the workers. Producers need none of it."""

from __future__ import annotations

from typing import Any, Final

from config.settings import Settings
from config.topology import FOREIGN_QUEUE, route
from postback.wire import keys
from postback.wire.broker import Broker

#: Seconds a result (``GetUserInfo``, ``GetEvent``) waits for its caller.
RESULT_EXPIRES_S: Final = 600

#: Seconds without a byte from Redis after which a connection counts as dead. It is longer than any
#: command of ours. It is shorter than a lease, so a worker that has lost Redis notices it before
#: the leases of its requests end.
SOCKET_TIMEOUT_S: Final = 15
#: Seconds to connect to Redis.
SOCKET_CONNECT_TIMEOUT_S: Final = 5
#: Seconds of silence after which a connection is checked with PING. Many NATs and proxies drop a
#: connection after 30 s.
HEALTH_CHECK_INTERVAL_S: Final = 25


#: Variables of the user's own Celery app. Celery prefers them to its configuration, so they would
#: win over ``POSTBACK_BROKER_URL``.
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
        # A worker waits for a Redis that is not there, at its start and later. A restart loop would
        # only hide that Redis is down.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # When a connection is lost, its requests are still on the wire, and settle over the next
        # one. If they were cancelled, they would be sent twice.
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
        # No retry_on_timeout: it would repeat an LPUSH whose reply was lost, and so double the
        # message. It also turns off kombu's batch publishing. The steps are part of the lists'
        # names, so producers and workers must have the same. Reads are 0 and go first, writes are
        # 3.
        "priority_steps": list(keys.PRIORITY_STEPS),
        "sep": keys.PRIORITY_SEPARATOR,
        # The primary's name, with Sentinel.
        **broker.options,
    }


def _results(broker: Broker) -> dict[str, Any]:
    return {
        # The broker's own Redis, so that no second one can be down.
        "result_backend": broker.url,
        "result_backend_transport_options": dict(broker.options),
        "result_expires": RESULT_EXPIRES_S,
        # Tasks that return something to their caller say so themselves (``ignore_result=False``).
        "task_ignore_result": True,
        # A dead letter holds the failure already. To store it again would cost one key of Redis for
        # each failure.
        "task_store_errors_even_if_ignored": False,
        "redis_socket_timeout": float(SOCKET_TIMEOUT_S),
        "redis_socket_connect_timeout": float(SOCKET_CONNECT_TIMEOUT_S),
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": HEALTH_CHECK_INTERVAL_S,
        "redis_retry_on_timeout": False,
    }


def _messages() -> dict[str, Any]:
    return {
        # Otherwise anybody who can write to Redis could make a worker unpickle.
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_protocol": 2,
        "task_routes": (route,),
        "task_default_queue": FOREIGN_QUEUE,
        # A link to a task of the caller's own app goes to a queue that our workers do not know.
        "task_create_missing_queues": True,
        "timezone": "UTC",
        "enable_utc": True,
    }


def _execution(settings: Settings) -> dict[str, Any]:
    return {
        # The rounds deliver events, not Celery's pool. Its one thread has nothing to do.
        "worker_pool": "threads",
        "worker_concurrency": 1,
        # The process has our logging: one format, and a filter that masks secrets.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # Celery's rate limits hold for one worker only. They would hold back a message that has its
        # grant already.
        "worker_disable_rate_limits": True,
    }


def _events(settings: Settings) -> dict[str, Any]:
    return {
        # Flower sees tasks only through these.
        "worker_send_task_events": True,
        # Producers send these events. Workers would report their own links only.
        "task_send_sent_event": False,
        "worker_enable_remote_control": settings.remote_control,
    }
