"""The examples as sites: copied out of the checkout, run from the wheel."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.shared.wheel import clean_environ, run
from workers.devkit import ROOT, Process, Stack, fetch, free_port, until

#: Seconds that anything here may take before it counts as never.
PATIENCE_S: Final = 60.0


@contextmanager
def sites_stack() -> Iterator[Stack]:
    """Redis, the sandbox and one TGTrack worker. Redis keeps a file, so that it may be killed."""
    with Stack(appendonly=True, limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits="1000/second", backoff_s=0.05)
        stack.start_workers("tgtrack")
        yield stack


class Site:
    """An example, copied out of the checkout, with its processes."""

    def __init__(self, name: str, folder: Path, python: Path, env: dict[str, str]) -> None:
        self.folder = folder / name
        shutil.copytree(
            ROOT / "examples" / name, self.folder, ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3")
        )
        self.python = python
        self.env = env
        self.port = free_port()
        self.log = folder / f"{name}.log"
        self._processes: list[Process] = []

    def run(self, *arguments: str) -> str:
        """What ``python ARGUMENTS`` prints."""
        return run(str(self.python), *arguments, cwd=self.folder, **self.env)

    def start(self, *arguments: str) -> Process:
        """Start ``python ARGUMENTS``."""
        env = clean_environ(**self.env, PYTHONUNBUFFERED="1")
        self._processes.append(Process([self.python, *arguments], self.log, env=env, cwd=self.folder))
        return self._processes[-1]

    def serve(self, *arguments: str) -> None:
        """Start the web server and wait until it answers."""
        process = self.start(*arguments)

        def answers() -> bool:
            assert process.alive, self.text()
            return self.post("/", b"")[0] > 0

        until(answers, PATIENCE_S, "the site's first answer")

    def post(self, path: str, body: bytes | dict[str, Any], **headers: str) -> tuple[int, str]:
        """The status and text of an answer; status 0 if nobody answers."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"Content-Type": "application/json"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        return fetch(f"http://127.0.0.1:{self.port}{path}", data, named, PATIENCE_S)

    def text(self) -> str:
        """What its processes wrote."""
        return self.log.read_text(errors="replace")

    def stop(self) -> None:
        for process in self._processes:
            process.kill()


def settled(stack: Stack) -> None:
    """Wait until nothing is queued or on its way any more."""
    until(lambda: stack.waiting("tgtrack.main") == 0, PATIENCE_S, "an empty queue")
