"""A whole installation on this machine, for the demo, the tests and the benchmarks.

It is never for production.

``Stack`` is a Redis server, the sandbox, an accounts file and worker processes. Each part stands
alone too.
"""

from workers.devkit.network import fetch, free_port
from workers.devkit.processes import ROOT, Process, end_all, environment, until
from workers.devkit.redis_server import RedisServer, find_binary
from workers.devkit.stack import SECRETS, Stack, accounts_file

__all__ = [
    "ROOT",
    "SECRETS",
    "Process",
    "RedisServer",
    "Stack",
    "accounts_file",
    "end_all",
    "environment",
    "fetch",
    "find_binary",
    "free_port",
    "until",
]
