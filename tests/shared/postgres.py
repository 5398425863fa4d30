"""A real PostgreSQL server for tests: started as a process, on a socket in its own directory."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from workers.devkit import Process, until

#: Seconds within which the server must answer; ``initdb`` on a busy machine takes a few.
START_TIMEOUT_S: Final = 60.0

_numbers = itertools.count(1)


def find_binaries() -> Path:
    """The directory of ``initdb`` and ``postgres``: on the path, where Debian puts them, or
    installed from Debian now.

    Raises:
        RuntimeError: There are none, and they cannot be installed.
    """
    found = _installed()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", "postgresql"]):
            subprocess.run(["apt-get", *command], check=False, stdin=subprocess.DEVNULL, capture_output=True)
        found = _installed()
    if found is None:
        raise RuntimeError("no PostgreSQL server for the tests: install it (apt-get install postgresql)")
    return found


def _installed() -> Path | None:
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    debian = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(debian, key=lambda path: int(path.parent.name), default=None)


class PostgresServer:
    """One server with the database ``postback``; no TCP, so no port to collide on.

    Args:
        folder: Its directory; made at the start and removed at the end. Every part of its path must
            be open to others, and short: a socket's path has at most 107 bytes.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.gettempdir(), f"postback-pg-{os.getpid()}-{next(_numbers)}")
        self._process: Process | None = None
        # PostgreSQL refuses to run as root.
        self._as: dict[str, Any] = {}
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            self.user = next(name for name in ("postgres", "nobody") if _has_user(name))
            entry = pwd.getpwnam(self.user)
            self._as = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    @property
    def env(self) -> dict[str, str]:
        """Libpq's variables."""
        return {"PGHOST": str(self.folder), "PGUSER": "postback", "PGDATABASE": "postback", "PGPORT": "5432"}

    @property
    def url(self) -> str:
        """For ``POSTBACK_JOURNAL_URL``."""
        return f"postgresql://postback@/postback?host={self.folder}"

    def start(self) -> Self:
        """Create the cluster and start it.

        Raises:
            RuntimeError: It cannot be had or did not start; the message holds the end of its log.
        """
        binaries = find_binaries()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._as:
            os.chown(self.folder, self._as["user"], self._as["group"])
        self._run(binaries / "initdb", "-D", self._data, "-U", "postback", "-A", "trust", "-E", "UTF8", "--no-sync")
        return self.start_again()

    def start_again(self) -> Self:
        """Start it with the data that it has."""
        binaries = find_binaries()
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            # The machine may lose power during a test; nobody will miss the data.
            "fsync": "off",
            "synchronous_commit": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        server = [binaries / "postgres", "-D", self._data, *options]
        process = Process(server, self.folder / "server.log", cwd=self.folder, user=self._as)
        self._process = process
        create = [binaries / "createdb", "-h", self.folder, "-U", "postback", "postback"]

        def created() -> bool:
            done = subprocess.run(create, capture_output=True, text=True, check=False)
            return not process.alive or done.returncode == 0 or "already exists" in done.stderr

        until(created, START_TIMEOUT_S, f"PostgreSQL; see {process.log}")
        if end := process.end():
            raise RuntimeError(f"PostgreSQL: {end}")
        return self

    def interrupt(self) -> None:
        """End it and its connections; its data stays."""
        self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None and self._process.alive:
            self._process.process.send_signal(how)
            self._process.process.wait(10)

    def stop(self) -> None:
        """End it at once and remove its directory."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _run(self, *command: object) -> None:
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=self.folder, **self._as,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr[-1000:]}")


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
