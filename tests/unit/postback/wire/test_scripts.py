"""Lua files that include each other, joined before Redis sees them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from postback.wire.scripts import CircularInclude, Script, joined, named

ROOT = Path(__file__).resolve().parents[4]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a script and what it may include."""

    def written(script: str, **includes: str) -> Path:
        (tmp_path / "include").mkdir()
        (tmp_path / "run.lua").write_text(script)
        for name, text in includes.items():
            (tmp_path / "include" / f"{name}.lua").write_text(text)
        return tmp_path

    return written


def test_a_file_stands_where_it_is_named(write: Write) -> None:
    """What stands before an include can be seen in it, as what stands in it can be seen behind."""
    folder = write("local a = 1\n-- @include b\nreturn b\n", b="local b = a\n")
    assert joined(folder, "run") == "local a = 1\nlocal b = a\nreturn b\n"


def test_each_file_once(write: Write) -> None:
    """Two files that need a third one share it."""
    folder = write("-- @include a\n-- @include b\n", a="-- @include c\na\n", b="-- @include c\nb\n", c="c\n")
    assert joined(folder, "run") == "c\na\nb\n"


def test_a_function_has_its_own(write: Write) -> None:
    """What stands in a function is out of sight behind it, and what stands before it is in sight
    inside.
    """
    folder = write(
        "-- @include a\nf(function()\n  -- @include b\nend)\n-- @include b\n", a="a\n", b="-- @include a\nb\n"
    )
    assert joined(folder, "run") == "a\nf(function()\nb\nend)\nb\n"


@pytest.mark.parametrize("indent", ["", "  "])
def test_a_circle_is_refused(write: Write, indent: str) -> None:
    """A file that includes itself by way of another, also inside a function."""
    folder = write("-- @include a\n", a=f"{indent}-- @include b\n", b=f"{indent}-- @include a\n")
    with pytest.raises(CircularInclude, match="a > b > a"):
        joined(folder, "run")


def test_what_is_not_there(write: Write) -> None:
    """A wrong name is an error at once, not a script without its half."""
    with pytest.raises(FileNotFoundError):
        joined(write("-- @include nothing\n"), "run")


def test_a_reply_by_name() -> None:
    """Names are text, values stay as they are."""
    assert named([b"state", b"\xff", b"wait_ms", 5]) == {"state": b"\xff", "wait_ms": 5}


@pytest.mark.parametrize("name", ["take", "settle", "reconcile"])
def test_what_a_file_keeps_is_kept_once(name: str) -> None:
    """A file with a counter or a list stands in a script once: a second copy would count anew."""
    text = Script("workers.governor", name).source
    kept = [
        line
        for path in (ROOT / "workers/governor/lua/include").glob("*.lua")
        for line in re.findall(r"^local \w+ = (?:0|\{\}|\{)$", path.read_text(), re.MULTILINE)
        if path.stem not in ("dispose", "unhealthy", "crashed")
    ]
    assert len(kept) >= 5
    assert not [line for line in kept if text.count(f"\n{line}\n") > 1]


def test_every_file_is_included() -> None:
    """No file is left that no script needs."""
    names = {path.stem for path in (ROOT / "workers/governor/lua/include").glob("*.lua")}
    wanted = {
        name
        for path in (ROOT / "workers/governor/lua").rglob("*.lua")
        for name in re.findall(r"-- @include (\w+)", path.read_text())
    }
    assert names == wanted
