"""The pytest plugin in a project of its own: what a developer reads when his test fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
BEFORE = """
from unittest import mock

import pytest

from postback import tgtrack
from postback.testing import Sent

def sale(**fields):
    return tgtrack.AddEvent(**{"user_id": "987654321", "event_type": "sale", **fields})

@pytest.fixture
def outbox(postback_outbox):
    sale().delay()
    sale(amount=1.0).apply_async(priority=0)
    return postback_outbox
"""
#: Name of a failing test -> its assertion, and how pytest explains it.
EVENTS = {
    "outbox_first": (
        "assert outbox == [sale(), sale(amount=2.0)]",
        ["assert 2 events (sent) == 2 events (expected)", "[1] tgtrack.AddEvent.amount: sent 1.0, expected 2.0"],
    ),
    "outbox_last": (
        "assert [sale(), sale(amount=2.0)] == outbox",
        ["assert 2 events (expected) == 2 events (sent)", "[1] tgtrack.AddEvent.amount: expected 2.0, sent 1.0"],
    ),
    "plain_list": (
        "assert outbox[1:] == [sale(user_id='987000321', amount=1.0)]",
        [
            "assert 1 event (left) == 1 event (right)",
            "[0] tgtrack.AddEvent.user_id: left '987654321', right '987000321'",
        ],
    ),
    "one_event": (
        "assert outbox[0] == sale(user_id='987000321')",
        ["assert AddEvent == AddEvent", "user_id: left '987654321', right '987000321'"],
    ),
    "in": (
        "assert sale(amount=3.0) in outbox",
        ["assert tgtrack.AddEvent in 2 events (sent)", "[0] tgtrack.AddEvent.amount: sent None, expected 3.0"],
    ),
    "sends": (
        "assert outbox.sent[1:] == [Sent(sale(amount=1.0), mock.ANY, {'priority': 1, 'task_id': mock.ANY})]",
        ["assert 1 event (left) == 1 event (right)", "[0] Sent.options['priority']: left 0, right 1"],
    ),
    "one_send": (
        "assert outbox.sent[1] == Sent(sale(), mock.ANY, outbox.sent[1].options)",
        ["assert Sent == Sent", "event.amount: left 1.0, right None"],
    ),
    "sets": (
        "assert set(outbox) == {sale()}",
        [
            "assert 2 events (left) == 1 event (right)",
            "left, not right: tgtrack.AddEvent(user_id='987654321', event_type='sale', amount=1.0)",
        ],
    ),
    "nothing": (
        "assert outbox == []",
        [
            "assert 2 events (sent) == 0 events (expected)",
            "[0] sent, not expected: tgtrack.AddEvent(user_id='987654321', event_type='sale')",
            "[1] sent, not expected: tgtrack.AddEvent(user_id='987654321', event_type='sale', amount=1.0)",
        ],
    ),
}
#: The same for what is not about events: a part of what pytest says by itself.
OTHERS = {
    "lists": ("assert [1, 2] == [1, 3]", "At index 1 diff: 2 != 3"),
    "dicts": ("assert {'a': 1} == {'a': 2}", "{'a': 1} != {'a': 2}"),
    "members": ("assert 5 in [1, 2]", "assert 5 in [1, 2]"),
    "numbers": ("assert outbox.sent[1].options['priority'] == 1", "assert 0 == 1"),
    "lengths": ("assert len(outbox) == 3", "assert 2 == 3"),
}
MANY = {"many": ("assert outbox == [sale(amount=number) for number in range(100)]", "")}


def explain(folder: Path, *options: str) -> dict[str, list[str]]:
    """Run all failing tests at once: each name, with pytest's explanation without its ``E``."""
    tests = "".join(
        f"\ndef test_{name}(outbox):\n    {code}\n" for name, (code, _) in {**EVENTS, **OTHERS, **MANY}.items()
    )
    (folder / "test_shop.py").write_text(BEFORE + tests, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")}
    # The plugin is named, so that it is this checkout's, whatever the environment has installed.
    plugin = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "postback.contrib.pytest", "-p", "no:cacheprovider", *options],
        cwd=folder, env={**kept, **plugin}, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    _, *parts = re.split(r"^_+ test_(\w+) _+$", done.stdout, flags=re.MULTILINE)
    return {
        name: [line[1:].strip().removeprefix("AssertionError: ") for line in text.splitlines() if line.startswith("E ")]
        for name, text in zip(parts[::2], parts[1::2], strict=True)
    }


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """As pytest explains them without options."""
    return explain(tmp_path_factory.mktemp("shop"))


@pytest.mark.parametrize("name", EVENTS)
def test_events(explained: dict[str, list[str]], name: str) -> None:
    """Whatever compares events says which fields differ, in the words of the comparison."""
    assert explained[name] == EVENTS[name][1]


@pytest.mark.parametrize("name", OTHERS)
def test_everything_else_is_pytests(explained: dict[str, list[str]], name: str) -> None:
    """What is not about events is explained as without the plugin."""
    assert any(OTHERS[name][1] in line for line in explained[name])


def test_a_long_list_is_cut_as_pytest_cuts(explained: dict[str, list[str]]) -> None:
    """The first differences are shown, and pytest says how to see the others."""
    lines = explained["many"]
    assert "[0] tgtrack.AddEvent.amount: sent None, expected 0" in lines
    assert len(lines) < 15
    assert any("use '-vv' to show" in line for line in lines)


def test_a_long_list_is_whole_with_vv(tmp_path: Path) -> None:
    """Every event that differs has its line."""
    assert sum("expected, not sent" in line for line in explain(tmp_path, "-vv")["many"]) == 98
