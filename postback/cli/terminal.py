"""Standard output through Rich: colour if wanted, 100 columns, foreign text as it is."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Final

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.text import Text

from postback.cli.output import clean

#: Most columns; a pipe has always as many, so that output does not depend on the terminal.
WIDTH: Final = 100


class Terminal(Console):
    """Standard output, a terminal or not. No text is ever read as Rich's markup."""

    def __init__(self) -> None:
        is_terminal = sys.stdout.isatty()
        wanted = bool(os.environ.get("FORCE_COLOR")) or (is_terminal and os.environ.get("TERM") != "dumb")
        super().__init__(
            file=sys.stdout,
            force_terminal=is_terminal,
            color_system="standard" if wanted and not os.environ.get("NO_COLOR") else None,
            width=columns(),
            markup=False,
            highlight=False,
            emoji=False,
        )

    def say(self, *parts: str | tuple[str, str]) -> None:
        """One sentence of texts, or texts with a style.

        A pipe gets it in one line, however long.
        """
        self.print(assemble(*parts), soft_wrap=not self.is_terminal)

    def on_broken_pipe(self) -> None:
        """Leave it to the command's exit code; Rich would end the process with 1."""
        raise BrokenPipeError


def columns() -> int:
    """How wide output may be now."""
    return min(WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else WIDTH


def plain(text: str, style: str = "") -> Text:
    """A text from anywhere: its control characters become blanks, and nothing in it is markup."""
    return Text(clean(text), style)


def assemble(*parts: str | tuple[str, str]) -> Text:
    """Several such texts in a row."""
    return Text.assemble(*(plain(part) if isinstance(part, str) else plain(*part) for part in parts))


def mark(good: bool) -> tuple[str, str]:
    """A check mark or a cross."""
    return ("✓", "green") if good else ("✗", "bold red")


def bar(share: float, cells: int, color: str) -> ProgressBar:
    """A bar of so many characters, filled to ``share`` (0..1)."""
    return ProgressBar(total=1, completed=share, width=cells, style="dim", complete_style=color, finished_style=color)
