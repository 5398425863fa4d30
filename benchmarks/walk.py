"""Which files an event crosses on its way from ``.delay()`` to SETTLE.

``python -m benchmarks.walk`` starts a worker whose function calls are noted, warms it with one
event and follows the next. It uses public ways in only, so a copy of it runs in a checkout of any
edition.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

ROOT: Final = Path.cwd()
ROOMS: Final = ("postback", "config", "tasks", "workers")


class Walk:
    """Notes the project's files in which a function was called."""

    def __init__(self) -> None:
        self.files: set[str] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """As ``sys.setprofile`` calls it."""
        if event == "call":
            self.files.add(frame.f_code.co_filename)

    def crossed(self) -> list[str]:
        """Their paths."""
        paths = [Path(file) for file in self.files]
        inside = [path.relative_to(ROOT) for path in paths if path.is_relative_to(ROOT)]
        return sorted(str(path) for path in inside if path.parts[0] in ROOMS)


def worker(folder: str) -> None:
    """A worker.

    A file ``begin`` in ``folder`` makes it forget what it noted, a file ``end`` makes it write
    ``crossed``.
    """
    walk, begin, end = Walk(), Path(folder, "begin"), Path(folder, "end")

    def obey() -> None:
        while not end.exists():
            if begin.exists():
                walk.files.clear()
                begin.unlink()
            time.sleep(0.01)
        Path(folder, "crossed.part").write_text(json.dumps(walk.crossed()))
        Path(folder, "crossed.part").rename(Path(folder, "crossed"))

    threading.Thread(target=obey, daemon=True).start()
    threading.setprofile(walk)
    sys.setprofile(walk)
    sys.argv = ["workers", "tgtrack"]
    runpy.run_module("workers", run_name="__main__", alter_sys=True)


def main() -> None:
    """Follow one event and print its way."""
    sys.path.insert(0, str(ROOT))
    from postback.sandbox import Sandbox
    from workers.devkit import RedisServer, until

    with RedisServer() as server, Sandbox() as sandbox, tempfile.TemporaryDirectory() as folder:
        accounts, dump = Path(folder, "accounts.toml"), Path(folder, "crossed")
        accounts.write_text(f'[tgtrack.main]\napi_key = "k"\nbase_url = "{sandbox.url}"\nlimits = "100/second"\n')
        os.environ.update(POSTBACK_BROKER_URL=server.url, POSTBACK_ACCOUNTS=str(accounts), POSTBACK_LOG_LEVEL="WARNING")
        command = [sys.executable, __file__, "worker", folder]
        running = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            import postback
            from postback import tgtrack

            postback.configure()
            tgtrack.AddEvent(user_id="1", event_type="sale").delay()
            until(lambda: len(sandbox.events("tgtrack")) == 1, 30)
            begin = Path(folder, "begin")
            begin.touch()
            until(lambda: not begin.exists(), 30)
            sent = Walk()
            sys.setprofile(sent)
            tgtrack.AddEvent(user_id="2", event_type="sale").delay()
            sys.setprofile(None)
            until(lambda: len(sandbox.events("tgtrack")) == 2, 30)
            # It is settled when nothing of it is in flight.
            client: Any = server.client()
            until(lambda: client.hget("tgtrack.main.meta", "delivered") == b"2", 30)
            Path(folder, "end").touch()
            until(dump.exists, 30)
        finally:
            running.kill()
        crossed = sorted({*sent.crossed(), *json.loads(dump.read_text())})
    print("\n".join(crossed))
    print(f"{len(crossed)} files")


if __name__ == "__main__":
    worker(sys.argv[2]) if sys.argv[1:2] == ["worker"] else main()
