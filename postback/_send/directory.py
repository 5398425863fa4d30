"""Which accounts exist, and how many events may wait in each. It never keeps a credential."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, Final

from postback._events.account_names import DEFAULT_ACCOUNT, check_account_names, is_account_name
from postback.errors import ConfigurationError, UnknownAccount

__all__ = ["VARIABLE", "AccountDirectory", "Caps", "names_announced", "names_in_file", "read_announcement"]

logger = logging.getLogger("postback")

#: The environment variable that holds the accounts file's path.
VARIABLE: Final = "POSTBACK_ACCOUNTS"
#: How long the names are used before they are read again, in seconds.
CACHE_S: Final = 30.0
#: How long to wait after a failed first look-up, in seconds.
RETRY_S: Final = 1.0

#: Provider -> account's name -> its cap: most events that may wait in it; 0: no cap.
Caps = Mapping[str, Mapping[str, int]]
#: The key of an account's cap in the accounts file, and in what workers announce.
CAP: Final = "max_queued"


def names_in_file(path: str, *, variable: str = VARIABLE) -> Caps:
    """The accounts in an accounts file: its tables ``[provider.account]``.

    Args:
        path: The file.
        variable: Where the path comes from, for the message.

    Raises:
        ConfigurationError: The file cannot be read, or an account cannot have such a name.
    """
    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
    except OSError as unreadable:
        raise ConfigurationError(
            f"{variable}: cannot read {path}: {unreadable.strerror or type(unreadable).__name__}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # The decoder's message may quote a piece of a credential.
        raise ConfigurationError(f"{variable}: {path} is not TOML") from None
    for provider, accounts in tables.items():
        if isinstance(accounts, dict):
            check_account_names(
                f"{variable}: {path}", provider, (name for name in accounts if isinstance(accounts[name], dict))
            )
    return {
        provider: {name: _cap(table) for name, table in accounts.items() if isinstance(table, dict)}
        for provider, accounts in tables.items()
        if isinstance(accounts, dict)
    }


def names_announced(hash_: Mapping[bytes, bytes]) -> Caps:
    """The accounts in the Redis hash that workers write: ``<provider>.<account>`` -> JSON."""
    caps: dict[str, dict[str, int]] = {}
    for field, announcement in hash_.items():
        provider, _, account = field.decode("utf-8", "replace").partition(".")
        if is_account_name(account):
            caps.setdefault(provider, {})[account] = _cap(read_announcement(announcement))
    return caps


def read_announcement(text: bytes) -> dict[str, Any]:
    """What a worker has announced in one field of a hash; empty if it is no JSON object."""
    try:
        announcement = json.loads(text)
    except ValueError:
        return {}
    return announcement if isinstance(announcement, dict) else {}


def _cap(table: Mapping[str, Any]) -> int:
    """An account's cap; 0 if it has none, or one that the worker will complain about."""
    cap = table.get(CAP)
    return cap if type(cap) is int and cap > 0 else 0


class AccountDirectory:
    """Chooses and checks account names without a round trip for each event.

    Args:
        read: Reads from Redis what workers have announced; returns None if that failed. A failure
            never fails a send.
        caps: Accounts that are set in code. Neither a file nor Redis is asked then.
        path: An accounts file. Redis is not asked then. None takes ``POSTBACK_ACCOUNTS``.
    """

    def __init__(
        self, read: Callable[[], Mapping[bytes, bytes] | None], *, caps: Caps | None = None, path: str | None = None
    ) -> None:
        self._read = read
        self._fixed = caps
        self._path = path if path is not None else os.environ.get(VARIABLE) or None
        self._caps: Caps | None = None
        self._due = 0.0
        self._reading = threading.Lock()

    def choose(self, provider: str, account: str | None) -> str:
        """The account that carries an event.

        If the provider's accounts are not known, any name will do.

        Args:
            provider: ``"tgtrack"``.
            account: The name that the caller wants; None takes the provider's only account or
                ``main``.

        Raises:
            UnknownAccount: The provider has no such account.
            ConfigurationError: The accounts file cannot be read.
        """
        fresh = self._refresh()
        accounts = self._accounts(provider)
        name = _pick(account, accounts)
        if name is None and not fresh:
            # The account may have been added since; a refusal must not rest on a stale copy.
            self._refresh(again=True)
            accounts = self._accounts(provider)
            name = _pick(account, accounts)
        if name is None:
            raise UnknownAccount(provider, account, sorted(accounts or ()))
        return name

    def cap(self, provider: str, account: str) -> int:
        """Most events that may wait in an account; 0: no cap, or none that is known."""
        return (self._accounts(provider) or {}).get(account, 0)

    def _accounts(self, provider: str) -> Mapping[str, int] | None:
        """A provider's accounts with their caps; None if they are not known."""
        return (self._caps or {}).get(provider) or None

    def _refresh(self, *, again: bool = False) -> bool:
        """Read the accounts if they are due; whether they were read now."""
        if self._fixed is not None:
            self._caps = self._fixed
            return True
        if time.monotonic() < self._due and not again:
            return False
        if self._caps is None or again:
            # No lock, because no thread can go on without the names. Behind a lock the threads
            # would queue in an outage, and each would wait for one time limit after the other.
            return self._read_now()
        if not self._reading.acquire(blocking=False):
            return False
        try:
            return self._read_now()
        finally:
            self._reading.release()

    def _read_now(self) -> bool:
        """Read the accounts; whether it succeeded."""
        if self._path is not None:
            caps: Caps | None = names_in_file(self._path)
        else:
            announced = self._read()
            caps = None if announced is None else names_announced(announced)
        if caps is not None:
            self._caps = caps
        self._due = time.monotonic() + (RETRY_S if self._caps is None else CACHE_S)
        return caps is not None

    def after_fork(self) -> None:
        """Forget a lock that another thread of the parent may have held."""
        self._reading = threading.Lock()


def _pick(account: str | None, accounts: Mapping[str, int] | None) -> str | None:
    if accounts is None:
        return account or DEFAULT_ACCOUNT
    if account is not None:
        return account if account in accounts else None
    if len(accounts) == 1:
        return next(iter(accounts))
    return DEFAULT_ACCOUNT if DEFAULT_ACCOUNT in accounts else None
