"""The command at a real terminal: its width, its colours, what moves on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from postback import tgtrack
from postback.wire import keys
from tests.integration.postback.operations.conftest import Desk

ROOT = Path(__file__).parents[4]
QUEUE = "tgtrack.main"
LONG = "tgtrack.shop-moscow-region-telegram-bot-production-2026_loyalty-programs"
COMMAND = "import sys; from postback.cli import main; sys.exit(main())"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def _control() -> None:
    """In the child: the terminal's Ctrl-C goes to it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Session:
    """A command at a terminal of its own."""

    def __init__(self, words: str, columns: int, environ: dict[str, str]) -> None:
        self._keyboard, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words.split()], cwd=ROOT, env=environ, start_new_session=True,
            stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=_control,
        )  # fmt: skip
        os.close(terminal)
        self.text = ""

    def read(self, until: str | None = None) -> str:
        """All that is written, or as much as is needed to see a text; with its escapes."""
        while until is None or until not in self.text:
            try:
                piece = os.read(self._keyboard, 65_536)
            except OSError:  # the command has ended, and with it the terminal's other side
                break
            self.text += piece.decode()
        return self.text

    def type(self, text: str) -> None:
        os.write(self._keyboard, text.encode())

    def answer(self, text: str) -> int:
        """Type it and wait for the end.

        Python loses a signal that comes just before it waits for a key: then once more.
        """
        while True:
            self.type(text)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(2.0)
                return self.end()

    @property
    def lines(self) -> list[str]:
        """What is to be seen at the end, line by line."""
        self.read()
        return self.lines_so_far

    @property
    def lines_so_far(self) -> list[str]:
        """What was to be seen until now."""
        return [line.rstrip() for line in ESCAPES.sub("", self.text).splitlines()]

    def end(self) -> int:
        self.read()
        return self.process.wait()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._keyboard)


@pytest.fixture
def at(desk: Desk) -> Iterator[Callable[..., Session]]:
    """Starts a command at a terminal of so many columns: ``at(80, "status")``."""
    sessions = []
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}

    def start(columns: int, words: str, **environ: str) -> Session:
        own = {"PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **environ}
        sessions.append(Session(words, columns, {**kept, **own}))
        return sessions[-1]

    yield start
    for session in sessions:
        session.close()


@pytest.fixture
def busy(desk: Desk) -> Desk:
    """An account with events, dead letters and refused credentials."""
    desk.announce(QUEUE)
    desk.sales(3)
    desk.client.lpush(keys.priority_list(QUEUE, 3), *[b"x"] * 1234)
    paused = {"paused": -1, "reason": "credentials", "detail": "401 [bold]Invalid[/bold] \x1b[2J token " + "x" * 120}
    desk.client.hset(keys.meta(QUEUE), mapping=paused)
    return desk


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
@pytest.mark.parametrize(
    "words",
    [
        "status", "status --all", "status --check", "dead list", "dead list tgtrack", "dead replay tgtrack --dry-run",
        "pause tgtrack", "resume tgtrack", "erase --user 987654321 --dry-run", "check",
        "find --live", "find --live --user 987654321",
    ],
)  # fmt: skip
def test_it_fits(columns: int, words: str, busy: Desk, at: Callable[..., Session]) -> None:
    """However narrow the terminal is, no line is wider; and never wider than 100 columns."""
    busy.announce(LONG)
    session = at(columns, words)
    assert max(map(len, session.lines)) <= min(columns, 100)


@pytest.mark.parametrize("words", ["", "send", "dead list", "dead replay", "dead drop", "erase", "check", "sandbox"])
def test_help_fits(words: str, at: Callable[..., Session]) -> None:
    """Each help fits a terminal of 80 columns."""
    assert max(map(len, at(80, f"{words} --help").lines)) <= 80


@pytest.mark.parametrize("columns", [40, 100])
def test_the_table_is_readable(columns: int, busy: Desk, at: Callable[..., Session]) -> None:
    """The name, what waits and what to do are there whole; a wide terminal has bars and three
    windows.
    """
    lines = at(columns, "status").lines
    (row,) = [line for line in lines if line.startswith("✗ tgtrack.main")]
    assert row.split()[2] == "1,234"
    assert "postback resume tgtrack.main" in " ".join(" ".join(lines).split())
    assert ("5000/5000 d" in row and "━━" in row) is (columns == 100)


def test_foreign_words_at_a_terminal(busy: Desk, at: Callable[..., Session]) -> None:
    """A provider's words are no markup and do not steer the terminal."""
    text = at(100, "status").read()
    assert "[bold]Invalid[/bold]" in text
    assert "\x1b[2J" not in text
    assert "\x1b[1;31m✗\x1b[0m" in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [("shop-moscow-west", "tgtrack.shop-moscow-west"), (LONG[8:], "tgtrack.shop-…programs")],
)
def test_a_long_name(name: str, shown: str, busy: Desk, at: Callable[..., Session]) -> None:
    """A name is whole where the table has room, else its beginning and its end are there."""
    busy.announce(f"tgtrack.{name}")
    assert any(f" {shown} " in line for line in at(80, "status").lines)


