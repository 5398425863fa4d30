"""A stack: a Redis server, the sandbox, an accounts file and worker processes.

Workers have the defaults that users get.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis

import postback
from postback.sandbox import Sandbox
from postback.wire import keys
from workers.devkit.processes import ROOT, Process, end_all, environment
from workers.devkit.redis_server import RedisServer

#: Credentials of a stack's accounts: provider -> keys of its table.
SECRETS: Final[Mapping[str, Mapping[str, str | int]]] = {
    "tgtrack": {"api_key": "tgtrack-Secret-0f9a1"},
    "mytracker": {"id_app": 666, "token": "mytracker-Secret-1c7b2"},
    "tganalytics": {"token": "tganalytics-Secret-2d8c3", "app_name": "docs"},
    "tonai": {"api_key": "tonai-Secret-3e9d4"},
    "tonapi": {"token": "tonapi-Secret-4fae5"},
}
#: What a worker's log says once it consumes.
READY: Final = " ready."
#: What the journal's log says once it writes.
WRITES: Final = "writes the journal of"
#: Python code of the command ``postback``, as its entry point runs it.
_COMMAND: Final = "import sys; from postback.cli import main; sys.exit(main())"


class Stack:
    """An installation on loopback; everything ends with the ``with`` block.

    Example::

        with Stack(limits={"tgtrack": None}) as stack:
            stack.account("tgtrack.main", limits="1000/second")
            stack.configure_producer()
            stack.start_workers("tgtrack")
            tgtrack.AddEvent(user_id="1", event_type="sale").delay()
            stack.sandbox.wait_for(lambda sandbox: sandbox.events("tgtrack"))
    """

    def __init__(self, *, appendonly: bool = False, **sandbox: Any) -> None:
        """Prepare.

        Args:
            appendonly: Redis keeps an append-only file.
            sandbox: Arguments of :class:`postback.sandbox.Sandbox`.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="postback-stack-"))
        self.redis = RedisServer(appendonly=appendonly, dir=self.folder / "redis")
        self.sandbox = Sandbox(**sandbox)
        #: Every process that was launched, dead ones included.
        self.processes: list[Process] = []
        #: Those of them that are workers.
        self.workers: list[Process] = []
        self._accounts: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        self.redis.start()
        self.sandbox.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        # What a failed test leaves behind are its processes' logs.
        self.close(keep_logs=kind is not None)

    def close(self, *, keep_logs: bool = False, stop_s: float = 0.0) -> None:
        """End everything and remove the folder.

        Args:
            keep_logs: Leave the folder.
            stop_s: Seconds that the processes get to end by themselves.
        """
        end_all(self.processes, stop_s)
        self.sandbox.close()
        self.redis.stop()
        if not keep_logs:
            shutil.rmtree(self.folder, ignore_errors=True)

    # Accounts

    @property
    def accounts_path(self) -> Path:
        """The accounts file."""
        return self.folder / "accounts.toml"

    def account(self, queue: str, **settings: Any) -> None:
        """Add ``provider.name`` to the accounts file, or change it.

        Its credentials are those of :data:`SECRETS`, unless ``settings`` says otherwise. Each
        further account of a provider has a key of its own.
        """
        provider, _, name = queue.partition(".")
        credentials = dict(SECRETS.get(provider, {}))
        first = next((other for other in self._accounts if other.startswith(f"{provider}.")), queue)
        if queue != first:
            credentials |= {key: f"{credentials[key]}-{name}" for key in ("token", "api_key") if key in credentials}
        self._accounts[queue] = {**credentials, "base_url": self.sandbox.url, **settings}
        self._write_accounts()

    def remove_account(self, queue: str) -> None:
        """Take an account out of the accounts file."""
        del self._accounts[queue]
        self._write_accounts()

    def _write_accounts(self) -> None:
        # In one step, as an editor does it: a worker may be reading.
        draft = self.folder / "accounts.draft"
        draft.write_text(accounts_file(self._accounts), encoding="utf-8")
        draft.rename(self.accounts_path)

    @property
    def journal_url(self) -> str:
        """The journal's database."""
        return f"sqlite:///{self.folder / 'journal.sqlite3'}"

    # Producers

    def configure_producer(self) -> None:
        """Make this process a producer of the stack."""
        names: dict[str, list[str]] = {}
        for queue in self._accounts:
            provider, _, name = queue.partition(".")
            names.setdefault(provider, []).append(name)
        postback.configure(broker_url=self.redis.url, accounts=names)

    # Processes

    def settings(self) -> dict[str, str]:
        """The variables that make a process part of this installation."""
        return {
            "POSTBACK_BROKER_URL": self.redis.url,
            "POSTBACK_ACCOUNTS": str(self.accounts_path),
            "POSTBACK_JOURNAL_URL": self.journal_url,
        }

    def env(self, **extra: str) -> dict[str, str]:
        """Environment of this stack's processes.

        Defaults hold, but for the addresses of Redis and the accounts file, and ``extra``.
        """
        return environment(**{**self.settings(), **extra})

    def launch(self, name: str, *arguments: str, **env: str) -> Process:
        """Start ``python ARGUMENTS`` with this stack's environment.

        Its log is ``NAME-<number>.log``.
        """
        log = self.folder / f"{name}-{len(self.processes) + 1}.log"
        self.processes.append(Process([sys.executable, *arguments], log, name=name, env=self.env(**env)))
        return self.processes[-1]

    def launch_worker(self, provider: str, **env: str) -> Process:
        """Start ``python -m workers PROVIDER``; it is not ready yet."""
        self.workers.append(self.launch(provider, "-m", "workers", provider, **env))
        return self.workers[-1]

    def start_workers(self, *providers: str, count: int = 1, **env: str) -> list[Process]:
        """Start ``count`` workers of each provider, all at once, and return when all are ready."""
        started = [self.launch_worker(provider, **env) for provider in providers for _ in range(count)]
        for worker in started:
            worker.wait_for(READY)
        return started

    def launch_journal(self, **env: str) -> Process:
        """Start ``python -m workers.journal``; it does not write yet."""
        return self.launch("journal", "-m", "workers.journal", **env)

    def start_journal(self, **env: str) -> Process:
        """Start it, and return when it writes."""
        return self.launch_journal(**env).wait_for(WRITES)

    def postback(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the command ``postback WORDS``, as an operator does."""
        return subprocess.run(
            [sys.executable, "-c", _COMMAND, *words],
            cwd=ROOT, env=self.env(**env), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def logs(self) -> str:
        """What all processes wrote."""
        return "".join(process.text() for process in self.processes)

    # Redis

    def client(self) -> redis.Redis:
        """A client of the stack's Redis; replies are ``str``."""
        return redis.Redis(host="127.0.0.1", port=self.redis.port, decode_responses=True)

    def waiting(self, queue: str) -> int:
        """Events of an account that are queued, delayed, held aside or in flight."""
        with self.client() as client, client.pipeline() as pipeline:
            for name in keys.priority_lists(queue):
                pipeline.llen(name)
            pipeline.zcard(keys.delayed(queue))
            pipeline.zcard(keys.held(queue))
            pipeline.hlen(keys.unacked(queue))
            return sum(map(int, pipeline.execute()))


def accounts_file(accounts: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of an accounts file: ``provider.name`` -> keys of its table."""
    # A JSON string is a TOML string.
    lines = [
        f"[{queue}]\n" + "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in table.items())
        for queue, table in accounts.items()
    ]
    return "\n".join(lines)
