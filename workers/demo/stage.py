"""The processes of the demo: started in order, ended whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Self

import redis

from postback.wire import keys
from workers.embedded import RedisServer, find_binary, free_port

#: The project's root: the rooms are imported from there.
ROOT: Final = Path(__file__).resolve().parent.parent.parent
#: Seconds within which all processes must be up; they share the cores while they import.
START_S: Final = 60.0
#: Seconds that a process gets to end by itself; a worker finishes the requests on the wire.
STOP_S: Final = 10.0
#: Flower's own port, taken if it is free.
FLOWER_PORT: Final = 5555
#: Time an answer of the sandbox takes, in ms.
LATENCY_MS: Final = "20-120"

#: Variables that would lead a process of the demo elsewhere.
_FOREIGN: Final = re.compile(r"(POSTBACK|FLOWER|CELERY|C_FORCE|PYTHONSAFEPATH)", re.ASCII)
#: Providers are on this machine: no proxy between.
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP: everything is to end."""

    def __init__(self, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(signal.Signals(number).name)
        self.number = number


class Failed(Exception):
    """A part of the demo did not start; says which, with the end of its log."""


class Stage:
    """Redis, sandbox, workers and Flower on free ports of this machine, in a temporary folder; all gone after the ``with`` block."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self.folder = Path(tempfile.mkdtemp(prefix="postback-demo-"))
        self.redis = RedisServer(dir=self.folder / "redis")
        self.sandbox_url = ""
        self.flower_url = ""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._shielded = False
        self._signal = 0

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        # From here on a second Ctrl-C changes nothing: impatience must leave no process behind.
        self._shielded = True
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.redis.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number
        if not self._shielded:
            raise Stopped(number)

    @contextlib.contextmanager
    def _shield(self) -> Iterator[None]:
        """A process is started and known, or not started: no signal comes between."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
        if self._signal:
            raise Stopped(self._signal)

    # The parts

    def start_redis(self) -> str:
        """Start the embedded server; returns what it is."""
        try:
            with self._shield():
                self.redis.start()
        except RuntimeError as error:
            raise Failed(str(error)) from None
        return f"{Path(find_binary()).name} on 127.0.0.1:{self.redis.port}"

    def start_sandbox(self) -> str:
        """Start the five providers; returns their address."""
        self._launch("sandbox", "-m", "postback.sandbox", "--port", "0", "--latency-ms", LATENCY_MS, "--quiet")
        self.until(self._sandbox_is_up, "sandbox")
        return self.sandbox_url

    def _sandbox_is_up(self) -> bool:
        found = re.search(r"sandbox on (http://\S+)", self.log("sandbox"))
        self.sandbox_url = found[1] if found else ""
        return bool(found)

    def write_accounts(self, text: str) -> None:
        """Write the accounts file; only its owner may read it."""
        self.accounts_path.touch(mode=0o600)
        self.accounts_path.write_text(text, encoding="utf-8")

    @property
    def accounts_path(self) -> Path:
        """The accounts file of the demo."""
        return self.folder / "accounts.toml"

    def start_rest(self, providers: tuple[str, ...]) -> str:
        """Start one worker for each provider and Flower, all at once; returns what they are when all are up."""
        for provider in providers:
            self._launch(provider, "-m", "workers", provider)
        port = FLOWER_PORT if _is_free(FLOWER_PORT) else free_port()
        self.flower_url = f"http://127.0.0.1:{port}"
        self._launch("flower", "-m", "workers.flower", FLOWER_PORT=str(port), FLOWER_ADDRESS="127.0.0.1")
        client = self.client()
        for provider in providers:
            self.until(partial(_has_announced, client, provider), provider)
        client.close()
        self.until(lambda: self.page(f"{self.flower_url}/broker"), "flower")
        return f"{', '.join(providers)}; Flower on {self.flower_url}"

    # Talking to them

    def client(self) -> redis.Redis:
        """A client of the demo's Redis; replies as bytes."""
        return self.redis.client()

    def page(self, url: str) -> str:
        """A page's text; empty if nobody answers."""
        try:
            with _DIRECT.open(url, timeout=5) as answer:
                return str(answer.read().decode())
        except (OSError, urllib.error.URLError):
            return ""

    def sandbox(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask the sandbox's control API (``stats``, ``ledger?…``) or, with a body, tell it something."""
        data = None if body is None else json.dumps(body).encode()
        with _DIRECT.open(
            urllib.request.Request(f"{self.sandbox_url}/_sandbox/{path}", data=data), timeout=10
        ) as answer:
            return json.load(answer)

    def log(self, name: str) -> str:
        """What a process has written so far."""
        path = self.folder / f"{name}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def env(self, **extra: str) -> dict[str, str]:
        """The environment of the demo's processes."""
        kept = {name: value for name, value in os.environ.items() if not _FOREIGN.match(name)}
        # requests obeys them: an answer from a proxy would be none of the sandbox's.
        own = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost", "PYTHONUNBUFFERED": "1"}
        return {**kept, **own, **self.settings(), **extra}

    def settings(self) -> dict[str, str]:
        """The variables that make a process part of this installation."""
        return {"POSTBACK_BROKER_URL": self.redis.url, "POSTBACK_ACCOUNTS": str(self.accounts_path)}

    def check_alive(self) -> None:
        """Every process still runs, and nobody has asked for the end.

        Raises:
            Failed: One has ended.
            Stopped: A signal came where Python throws exceptions away (a destructor).
        """
        if self._signal:
            raise Stopped(self._signal)
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise Failed(f"{name} ended with status {process.returncode}:\n{self.log(name)[-2000:]}")

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Return when a part is up.

        Raises:
            Failed: It has ended, or takes too long.
        """
        deadline = time.monotonic() + START_S
        while not condition():
            self.check_alive()
            if time.monotonic() > deadline:
                raise Failed(f"{what} is not up after {START_S:.0f} s:\n{self.log(what)[-2000:]}")
            time.sleep(0.05)

    def _launch(self, name: str, *arguments: str, **extra: str) -> None:
        with self._shield(), (self.folder / f"{name}.log").open("wb") as output:
            # A session of its own: Ctrl-C is for the demo, which ends its processes in order.
            self._processes[name] = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=self.env(**extra),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _has_announced(client: redis.Redis, provider: str) -> bool:
    """Whether a provider's worker has announced itself."""
    return any(json.loads(told).get("provider") == provider for told in client.hvals(keys.WORKERS))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
