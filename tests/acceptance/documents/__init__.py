"""The code blocks of README and guides, and the worlds in which they run as they are printed.

A world is a module of this folder, named after its document. It runs in a process of its own, on a
stack: it makes what the text takes for granted (models, a cart, a page to go to), runs the blocks
in order in one namespace, and looks at what they did.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[3]

_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block of a document."""

    path: str
    line: int
    language: str
    text: str

    def run(self, names: dict[str, Any]) -> None:
        """Run it as it is printed; a traceback names the document and the line."""
        names.setdefault("__name__", "__main__")
        code = compile("\n" * self.line + self.text, self.path, "exec", dont_inherit=True)
        exec(code, names)

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def blocks(path: str, language: str = "") -> list[Block]:
    """A document's blocks, all or those of a language."""
    content = (ROOT / path).read_text(encoding="utf-8")
    found = [
        Block(path, content.count("\n", 0, match.start()) + 1, match[1], match[2]) for match in _BLOCK.finditer(content)
    ]
    return [block for block in found if language in ("", block.language)]


def python(path: str, count: int) -> list[Block]:
    """A document's Python blocks.

    Args:
        path: The document.
        count: How many its world knows of: a new one must be run too.
    """
    found = blocks(path, "python")
    assert len(found) == count, f"{path} has {len(found)} Python blocks, its world runs {count}"
    return found
