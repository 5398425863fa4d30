"""What a worker writes is not refused by a full Redis (ADR 18).

At ``maxmemory`` Redis refuses every command that may need memory, and every transaction (Valkey does not). Producers are to hear that. A worker must
not: its deliveries are what frees memory, and what it writes beside them (a link, a result, a lock, a heartbeat) is bounded by what it has just
delivered or by the number of its accounts.

A script is never refused in its middle: once it has written, Redis lets it finish. So these commands run in scripts that write first with a command
that needs no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import redis
from celery.backends.redis import RedisBackend, SentinelBackend

from postback.wire import keys

#: A write that needs no memory and changes nothing: no such field exists.
FIRST_WRITE: Final = f"redis.call('HDEL', '{keys.WORKERS}', '')\n"
#: One command. KEYS: its key. ARGV: its name, its other arguments.
COMMAND: Final = f"{FIRST_WRITE}return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))"
#: A transaction. ARGV: how many commands; for each the number of its words, and these.
TRANSACTION: Final = f"""{FIRST_WRITE}local replies, at = {{}}, 2
for number = 1, tonumber(ARGV[1]) do
  local last = at + tonumber(ARGV[at])
  replies[number] = redis.pcall(unpack(ARGV, at + 1, last))
  at = last + 1
end
return replies"""
#: Commands that need memory, of those that kombu, Celery and this room send; the key comes first.
REFUSABLE: Final = frozenset({"HSET", "INCRBY", "LPUSH", "RPUSH", "SADD", "SET", "SETEX", "ZADD"})


def _as_script(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """A command, or the script that carries it out."""
    if args[0] not in REFUSABLE:
        return args
    name, key, *others = args
    return "EVAL", COMMAND, 1, key, name, *others


#: For type checkers: redis-py's pipeline is a client whose method `transaction` is a flag.
_RedisPipeline: Any = redis.client.Pipeline


class _Pipeline(_RedisPipeline):  # type: ignore[misc]
    """A pipeline of :class:`Client`. A transaction is one script."""

    transaction: bool
    command_stack: list[tuple[tuple[Any, ...], dict[str, Any]]]

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's."""
        return super().execute_command(*(args if self.transaction else _as_script(args)), **options)

    def execute(self, raise_on_error: bool = True) -> Any:
        """As redis-py's. A transaction with WATCH stays one, which a full Redis refuses."""
        if not self.transaction or self.watching or self.explicit_transaction:
            return super().execute(raise_on_error)
        commands = self.command_stack
        self.transaction = False
        try:
            if self.scripts or not commands:
                # A script cannot call scripts; each of them is whole by itself.
                return super().execute(raise_on_error)
            words = [[*args[0].split(), *args[1:]] for args, _ in commands]
            script = ["EVAL", TRANSACTION, 0, len(words)]
            for one in words:
                script += [len(one), *one]
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

    #: The connection of round trips.
    _own: Any = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's; a command that a full Redis would refuse goes as a script."""
        return super().execute_command(*_as_script(args), **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> redis.client.Pipeline:
        """As redis-py's."""
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    def round_trip(self, commands: Sequence[bytes], meanwhile: Callable[[], None] = lambda: None) -> list[Any]:
        """Send several commands at once, over one connection of the client's own, and read their replies.

        redis-py's pipeline takes a connection of a pool, which connects anew without a word when Redis was restarted:
        then nobody would notice that it may have forgotten something.

        Args:
            commands: Each as it is sent (RESP).
            meanwhile: Called while Redis is at work.

        Returns:
            The replies; in place of one that is an error, the error.

        Raises:
            redis.RedisError: Redis is away, or does not reply in time.
        """
        if self._own is None:
            self._own = self.connection or self.connection_pool.get_connection()
        connection, replies = self._own, list[Any]()
        try:
            # Behind Sentinels it asks them for the primary, if it is not connected.
            connection.connect()
            connection.send_packed_command([b"".join(commands)])
            meanwhile()
            for _ in commands:
                try:
                    replies.append(connection.read_response())
                except redis.ResponseError as error:
                    replies.append(error)
        except BaseException:
            # What is still to be read must not be taken for the reply to another command.
            connection.disconnect()
            raise
        return replies

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
