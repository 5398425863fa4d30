"""The scripts as texts: what can be told of them without a server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[4]
SCRIPTS: Final = sorted([*ROOT.glob("workers/**/*.lua"), *ROOT.glob("postback/**/*.lua")])
#: What a numeric loop may run to: a constant, or how much of something was passed in or read.
BOUNDS: Final = re.compile(r"\d+|[A-Z_]+( - 1)?|#[A-Za-z_]+(\[\d\])?( - \d+)?|request\.count|own|to|hit - 1")


def code(path: Path) -> str:
    """A script without its comments."""
    return re.sub(r"--.*", "", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
class TestLoops:
    def test_no_loop_without_a_bound(self, path: Path) -> None:
        """Redis cannot stop a script that has written: no loop waits for something to become true
        (ADR 22).
        """
        assert re.findall(r"\b(while|repeat|goto)\b", code(path)) == []

    def test_every_range_has_a_bound(self, path: Path) -> None:
        """A numeric ``for`` runs over a constant, an argument or the length of what was read, never
        over a number from a message.
        """
        for start, end, step in re.findall(r"\bfor \w+ = ([^,\n]+), ([^\n]+?)(?:, (-?[\w.]+))? do\b", code(path)):
            bound = start if step == "-1" else end
            assert BOUNDS.fullmatch(bound), f"{bound} in {path.name}"

    def test_no_function_calls_itself(self, path: Path) -> None:
        """A nesting that is deeper than the stack must not exist."""
        for name, body in re.findall(r"\blocal function (\w+)\(.*?\)(.*?)\nend\b", code(path), re.DOTALL):
            assert not re.search(rf"\b{name}\(", body), name


def test_there_are_scripts() -> None:
    """The tests above look at something."""
    assert len(SCRIPTS) >= 12
