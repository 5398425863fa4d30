"""Checks the format of the keys in Redis: a worker starts only if it can read them."""

from __future__ import annotations

import logging
from typing import Any

import redis
from celery import bootsteps
from celery.platforms import EX_FAILURE

from postback.errors import PostbackError
from postback.wire import formats, keys

logger = logging.getLogger(__name__)


class NewerKeyFormat(PostbackError):
    """Redis holds keys of a newer format than this worker reads."""

    def __init__(self, recorded: int) -> None:
        """The message has both numbers.

        Args:
            recorded: The format in Redis.
        """
        super().__init__(
            f"the keys in Redis have format {recorded}, and this worker reads format {formats.KEY_FORMAT}: "
            "start a newer version of Postback"
        )
        self.recorded = recorded


def record_key_format(client: redis.Redis) -> None:
    """Record this worker's format of keys in Redis, unless a newer one is recorded.

    Raises:
        NewerKeyFormat: A newer one is recorded. Nothing was changed.
        redis.RedisError: Redis is away, or refuses it.
    """
    # GT: if two workers start at once, the newer one's number stays.
    client.zadd(keys.FORMAT, {formats.KEY_FORMAT_MEMBER: formats.KEY_FORMAT}, gt=True)
    recorded: Any = client.zscore(keys.FORMAT, formats.KEY_FORMAT_MEMBER)
    if recorded is not None and recorded > formats.KEY_FORMAT:
        raise NewerKeyFormat(int(recorded))


def format_step(client: redis.Redis) -> type[bootsteps.StartStopStep]:
    """Checks the format at each connection, before any TAKE, and ends a worker that is too old."""

    class FormatStep(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)
        name = "postback.formats"

        def start(self, c: Any) -> None:
            try:
                record_key_format(client)
            except NewerKeyFormat as error:
                # Celery does not stop the steps of a start that fails, and its loop runs scheduled
                # work while it closes. Without queues that work takes nothing.
                c.task_consumer.cancel()
                logger.critical("%s", error)
                raise SystemExit(EX_FAILURE) from error
            except redis.ResponseError as error:
                # A Redis user made by an older guide has no access to this key. The worker goes on.
                logger.warning("%s is not checked: %s", keys.FORMAT, error)

    return FormatStep
