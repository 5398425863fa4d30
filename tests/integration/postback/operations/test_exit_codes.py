"""The table of exit codes in the reference: each of its cells happens."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import postback
from postback import cli
from postback.wire import keys
from tests.integration.postback.operations.conftest import Command, Desk

REFERENCE = Path(__file__).parents[4] / "docs" / "reference" / "README.md"
SERVE = "import sys; from postback.cli import main; sys.exit(main(['sandbox', '--port', '0']))"
SALE = '{"user_id": "987654321", "event_type": "sale"}'
#: Command and code -> words that end with it, where something waits and something is dead.
#: ``{port}`` is taken.
WAYS = {
    ("send", 0): ["send", "tgtrack.add_event", SALE],
    ("send", 1): ["send", "tgtrack.add_event", "{}"],
    ("send", 2): ["send", "tgtrack.ad_event", SALE],
    ("status", 0): ["status"],
    ("status", 1): ["status", "--check"],
    ("status", 2): ["status", "--chek"],
    ("find", 0): ["find", "--live"],
    ("find", 1): ["find", "--live", "--id", "nobody"],
    ("find", 2): ["find", "--outcome", "sent"],
    ("dead list", 0): ["dead", "list"],
    ("dead list", 1): ["dead", "list", "--id", "nobody"],
    ("dead list", 2): ["dead", "list", "--reason", "rejcted"],
    ("dead replay", 0): ["dead", "replay", "tgtrack"],
    ("dead replay", 1): ["dead", "replay", "tgtrack", "--id", "nobody"],
    ("dead replay", 2): ["dead", "replay", "tgtrack", "--account", "mian"],
    ("dead drop", 0): ["dead", "drop", "tgtrack", "--yes"],
    ("dead drop", 1): ["dead", "drop", "tgtrack"],
    ("dead drop", 2): ["dead", "drop"],
    ("pause", 0): ["pause", "tgtrack.main"],
    ("pause", 1): ["pause", "tonai"],
    ("pause", 2): ["pause", "tgtrack.mian"],
    ("resume", 0): ["resume", "tgtrack.main"],
    ("resume", 1): ["resume", "tonai"],
    ("resume", 2): ["resume", "tgtrak.main"],
    ("check", 0): ["check"],
    ("check", 1): ["check"],
    ("check", 2): ["check", "tgtrack"],
    ("erase", 0): ["erase", "--user", "987654321", "--yes"],
    ("erase", 1): ["erase", "--user", "987654321"],
    ("erase", 2): ["erase", "--user", ""],
    ("sandbox", 1): ["sandbox", "--port", "{port}"],
    ("sandbox", 2): ["sandbox", "--limits", "3/second"],
}


def cells() -> Iterator[tuple[str, int]]:
    """Commands and codes of the table that have a meaning there."""
    section = REFERENCE.read_text().partition("### Exit codes")[2]
    for row in re.findall(r"^\| `postback ([a-z ]+)` \|(.*)\|$", section, re.M):
        yield from ((row[0], code) for code, meaning in enumerate(row[1].split(" | ")) if meaning.strip())


def leaves(group: click.Group, path: str = "") -> Iterator[str]:
    """Every command."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path}{name} ")
        else:
            yield path + name


def test_the_table_is_complete() -> None:
    """It has a row for every command, and each of its cells is tried below."""
    table = list(cells())
    assert {command for command, _ in table} == set(leaves(cli.postback))
    assert set(table) == {*WAYS, ("sandbox", 0)}


@pytest.fixture
def taken() -> Iterator[str]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield str(server.getsockname()[1])


@pytest.fixture
def busy(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """All is well but for a dead letter; somebody is at the terminal and says no."""
    (tmp_path / "accounts.toml").write_text('[tgtrack.main]\napi_key = "k"\n')
    monkeypatch.setenv("POSTBACK_ACCOUNTS", str(tmp_path / "accounts.toml"))
    for place in ("dead", "erase"):
        monkeypatch.setattr(f"postback.cli.{place}.can_ask", lambda: True)
    monkeypatch.setattr("click.confirm", lambda question: False)
    desk.announce("tgtrack.main")
    desk.client.hset(keys.WORKERS, "w", json.dumps({"at": desk.now_ms, "provider": "tgtrack", "pid": 1}))
    desk.sales(1)
    desk.client.config_set("appendonly", "yes")
    yield desk
    desk.client.config_set("appendonly", "no")


@pytest.mark.parametrize(("name", "code"), WAYS, ids=lambda value: str(value))
def test_a_cell(name: str, code: int, busy: Desk, command: Command, taken: str) -> None:
    """A command ends with each of the codes that the table has for it."""
    if (name, code) == ("check", 1):
        busy.client.delete(keys.WORKERS)
    assert command(*(word.format(port=taken) if word == "{port}" else word for word in WAYS[name, code])) == code


def test_the_sandbox_is_stopped() -> None:
    """A sandbox that is told to stop has done its work."""
    with subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert any("Ctrl-C stops it" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


@pytest.mark.parametrize("name", sorted({name for name, _ in WAYS} - {"sandbox"}))
def test_redis_away(name: str, busy: Desk, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Redis every command that asks it ends with 2."""
    monkeypatch.setenv("POSTBACK_BROKER_URL", "redis://127.0.0.1:1/0")
    postback.configure()
    assert command(*WAYS[name, 0]) == 2
