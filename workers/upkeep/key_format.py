"""A worker starts only where it can read what stands in Redis."""

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
        """Say both numbers.

        Args:
            recorded: The format that stands in Redis.
        """
        super().__init__(
            f"the keys in Redis have format {recorded}, and this worker reads format {formats.KEY_FORMAT}: "
            "start a newer version of Postback"
        )
        self.recorded = recorded


def record_key_format(client: redis.Redis) -> None:
    """Record this worker's format of keys in Redis, unless that of a newer worker is recorded.

    Raises:
        NewerKeyFormat: It is. Nothing was changed.
        redis.RedisError: Redis is away, or refuses it.
    """
    # GT: of two workers that start at once the newer one's number stays.
    client.zadd(keys.FORMAT, {formats.KEY_FORMAT_MEMBER: formats.KEY_FORMAT}, gt=True)
    recorded: Any = client.zscore(keys.FORMAT, formats.KEY_FORMAT_MEMBER)
    if recorded is not None and recorded > formats.KEY_FORMAT:
        raise NewerKeyFormat(int(recorded))


def format_step(client: redis.Redis) -> type[bootsteps.StartStopStep]:
    """Checks the format at each connection, before anything is taken, and ends a worker that is too old."""

    class FormatStep(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)
        name = "postback.formats"

        def start(self, c: Any) -> None:
            try:
                record_key_format(client)
            except NewerKeyFormat as error:
                # Celery stops no step of a start that fails, and closing its loop would still
                # run what is scheduled: without queues nothing is taken there.
                c.task_consumer.cancel()
                logger.critical("%s", error)
                raise SystemExit(EX_FAILURE) from error
            except redis.ResponseError as error:
                # A Redis user of an older guide may not touch this key: events are worth more.
                logger.warning("%s is not checked: %s", keys.FORMAT, error)

    return FormatStep
