"""The SDK's own Celery app, by which producers send.

The app is private. The user's ``current_app``, configuration module and ``CELERY_*`` variables do
not change it, and it does not change them.
"""

from __future__ import annotations

from typing import Any, Final

import kombu
from celery import Celery
from redis.backoff import NoBackoff
from redis.retry import Retry

from postback.wire.broker import Broker

__all__ = ["RESULT_EXPIRES_S", "ProducerApp", "make_app"]

#: How long a result is kept, in seconds.
RESULT_EXPIRES_S: Final = 600


class ProducerApp(Celery):
    """A Celery app that connects to its own broker only.

    Attributes:
        postback_broker: Where its Redis is.
    """

    postback_broker: Broker

    def connection_for_write(self, url: str | None = None, **kwargs: Any) -> kombu.Connection:
        """As Celery's, but it ignores ``CELERY_BROKER_URL``, which is the user's own broker."""
        return super().connection_for_write(url or self.postback_broker.url, **kwargs)

    def connection_for_read(self, url: str | None = None, **kwargs: Any) -> kombu.Connection:
        """See :meth:`connection_for_write`."""
        return super().connection_for_read(url or self.postback_broker.url, **kwargs)


def make_app(broker: Broker, timeout_s: float) -> ProducerApp:
    """The private Celery app of a producer. It connects at its first use.

    Args:
        broker: Where Redis is.
        timeout_s: The longest a send may take, in seconds.
    """
    app = ProducerApp("postback", set_as_current=False, loader="celery.loaders.app:AppLoader", fixups=[])
    app.postback_broker = broker
    # CELERY_RESULT_BACKEND is the user's and wins over the configuration, but not over the class.
    app.backend_cls = broker.url
    # A send on a new connection takes at most one connect and one silent reply. If it asks for the
    # accounts too, it takes one silent reply more.
    connect_s, reply_s = timeout_s / 4, timeout_s * 3 / 8
    once = {"socket_timeout": reply_s, "socket_connect_timeout": connect_s, "retry": Retry(NoBackoff(), 0)}
    options: dict[str, Any] = {
        **broker.options,
        "socket_timeout": reply_s,
        "socket_connect_timeout": connect_s,
        "socket_keepalive": True,
        # redis-py must not retry: a repeated LPUSH is a duplicate. kombu's pools do not retry
        # unless they are asked to.
        "retry_on_timeout": False,
        "health_check_interval": 0,
        "max_retries": 0,
        "interval_start": 0,
        "interval_step": 0,
        "interval_max": 0,
        "client_name": "postback",
    }
    if broker.options:
        options["sentinel_kwargs"] = once
    app.conf.update(
        broker_url=broker.url,
        broker_transport_options=options,
        broker_connection_timeout=connect_s,
        result_backend=broker.url,
        result_backend_transport_options=dict(broker.options),
        result_expires=RESULT_EXPIRES_S,
        task_publish_retry=False,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        redis_socket_connect_timeout=connect_s,
        task_create_missing_queues=True,
        enable_utc=True,
        timezone="UTC",
    )
    return app
