"""Standard output through Rich: colour if wanted, at most 100 columns, foreign text as it is."""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.text import Text

from postback.cli.output import clean

#: Most columns of a terminal.
WIDTH: Final = 100
#: Columns of a pipe: so many that nothing is broken or cut off there.
PIPE_WIDTH: Final = 1_000_000

#: A word with the blanks behind it; what is in backticks is a command, to be copied in one piece.
_WORD: Final = re.compile(r"\s*(?:\S*`[^`]*`\S*|\S+)\s*")


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
        """One sentence of texts, or texts with a style."""
        self.print(self.hung(assemble(*parts)))

    def hung(self, text: Text) -> Text:
        """A text in lines that fit, those after the first one indented by two more.

        Words and commands stay whole where a line has room for them.
        """
        indent = len(text.plain) - len(text.plain.lstrip()) + 2
        ends, used = list[int](), 0
        for word in _WORD.finditer(text.plain):
            if used and used + cell_len(word[0].rstrip()) > self.width:
                ends.append(word.start())
                used = indent
            used += cell_len(word[0])
        lines = text.divide(ends)
        for line in lines[:-1]:
            line.rstrip()
        return Text(f"\n{' ' * indent}").join(lines)

    def on_broken_pipe(self) -> None:
        """Leave it to the command's exit code; Rich would end the process with 1."""
        raise BrokenPipeError


def columns() -> int:
    """How wide output may be now."""
    return min(WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else PIPE_WIDTH


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
