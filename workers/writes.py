"""What a worker writes is not refused by a full Redis (ADR 18).

At ``maxmemory`` Redis refuses every command that may need memory. Producers are to hear that. A worker must not: its deliveries are what frees
memory, and what it writes beside them (a link, a result, a lock, a heartbeat) is bounded by what it has just delivered or by the number of its
accounts.

A script is never refused in its middle: once it has written, Redis lets it finish. So such a command runs as a script that writes first with a
command that needs no memory.
"""

from __future__ import annotations

from typing import Any, Final

import redis
from celery.backends.redis import RedisBackend, SentinelBackend

from postback import keys

#: A write that needs no memory and changes nothing: no such field exists.
FIRST_WRITE: Final = f"redis.call('HDEL', '{keys.WORKERS}', '')\n"
#: KEYS: the command's key. ARGV: the command's name, its other arguments.
SCRIPT: Final = f"{FIRST_WRITE}return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))"
#: Commands that need memory, of those that kombu, Celery and this room send. In each the first argument is the only key.
REFUSABLE: Final = frozenset({"HSET", "INCRBY", "LPUSH", "RPUSH", "SADD", "SET", "SETEX", "ZADD"})


class _Writes:
    """Mixed into redis-py's client and its pipelines."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's; a command that a full Redis would refuse goes as a script."""
        if args[0] in REFUSABLE:
            command, key, *rest = args
            args = ("EVAL", SCRIPT, 1, key, command, *rest)
        return super().execute_command(*args, **options)  # type: ignore[misc]


class _Pipeline(_Writes, redis.client.Pipeline):
    """A pipeline of :class:`Client`."""


class Client(_Writes, redis.Redis):
    """A client of a worker."""

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> redis.client.Pipeline:
        """As redis-py's."""
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    def register_script(self, script: Any) -> Any:
        """As redis-py's; a script of kombu's or Celery's is not refused either."""
        return super().register_script(FIRST_WRITE + script)


class _Backend:
    """Mixed into Celery's result backends."""

    def _get_client(self) -> type[redis.Redis]:
        return Client


class Backend(_Backend, RedisBackend):
    """Results in one Redis."""


class BackendBehindSentinels(_Backend, SentinelBackend):
    """Results in Redis behind Sentinels."""


#: Scheme of a result backend's URL -> its class, as Celery's loader takes it.
BACKENDS: Final = {
    "redis": f"{__name__}:{Backend.__name__}",
    "rediss": f"{__name__}:{Backend.__name__}",
    "sentinel": f"{__name__}:{BackendBehindSentinels.__name__}",
}
