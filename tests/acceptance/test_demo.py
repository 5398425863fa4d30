"""``make demo`` as a stranger runs it: it ends well only if all is well, and leaves nothing behind
however it ends.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workers.demo import scenario
from workers.devkit import Process, environment, fetch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: Seconds that a demo may take on a machine that others use too.
LONGEST_S = 120.0


class Demo(Process):
    """A demo run as a process of its own, with a temporary folder of its own by which its processes
    are known.
    """

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder / "tmp"
        self.folder.mkdir()
        env = {"TMPDIR": str(self.folder), "KEEP": "", **env}
        super().__init__([sys.executable, "-m", "workers.demo"], folder / "output", env=environment(**env))

    def children(self) -> dict[int, str]:
        """Its processes that live: pid -> command line."""
        mark = f"TMPDIR={self.folder}\0".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.process.pid:
                try:
                    if mark in (entry / "environ").read_bytes():
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
        return found

    def assert_nothing_left(self) -> None:
        assert self.children() == {}
        assert list(self.folder.iterdir()) == []


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    demos: list[Demo] = []

    def start(**env: str) -> Demo:
        demos.append(Demo(tmp_path, **env))
        return demos[-1]

    yield start
    for demo in demos:
        demo.kill()
        for pid in demo.children():
            os.kill(pid, signal.SIGKILL)


def test_all_is_well(start: Any) -> None:
    """It ends with status 0 within two minutes, shows every account without a 429, and leaves
    nothing behind.
    """
    demo = start()
    assert demo.process.wait(LONGEST_S) == 0, demo.text()
    text = demo.text()
    assert "All as expected: 345 of 362 events delivered" in text
    for cast in scenario.CAST:
        row = next(line for line in text.splitlines() if line.strip().startswith(f"{cast.queue} "))
        assert row.split()[1:3] == [str(cast.sent), str(cast.delivered)]
        assert cast.key not in text
    assert "dead: rejected 422" in text
    assert re.search(r"waiting until \d\d:\d\d:\d\d: its quota", text)
    assert "waiting until an operator resumes it" in text
    assert 'tgtrack.GetUserInfo -> {"user_id": "7000100"' in text
    demo.assert_nothing_left()


@pytest.mark.parametrize("words", ["Redis ", "Sandbox ", "Workers ", "Delivering"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped(start: Any, words: str, number: signal.Signals) -> None:
    """Stopped at any moment it leaves no process and no folder, and its status says that it was
    stopped.
    """
    demo = start()
    demo.wait_for(words)
    demo.process.send_signal(number)
    assert demo.process.wait(30) == 128 + number
    demo.assert_nothing_left()


def test_impatience(start: Any) -> None:
    """More Ctrl-C while it ends do not make it leave anything."""
    demo = start()
    demo.wait_for("Delivering")
    while demo.alive:
        demo.process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    demo.assert_nothing_left()


def test_worker_dies(start: Any) -> None:
    """A process that ends by itself fails the demo, which names it and leaves nothing behind."""
    demo = start()
    demo.wait_for("Delivering")
    worker = next(pid for pid, command in demo.children().items() if "-m workers tonapi" in command)
    os.kill(worker, signal.SIGKILL)
    assert demo.process.wait(60) == 1
    assert "tonapi ended with status -9" in demo.text()
    demo.assert_nothing_left()


def test_keep(start: Any) -> None:
    """KEEP=1 leaves everything up, says where, and ends with status 0 and nothing left on
    Ctrl-C.
    """
    demo = start(KEEP="1")
    demo.wait_for("Ctrl-C stops it")
    found = re.search(r"Flower +(http://\S+)", demo.text())
    assert found
    assert "tgtrack.dead" in fetch(f"{found[1]}/broker")[1]
    assert re.search(r"export POSTBACK_BROKER_URL=redis://127\.0\.0\.1:\d+/0", demo.text())
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(30) == 0
    demo.assert_nothing_left()
