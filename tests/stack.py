"""A whole installation for acceptance tests and benchmarks: Redis, the sandbox, an accounts file, worker processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis

import postback
from postback.sandbox import Sandbox
from postback.wire import keys
from tests.servers import RedisServer

#: The project's root: workers run there.
ROOT: Final = Path(__file__).resolve().parent.parent
#: Seconds within which a worker must say that it is ready.
READY_S: Final = 60.0
#: Credentials of the accounts of a stack; a test greps for them.
SECRETS: Final = {
    "tgtrack": {"api_key": "tgtrack-Secret-0f9a1"},
    "mytracker": {"id_app": 666, "token": "mytracker-Secret-1c7b2"},
    "tganalytics": {"token": "tganalytics-Secret-2d8c3", "app_name": "docs"},
    "tonai": {"api_key": "tonai-Secret-3e9d4"},
    "tonapi": {"token": "tonapi-Secret-4fae5"},
}


class Worker:
    """A worker process (``python -m workers PROVIDER``) with its log in a file."""

    def __init__(self, stack: Stack, provider: str, env: Mapping[str, str]) -> None:
        """Start it; it is not ready yet."""
        stack.launched += 1
        self.provider = provider
        self.log = stack.folder / f"{provider}-{stack.launched}.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers", provider],
                cwd=ROOT,
                env=dict(env),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_ready(self) -> Self:
        """Return once it consumes.

        Raises:
            RuntimeError: It ended, or takes too long; the message holds its log.
        """
        until(
            lambda: " ready." in self.text() or self.process.poll() is not None,
            READY_S,
            f"worker {self.provider} ready",
        )
        if self.process.poll() is not None:
            raise RuntimeError(f"the worker ended: {self.text()[-2000:]}")
        return self

    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM, then its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Stack:
    """Redis, sandbox, accounts and workers on loopback; everything ends with the ``with`` block."""

    def __init__(self, *, appendonly: bool = False, **sandbox: Any) -> None:
        """Prepare.

        Args:
            appendonly: Redis keeps an append-only file.
            sandbox: Arguments of :class:`postback.sandbox.Sandbox`.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="postback-stack-"))
        self.redis = RedisServer(appendonly=appendonly)
        self.sandbox = Sandbox(**sandbox)
        self.workers: list[Worker] = []
        self.launched = 0
        self._accounts: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        self.redis.start()
        self.sandbox.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()
        self.sandbox.close()
        self.redis.stop()
        if kind is None:
            # What a failed test leaves behind are its workers' logs.
            shutil.rmtree(self.folder, ignore_errors=True)

    def account(self, queue: str, **settings: Any) -> None:
        """Add ``provider.name`` with the provider's test credentials, or change it, in the accounts file.

        The first account of a provider has the key of :data:`SECRETS`, each other one a key of its own.
        """
        provider, _, name = queue.partition(".")
        credentials = dict(SECRETS[provider])
        first = next((other for other in self._accounts if other.startswith(f"{provider}.")), queue)
        if queue != first:
            field = "token" if "token" in credentials else "api_key"
            credentials[field] = f"{credentials[field]}-{name}"
        self._accounts[queue] = {**credentials, "base_url": self.sandbox.url, **settings}
        lines = []
        for name, table in self._accounts.items():
            lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items()), ""]
        # In one step, as an editor does it: a worker may be reading.
        draft = self.folder / "accounts.draft"
        draft.write_text("\n".join(lines))
        draft.rename(self.accounts_path)

    @property
    def accounts_path(self) -> Path:
        """The accounts file."""
        return self.folder / "accounts.toml"

    def env(self, **extra: str) -> dict[str, str]:
        """Environment of this stack's processes."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("POSTBACK_")}
        return {
            **kept,
            "POSTBACK_BROKER_URL": self.redis.url,
            "POSTBACK_ACCOUNTS": str(self.accounts_path),
            "PYTHONUNBUFFERED": "1",
            **extra,
        }

    def configure_producer(self) -> None:
        """Make this process a producer of the stack."""
        names: dict[str, list[str]] = {}
        for queue in self._accounts:
            provider, _, name = queue.partition(".")
            names.setdefault(provider, []).append(name)
        postback.configure(broker_url=self.redis.url, accounts=names)

    def start_workers(self, provider: str, count: int = 1, **extra: str) -> list[Worker]:
        """Start workers at once and return when all are ready."""
        started = [Worker(self, provider, self.env(**extra)) for _ in range(count)]
        self.workers += started
        for worker in started:
            worker.wait_ready()
        return started

    def client(self) -> redis.Redis:
        """A client of the stack's Redis; replies are ``str``."""
        return redis.Redis(host="127.0.0.1", port=self.redis.port, decode_responses=True)

    def waiting(self, queue: str) -> int:
        """Events of an account that are queued, delayed, held aside or in flight."""
        client = self.client()
        total = sum(int(client.llen(name)) for name in keys.priority_lists(queue))
        return (
            total
            + int(client.zcard(keys.delayed(queue)))
            + int(client.zcard(keys.held(queue)))
            + int(client.hlen(keys.unacked(queue)))
        )

    def logs(self) -> str:
        """What all workers wrote."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else '"' + str(value).replace('"', '\\"') + '"'


def until(condition: Callable[[], Any], timeout_s: float, what: str = "the condition", every_s: float = 0.02) -> Any:
    """Poll until ``condition()`` is true and return its value.

    Raises:
        AssertionError: It did not become true in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)
