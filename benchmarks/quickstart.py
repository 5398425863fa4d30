"""Follows docs/guides/quickstart.md in a fresh clone, as a newcomer would, and times it.

``python -m benchmarks.quickstart`` types each command of the guide as it is printed: those that go
on running (Redis, sandbox, worker, Flower, journal) in the background until they say that they are
ready. It prints a transcript, and fails if the event is not delivered.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from workers.devkit import ROOT, end_all, fetch
from workers.devkit.processes import Process, until

GUIDE: Final = "docs/guides/quickstart.md"
#: Commands that go on running -> what they say when they are ready.
READY: Final = {
    "make redis": "Redis for trying out",
    ".venv/bin/postback sandbox": "127.0.0.1:",
    ".venv/bin/python -m workers tgtrack": " ready.",
    ".venv/bin/python -m workers.flower": "Flower on",
    ".venv/bin/python -m workers.journal": "writes the journal of",
}
#: What a newcomer may be kept waiting, in seconds.
GOAL_S: Final = 300.0
#: Seconds that one command may take: `make install` downloads everything.
PATIENCE_S: Final = 280.0


class Newcomer:
    """Somebody at an empty folder, with Python, make and git.

    Args:
        folder: The clone.
        env: What a new shell has, and the ports if others are wanted.
        ports: Printed port -> the port that is free here.
    """

    def __init__(self, folder: Path, env: dict[str, str], ports: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.env = env
        self.ports = ports or {}
        self.running: list[Process] = []
        self.began = time.monotonic()

    def follow(self, *, skip: tuple[str, ...] = ()) -> None:
        """Do everything that the guide says up to the first event.

        Args:
            skip: Commands to leave out.

        Raises:
            AssertionError: A command failed, or did not become ready.
        """
        text = (self.folder / GUIDE).read_text(encoding="utf-8")
        section = text.partition("## Deliver your first event\n")[2].partition("\n## ")[0]
        for printed, other in self.ports.items():
            section = section.replace(printed, other)
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
            if language == "toml":
                (self.folder / "config" / "accounts.toml").write_text(block, encoding="utf-8")
                self._say(f"(config/accounts.toml)\n{block}")
                continue
            for command in block.splitlines():
                if command not in skip:
                    self._type(command)

    def _type(self, command: str) -> None:
        self._say(f"$ {command}")
        if command not in READY:
            done = subprocess.run(
                command, shell=True, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=PATIENCE_S
            )
            self._say(done.stdout.rstrip())
            assert done.returncode == 0, f"{command}: {done.stderr}"
            return
        extra = ["--port", self.ports["8900"]] if "sandbox" in command and "8900" in self.ports else []
        log = self.folder / f"terminal-{len(self.running) + 1}.log"
        process = Process([*command.split(), *extra], log, env=self.env, cwd=self.folder)
        self.running.append(process)
        until(lambda: READY[command] in process.text() or not process.alive, 60, command)
        assert process.alive, f"{command}: {process.text()}"
        self._say(process.text().rstrip().splitlines()[0])

    def _say(self, text: str) -> None:
        if text:
            sys.stdout.write(f"{time.monotonic() - self.began:6.1f} s  {text}\n")
            sys.stdout.flush()

    def sees_the_request(self) -> bool:
        """Whether the sandbox's page shows it."""
        url = f"http://127.0.0.1:{self.ports.get('8900', '8900')}/_sandbox/"
        return "add_event" in fetch(url, None, {}, 5)[1]

    def leave(self) -> None:
        """Close the terminals."""
        end_all(self.running, 10)


def main() -> None:
    """Clone into an empty folder, with an empty environment, and follow the guide."""
    with tempfile.TemporaryDirectory(prefix="postback-newcomer-") as folder:
        clone = Path(folder) / "postback"
        env = {"PATH": os.environ["PATH"], "HOME": folder, "TERM": "dumb"}
        newcomer = Newcomer(clone, env)
        newcomer._say(f"$ git clone {ROOT} postback")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], env=env, check=True)
        try:
            newcomer.follow()
            until(newcomer.sees_the_request, 30, "the request on the sandbox's page")
        finally:
            newcomer.leave()
        took_s = time.monotonic() - newcomer.began
        newcomer._say("the sandbox's page shows the request")
        assert took_s < GOAL_S, f"it took {took_s:.0f} s"


if __name__ == "__main__":
    main()
