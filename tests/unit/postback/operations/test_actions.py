"""Records of what operators do."""

from __future__ import annotations

import getpass
import json
import socket

import pytest

from postback.operations.actions import event_text, operator, record_text
from postback.operations.letters import read_letter


def test_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user and the host of the process."""
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    monkeypatch.setattr(socket, "gethostname", lambda: "ops1")
    assert operator() == "ann@ops1"


@pytest.mark.parametrize("error", [OSError("no login"), KeyError("uid not found"), ImportError("no pwd")])
def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A container's user may have no name, and a host none either: that stops nobody."""

    def fail() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", fail)
    monkeypatch.setattr(socket, "gethostname", lambda: "")
    assert operator() == "unknown@unknown"


def test_a_long_name() -> None:
    """What a page passes for a name is cut, and no two records have the same grant."""
    one, other = (json.loads(record_text("pause", "tgtrack.main", "x" * 100_000)) for _ in range(2))
    assert one["who"] == "x" * 255
    assert one["grant"].startswith("action:")
    assert one["grant"] != other["grant"]


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (b"garbage", {}),
        (b'{"headers": {"id": 5, "task": ["x"], "postback_key": 7, "postback_key_text": {}, "postback_at": [[]]}}', {}),
        (b'{"headers": {"id": "\\ud800", "task": "x.y"}, "body": "!"}', {"id": "\ud800", "task": "x.y"}),
        (b'{"headers": {"id": "' + b"i" * 9000 + b'", "postback_key_text": "' + b"k" * 9000 + b'"}}',
         {"id": "i" * 255, "key": "k" * 2000}),
    ],
)  # fmt: skip
def test_hostile_letters(raw: bytes, fields: dict[str, str]) -> None:
    """Anybody may have written a letter: what it does not say is left out, what is long is cut."""
    assert json.loads(event_text(read_letter(raw, "tgtrack"), "tgtrack.main")) == {"queue": "tgtrack.main", **fields}
