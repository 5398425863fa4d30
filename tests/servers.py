"""The embedded Redis server, under the name that tests know it by; see :mod:`workers.embedded`."""

from workers.embedded import RedisServer, find_binary, free_port

__all__ = ["RedisServer", "find_binary", "free_port"]
