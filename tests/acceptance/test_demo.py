"""``make demo`` as a stranger runs it: it ends well only if all is well, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.stack import ROOT, until
from workers.demo import board, scenario
from workers.demo.board import Board
from workers.demo.readings import Reading
from workers.demo.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: Seconds that a demo may take on a machine that others use too.
LONGEST_S = 120.0


class Demo:
    """A demo run as a process of its own, with a temporary folder of its own by which its processes are known."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder / "tmp"
        self.folder.mkdir()
        self.output = folder / "output"
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("POSTBACK_", "FLOWER_", "KEEP"))
        }
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.demo"],
                cwd=ROOT,
                env={**kept, "TMPDIR": str(self.folder), **env},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def wait_for(self, words: str) -> None:
        until(lambda: words in self.text() or self.process.poll() is not None, LONGEST_S, words)
        assert words in self.text(), self.text()

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
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait()
        for pid in demo.children():
            os.kill(pid, signal.SIGKILL)


def test_all_is_well(start: Any) -> None:
    """It ends with status 0 within two minutes, shows every account without a 429, and leaves nothing behind."""
    demo = start()
    assert demo.process.wait(LONGEST_S) == 0, demo.text()
    text = demo.text()
    assert "All as it must be: 345 events delivered" in text
    for cast in scenario.CAST:
        row = next(line for line in text.splitlines() if line.strip().startswith(f"{cast.queue} "))
        assert row.split()[1:3] == [str(cast.sent), str(cast.delivered)]
        assert cast.key not in text
    assert "dead: rejected 422" in text
    assert re.search(r"waiting until \d\d:\d\d:\d\d: its 20 per", text)
    assert "waiting until an operator resumes it" in text
    assert 'tgtrack.GetUserInfo -> {"user_id": "7000100"' in text
    demo.assert_nothing_left()


@pytest.mark.parametrize("words", ["Redis ", "Sandbox ", "Workers ", "Delivering"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped(start: Any, words: str, number: signal.Signals) -> None:
    """Stopped at any moment it leaves no process and no folder, and its status says that it was stopped."""
    demo = start()
    demo.wait_for(words)
    demo.process.send_signal(number)
    assert demo.process.wait(30) == 128 + number
    demo.assert_nothing_left()


def test_impatience(start: Any) -> None:
    """More Ctrl-C while it ends do not make it leave anything."""
    demo = start()
    demo.wait_for("Delivering")
    while demo.process.poll() is None:
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
    """KEEP=1 leaves everything up, says where, and ends with status 0 and nothing left on Ctrl-C."""
    demo = start(KEEP="1")
    demo.wait_for("Ctrl-C stops it")
    found = re.search(r"Flower +(http://\S+)", demo.text())
    assert found
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{found[1]}/broker", timeout=10) as page:
        assert "tgtrack.dead" in page.read().decode()
    assert re.search(r"export POSTBACK_BROKER_URL=redis://127\.0\.0\.1:\d+/0", demo.text())
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(30) == 0
    demo.assert_nothing_left()


class Ledger(Stage):
    """A sandbox that has recorded what it is told; no process."""

    def __init__(self, *records: dict[str, Any]) -> None:
        self.records = records

    def sandbox(self, path: str, body: Any = None) -> Any:
        return {"records": self.records}


def as_it_must_be() -> Board:
    readings = {
        cast.queue: Reading(
            cast.delivered,
            cast.waiting,
            0,
            ("rejected 422",) * cast.dead,
            None,
            "",
            cast.requests[0],
            1,
            cast.recorded,
            0,
        )
        for cast in scenario.CAST
    }
    readings["tgtrack.shop"] = replace(readings["tgtrack.shop"], until=time.time() + 3500, reason="quota")
    readings["tgtrack.old"] = replace(readings["tgtrack.old"], reason="credentials")
    return Board(readings)


def test_no_faults() -> None:
    """Nothing is found where nothing is wrong."""
    assert board.faults(as_it_must_be(), Ledger(), {"x": {}}, 0.0) == []


@pytest.mark.parametrize(
    ("queue", "change"),
    [
        ("tgtrack.main", {"delivered": 14}),
        ("tgtrack.main", {"dead": ()}),
        ("tgtrack.main", {"dead": ("invalid",)}),
        ("tgtrack.shop", {"too_many": 1}),
        ("tgtrack.shop", {"until": time.time() + 1}),
        ("tgtrack.shop", {"requests": 21}),
        ("tgtrack.old", {"reason": "outage"}),
        ("mytracker.game", {"recorded": 246}),
        ("tganalytics.docs", {"requests": 60}),
        ("tonai.main", {"waiting": 1}),
        ("tonapi.main", {"in_flight": 1}),
    ],
)
def test_faults(queue: str, change: dict[str, Any]) -> None:
    """Any number that is not as it must be fails the demo and names the account."""
    wrong = as_it_must_be()
    wrong.accounts[queue] = replace(wrong.accounts[queue], **change)
    found = board.faults(wrong, Ledger(), {}, 0.0)
    assert found
    assert all(fault.startswith(queue) for fault in found)


def test_missing_result() -> None:
    """A look-up without an answer fails the demo."""
    assert board.faults(as_it_must_be(), Ledger(), {"tonapi.GetEvent": None}, 0.0) == ["tonapi.GetEvent: no result"]


def test_recorded_twice() -> None:
    """An event that a provider has twice fails the demo."""
    record = {"provider": "tonai", "key": "1", "at": "2026-01-01T00:00:00+00:00", "events": [{"a": 1}]}
    assert board.faults(as_it_must_be(), Ledger(record, record), {}, 0.0) == ["1 events were recorded twice"]


def test_too_early() -> None:
    """An event that came before its countdown fails the demo."""
    record = {
        "provider": "tgtrack",
        "key": "1",
        "at": "2026-01-01T00:00:00+00:00",
        "events": [{"event_type": "reminder"}],
    }
    due_at = 1767225600.0 + 3
    assert board.faults(as_it_must_be(), Ledger(record), {}, due_at) == ["the event with a countdown came 3.0 s early"]