def test_an_id_stays_whole(busy: Desk, at: Callable[..., Session]) -> None:
    """At 80 columns an id can be copied from the list of dead letters, and the letter's age is
    shown.
    """
    lines = at(80, "dead list tgtrack").lines
    (first, *_) = [line for line in lines if line.startswith("rejected-main-000000")]
    assert first.endswith(" ago")


def test_without_colour(busy: Desk, at: Callable[..., Session]) -> None:
    """NO_COLOR: no colour and no other style either."""
    assert "\x1b" not in at(80, "status", NO_COLOR="1").read()


def test_without_unicode(busy: Desk, at: Callable[..., Session]) -> None:
    """A terminal without UTF-8 gets ASCII signs, and columns stay in their places."""
    session = at(100, "status", PYTHONIOENCODING="ascii", NO_COLOR="1")
    assert session.read().isascii()
    (row,) = [line for line in session.lines if line.startswith("!|tgtrack.main|")]
    assert "?" not in row


def test_progress(busy: Desk, at: Callable[..., Session]) -> None:
    """A replay shows how far it is, takes the bar away again, and gives the cursor back."""
    session = at(80, "dead replay tgtrack")
    assert session.end() == 0
    assert "3/3" in session.text
    assert session.text.rindex("\x1b[?25h") > session.text.rindex("\x1b[?25l")
    assert "3 dead letters replayed" in session.text[session.text.rindex("\x1b[?25h") :]


@pytest.mark.parametrize(("answer", "left", "code"), [("y\n", 0, 0), ("\n", 3, 1), ("\x03", 3, 130), ("\x04", 3, 130)])
def test_drop_asks(answer: str, left: int, code: int, busy: Desk, at: Callable[..., Session]) -> None:
    """Dropping everything asks first; Return, Ctrl-C and Ctrl-D are no yes."""
    session = at(80, "dead drop tgtrack")
    session.read("[y/N]")
    assert session.answer(answer) == code
    assert busy.client.llen("tgtrack.dead") == left


@pytest.mark.parametrize(("answer", "left", "code"), [("y\n", 0, 0), ("\n", 4, 1), ("n\n", 4, 1), ("\x03", 4, 130)])
def test_erase_asks(answer: str, left: int, code: int, busy: Desk, at: Callable[..., Session]) -> None:
    """An erasure says how much it would remove and where, and asks; only a yes is one."""
    tgtrack.AddEvent(user_id="987654321", event_type="sale", account="shop").delay()
    session = at(80, "erase --user 987654321")
    session.read("[y/N]")
    assert ["tgtrack.dead", "3"] in [line.split() for line in session.lines_so_far]
    assert "Erase 4 events? [y/N]" in session.text
    assert session.answer(answer) == code
    dead = busy.client.llen("tgtrack.dead")
    assert dead + busy.client.llen(keys.priority_list("tgtrack.shop", 3)) == left
    assert ("4 events erased" in session.text) is (code == 0)


def test_nothing_to_erase(desk: Desk, at: Callable[..., Session]) -> None:
    """If there is nothing of the person, nothing is asked."""
    session = at(80, "erase --user 987654321")
    assert session.end() == 0
    assert "0 events would be erased, and 0 results" in session.text
    assert "[y/N]" not in session.text


def test_watch(desk: Desk, at: Callable[..., Session]) -> None:
    """``--watch`` shows what changes, in place, until Ctrl-C; the exit code is that of the last
    look.
    """
    desk.announce(QUEUE)
    session = at(80, "status --watch 0.1")
    session.read(QUEUE)
    desk.client.lpush(keys.priority_list(QUEUE, 3), *[b"x"] * 4321)
    assert "4,321" in session.read("4,321")
    assert re.search(r"\x1b\[\d*A", session.text)
    session.process.send_signal(signal.SIGINT)
    assert session.end() == 0
    assert "Traceback" not in session.text


def test_watch_check(busy: Desk, at: Callable[..., Session]) -> None:
    """With ``--check`` it ends with 1 if something needed a person when it was looked at last."""
    session = at(80, "status --watch 0.1 --check")
    session.read("tgtrack.dead")
    session.text = ""  # the second look: the first one has ended
    session.read("tgtrack.dead")
    session.process.send_signal(signal.SIGINT)
    assert session.end() == 1


def test_watch_goes_on_without_redis(desk: Desk, at: Callable[..., Session]) -> None:
    """A Redis that is away is said in a sentence, and looked for again."""
    session = at(80, "status --watch 0.1", POSTBACK_BROKER_URL="redis://127.0.0.1:1/0")
    session.read("cannot be")
    session.process.send_signal(signal.SIGINT)
    assert session.end() == 0
    assert "Traceback" not in session.text
