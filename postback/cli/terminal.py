"""Text for terminals: colour where it is wanted, bars, durations. Plain ANSI, no library."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Final, TextIO

#: Columns that tables keep within.
WIDTH: Final = 100

_CODES: Final = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "dim": "2", "bold": "1"}
_ANSI: Final = re.compile(r"\x1b\[[0-9;]*m")


def say_error(text: str) -> None:
    """One sentence on stderr."""
    sys.stderr.write(f"postback: {clean(text)}\n")


def clean(text: str) -> str:
    """A text from elsewhere in one line, without control characters that would steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


class Console:
    """Where the output goes and what it can show."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.is_terminal = self.stream.isatty()
        no_color = bool(os.environ.get("NO_COLOR"))
        forced = bool(os.environ.get("FORCE_COLOR"))
        self.color = not no_color and (forced or (self.is_terminal and os.environ.get("TERM") != "dumb"))
        self.unicode = (self.stream.encoding or "").lower().replace("-", "") == "utf8"

    def line(self, text: str = "") -> None:
        """One line."""
        if not self.unicode:
            text = text.replace("…", "...").encode(self.stream.encoding or "ascii", "replace").decode()
        self.stream.write(text + "\n")

    def paint(self, text: str, *names: str) -> str:
        """The text in colours, if colours are wanted."""
        if not self.color or not text:
            return text
        return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}\x1b[0m"

    def bar(self, share: float, cells: int, *names: str) -> str:
        """A bar of ``cells`` characters, filled to ``share`` (0..1); empty only if nothing is left."""
        filled = max(1, round(share * cells)) if share > 0 else 0
        full, empty = ("█", "░") if self.unicode else ("#", ".")
        return self.paint(full * filled, *names) + self.paint(empty * (cells - filled), "dim")

    def mark(self, good: bool) -> str:
        """A check mark or a cross."""
        if good:
            return self.paint("✓" if self.unicode else "ok", "green")
        return self.paint("✗" if self.unicode else "!!", "red", "bold")


def width(text: str) -> int:
    """Columns that a text takes, colours aside."""
    return len(_ANSI.sub("", text))


def left(text: str, columns: int) -> str:
    """Padded on the right."""
    return text + " " * (columns - width(text))


def right(text: str, columns: int) -> str:
    """Padded on the left."""
    return " " * (columns - width(text)) + text


def cut(text: str, columns: int) -> str:
    """A plain text that takes no more than so many columns."""
    return text if len(text) <= columns else text[: columns - 1] + "…"


def duration(seconds: float) -> str:
    """Two units at most: ``45 s``, ``7 min``, ``9 h 3 min``, ``24 h``, ``3 d 4 h``."""
    if seconds < 0.95:
        return "under 1 s"
    total = round(seconds)
    for size, unit, below, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        # A day is 24 h, as quotas are spoken of.
        if total >= (2 * size if unit == "d" else size):
            more = total % size // below
            # Seconds beside ten minutes, or hours beside ten days, are noise.
            return f"{total // size} {unit}" + (f" {more} {small}" if more and total < 10 * size else "")
    return f"{total} s"


def short_duration(seconds: float) -> str:
    """For a narrow column: ``45s``, ``7m``, ``9h3m``, ``3d4h``."""
    if seconds < 0.5:
        return "now"
    total = round(seconds)
    for size, unit, below, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if total >= size:
            more = total % size // below
            return f"{total // size}{unit}" + (f"{more}{small}" if more and total < 10 * size else "")
    return f"{total}s"


def short_number(number: int) -> str:
    """For a narrow column: ``9999``, ``12k``, ``1.2M``."""
    if number < 10_000:
        return str(number)
    if number < 1_000_000:
        return f"{number // 1000}k"
    return f"{number / 1_000_000:.1f}M"


def short_limit(number: int) -> str:
    """The same, and ``5k`` for 5000: limits are round."""
    return f"{number // 1000}k" if number < 1_000_000 and number % 1000 == 0 and number else short_number(number)


def megabytes(count: int) -> str:
    """``12 MB``, ``1.5 GB``, counted as Redis counts ``maxmemory 256mb``."""
    if count >= 1 << 30:
        return f"{count / (1 << 30):.1f} GB"
    return f"{count / (1 << 20):.0f} MB" if count >= 1 << 20 else f"{count / 1024:.0f} kB"


def listed(names: Sequence[str], most: int) -> str:
    """``a, b and 3 more``: the first ones of some names."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def counted(count: int, one: str, many: str = "") -> str:
    """``1 event``, ``5,000 events``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
