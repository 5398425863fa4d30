"""A client whose writes a full Redis does not refuse (ADR 18).

At ``maxmemory`` Redis refuses every command that may need memory, and every transaction (Valkey
does not). Producers need that error. A worker must not get it: its deliveries free memory. Its
other writes (a link, a result, a lock, a heartbeat) are bounded by its deliveries or its accounts.

Redis does not refuse a script that has already written. So these commands run in scripts, whose
first write needs no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import redis
from celery.backends.redis import RedisBackend, SentinelBackend

from postback.wire import keys

#: A write that needs no memory and changes nothing, since no such field exists.
FIRST_WRITE: Final = f"redis.call('HDEL', '{keys.WORKERS}', '')\n"
#: One command. KEYS: its key. ARGV: its name, then its other arguments.
COMMAND: Final = f"{FIRST_WRITE}return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))"
#: A transaction. ARGV: the number of commands; then for each the number of its words, its words.
TRANSACTION: Final = f"""{FIRST_WRITE}local replies, at = {{}}, 2
for number = 1, tonumber(ARGV[1]) do
  local last = at + tonumber(ARGV[at])
  replies[number] = redis.pcall(unpack(ARGV, at + 1, last))
  at = last + 1
end
return replies"""
#: The commands of kombu, Celery and this room that may need memory. Their first argument is a key.
REFUSABLE: Final = frozenset({"HSET", "INCRBY", "LPUSH", "RPUSH", "SADD", "SET", "SETEX", "ZADD"})


def _as_script(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """A command, or the script that runs it."""
    if args[0] not in REFUSABLE:
        return args
    name, key, *others = args
    return "EVAL", COMMAND, 1, key, name, *others


#: Untyped: in redis-py's pipeline `transaction` is a flag, in its base class a method.
_RedisPipeline: Any = redis.client.Pipeline


class _Pipeline(_RedisPipeline):  # type: ignore[misc]
    """A pipeline of :class:`Client`. Its transaction is one script."""

    transaction: bool
    command_stack: list[tuple[tuple[Any, ...], dict[str, Any]]]

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's."""
        return super().execute_command(*(args if self.transaction else _as_script(args)), **options)

    def execute(self, raise_on_error: bool = True) -> Any:
        """As redis-py's. A transaction with WATCH stays a transaction; a full Redis refuses it."""
        if not self.transaction or self.watching or self.explicit_transaction:
            return super().execute(raise_on_error)
        commands = self.command_stack
        self.transaction = False
        try:
            if self.scripts or not commands:
                # A script cannot call scripts, and each of them is atomic by itself.
                return super().execute(raise_on_error)
            words_of_commands = [[*args[0].split(), *args[1:]] for args, _ in commands]
            script = ["EVAL", TRANSACTION, 0, len(words_of_commands)]
            for words in words_of_commands:
                script += [len(words), *words]
            self.command_stack = [(tuple(script), {})]
            (replies,) = super().execute()
        finally:
            self.transaction = True
        return [
            self._read(args[0], options, reply, raise_on_error)
            for (args, options), reply in zip(commands, replies, strict=True)
        ]

    def _read(self, name: str, options: dict[str, Any], reply: Any, raise_on_error: bool) -> Any:
        if isinstance(reply, Exception):
            if raise_on_error:
                raise reply
            return reply
        callback = self.response_callbacks.get(name)
        return reply if callback is None else callback(reply, **{key: options[key] for key in options if key != "keys"})


class Client(redis.Redis):
    """A client of a worker."""

    #: The connection of :meth:`round_trip`.
    _trip_connection: Any = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's. A command that a full Redis would refuse is sent as a script."""
        return super().execute_command(*_as_script(args), **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> redis.client.Pipeline:
        """As redis-py's."""
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    def round_trip(self, commands: Sequence[bytes], meanwhile: Callable[[], None] = lambda: None) -> list[Any]:
        """Send several commands at once over the client's own connection, and read their replies.

        redis-py's pipeline uses a pool, whose connections reconnect silently after a restart of
        Redis. Then nobody would notice that Redis may have forgotten something.

        Args:
            commands: Each as bytes to send (RESP).
            meanwhile: Called while Redis works.

        Returns:
            The reply or the error of each command.

        Raises:
            redis.RedisError: Redis is away, or does not reply in time.
        """
        if self._trip_connection is None:
            self._trip_connection = self.connection or self.connection_pool.get_connection()
        connection, replies = self._trip_connection, list[Any]()
        try:
            # Without a connection it asks the Sentinels, if there are any, for the primary.
            connection.connect()
            connection.send_packed_command([b"".join(commands)])
            meanwhile()
            for _ in commands:
                try:
                    replies.append(connection.read_response())
                except redis.ResponseError as error:
                    replies.append(error)
        except BaseException:
            # An unread reply must not be taken for the reply to another command.
            connection.disconnect()
            raise
        return replies

    def register_script(self, script: Any) -> Any:
        """As redis-py's. A full Redis does not refuse scripts of kombu and Celery either."""
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
