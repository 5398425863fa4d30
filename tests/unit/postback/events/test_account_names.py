"""One rule for account names, the same for everybody who meets one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakeredis
import pytest

import postback
from config.accounts import build_account, load_accounts
from postback import ConfigurationError, InvalidEvent, UnknownAccount, operations, tgtrack
from postback._events.account_names import is_account_name
from postback._send.directory import names_announced, names_in_file
from postback.operations import queues
from postback.operations.letters import read_letter
from postback.wire import keys

GOOD = ["main", "_main", "-x", "_", "-", "0", "x" * 64, "Main", "dead_", "Dead", "META"]
BAD = ["", "x" * 65, "a.b", "a b", "a/b", "a\n", "é", "имя", "a\x06", *sorted(keys.RESERVED_NAMES)]


def quietly(refusals: tuple[type[Exception], ...], ask: Callable[[], Any]) -> bool:
    """Whether it went well."""
    try:
        ask()
    except refusals:
        return False
    return True


def by_event(name: str, folder: Path) -> bool:
    return quietly((InvalidEvent,), lambda: tgtrack.GetUserInfo(user_id="1", account=name))


def by_load(name: str, folder: Path) -> bool:
    return quietly((InvalidEvent,), lambda: tgtrack.GetUserInfo.load({"user_id": "1"}, account=name))


def by_configure(name: str, folder: Path) -> bool:
    try:
        return quietly((ConfigurationError,), lambda: postback.configure(accounts={"tgtrack": [name]}))
    finally:
        postback.configure()


def by_worker(name: str, folder: Path) -> bool:
    return quietly((ConfigurationError,), lambda: build_account("tgtrack", name, {"api_key": "k"}))


def file_of(name: str, folder: Path) -> Path:
    path = folder / "accounts.toml"
    quoted = "".join(f"\\U{ord(char):08x}" for char in name)
    path.write_text(f'[tgtrack."{quoted}"]\napi_key = "k"\n')
    return path


def by_workers_file(name: str, folder: Path) -> bool:
    return quietly((ConfigurationError,), lambda: load_accounts(file_of(name, folder), {}))


def by_producers_file(name: str, folder: Path) -> bool:
    return quietly((ConfigurationError,), lambda: names_in_file(str(file_of(name, folder))))


def by_announcement(name: str, folder: Path) -> bool:
    return names_announced({f"tgtrack.{name}".encode(): b"{}"}) == {"tgtrack": {name: 0}}


def by_operators(name: str, folder: Path) -> bool:
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    return quietly((UnknownAccount, operations.UnknownProvider), lambda: operations.select(client, f"tgtrack.{name}"))


def by_status(name: str, folder: Path) -> bool:
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    client.hset(keys.ACCOUNTS, f"tgtrack.{name}", "{}")
    return f"tgtrack.{name}" in queues.announced(client, ["tgtrack"])


EVERYBODY = [
    by_event, by_load, by_configure, by_worker, by_workers_file, by_producers_file, by_announcement, by_operators, by_status,
]  # fmt: skip


@pytest.mark.parametrize("somebody", EVERYBODY)
@pytest.mark.parametrize("name", GOOD)
def test_good(somebody: Callable[[str, Path], bool], name: str, tmp_path: Path) -> None:
    """1 to 64 letters, digits, _ and - in any order are a name: for producers, workers, files,
    Redis and operators.
    """
    assert somebody(name, tmp_path)


@pytest.mark.parametrize("somebody", EVERYBODY)
@pytest.mark.parametrize("name", BAD)
def test_bad(somebody: Callable[[str, Path], bool], name: str, tmp_path: Path) -> None:
    """Anything else is none, and neither is a word of Postback's own Redis keys; again for all of
    them.
    """
    assert not somebody(name, tmp_path)


@pytest.mark.parametrize("name", sorted(keys.RESERVED_NAMES))
def test_the_sentence(name: str) -> None:
    """The refusal of a reserved name says that it is reserved, not that its letters are wrong."""
    with pytest.raises(InvalidEvent, match=f'account must not be "{name}", which Postback uses in its own Redis keys'):
        tgtrack.GetUserInfo(user_id="1", account=name)


def test_every_key_is_reserved() -> None:
    """A new key beside a queue is reserved as soon as ``postback/wire/keys.py`` has it in its list,
    and forgetting it fails here.
    """
    for name, key in vars(keys).items():
        one = inspect.isfunction(key) and len(inspect.signature(key).parameters) == 1
        if one and isinstance(key("q"), str) and key("q").startswith("q."):
            assert not is_account_name(key("q").removeprefix("q.").partition(".")[0]), name


@pytest.mark.parametrize("name", ["meta", "x" * 65, "a b"])
def test_dead_letters(name: str) -> None:
    """A dead letter from a queue that can be no account's names no account."""
    letter = read_letter(
        b'{"headers":{"id":"1"},"properties":{"delivery_info":{"routing_key":"tgtrack.%b"}}}' % name.encode(), "tgtrack"
    )
    assert letter.account == ""
