"""How the benchmarks measure a worker: the rate at which a local sink receives events, start-up left out."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import RedisServer, free_port
from tests.stack import ROOT, until


def ask(url: str) -> str:
    """GET a line."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def received(sink: str) -> int:
    """Events that the sink has received since its last reset."""
    return int(ask(f"{sink}/count").split()[1])


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Run on one core, and whatever is started meanwhile too; anywhere for None."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, allowed if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def drained(sink: str, events: int, command: list[str], env: dict[str, str], core: int | None = None) -> float:
    """Events a second between the first and the last tenth of them: start-up is not what is measured.

    Args:
        sink: Who receives them.
        events: How many are queued.
        command: Starts the worker.
        env: Its environment.
        core: It runs on this one only, as under ``taskset -c``.
    """
    ask(f"{sink}/reset")
    with tempfile.TemporaryFile() as log:
        with on_core(core):
            process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            low, high = events // 10, events - events // 10
            until(lambda: received(sink) >= low, 60, "the first events")
            begun, first = time.monotonic(), received(sink)
            until(lambda: received(sink) >= high, 120, "the last events")
            last = received(sink)
            rate = (last - first) / (time.monotonic() - begun)
            until(lambda: received(sink) >= events, 60, "all events")
        finally:
            process.terminate()
            process.wait()
    return rate


@contextmanager
def arena(accounts: str) -> Iterator[tuple[RedisServer, str, dict[str, str]]]:
    """A Redis, a sink and the environment of the workers that are compared.

    Args:
        accounts: The accounts file, with ``{sink}`` for the sink's address.
    """
    port = free_port()
    sink = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.sink", str(port)], cwd=ROOT)
    try:
        with RedisServer() as broker, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "accounts.toml"
            path.write_text(accounts.replace("{sink}", sink))
            env = {
                **os.environ,
                "POSTBACK_BROKER_URL": broker.url,
                "POSTBACK_ACCOUNTS": str(path),
                "POSTBACK_LOG_LEVEL": "WARNING",
                "STOCK_BROKER_URL": broker.url,
                "STOCK_SINK_URL": sink,
            }
            os.environ.update(env)
            yield broker, sink, env
    finally:
        server.terminate()
        server.wait()


def ours(provider: str) -> list[str]:
    """Command of a Postback worker."""
    return [sys.executable, "-m", "workers", provider]


def stock(app: str, threads: int) -> list[str]:
    """Command of a plain Celery worker with threads and nothing that it does not need."""
    options = [
        "-P",
        "threads",
        "-c",
        str(threads),
        "-l",
        "WARNING",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    ]
    return [sys.executable, "-m", "celery", "-A", app, "worker", *options]
