"""Which accounts exist, and how many events may wait in each. A credential is never kept."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, Final

from postback._events.names import DEFAULT_ACCOUNT, check_names, is_account_name
from postback.errors import ConfigurationError, UnknownAccount

__all__ = ["VARIABLE", "KnownAccounts", "Names", "names_in_file", "read_announcement"]

logger = logging.getLogger("postback")

#: The environment variable that holds the accounts file's path.
VARIABLE: Final = "POSTBACK_ACCOUNTS"
#: How long names that workers announced in Redis are taken as read, in seconds.
CACHE_S: Final = 30.0
#: When to ask again after a failed look-up that left nothing known, in seconds.
RETRY_S: Final = 1.0

#: Provider -> its accounts' names -> most events that may wait in each; 0: no cap.
Names = Mapping[str, Mapping[str, int]]
#: The key of an account's cap, in the accounts file and in what workers announce.
CAP: Final = "max_queued"


def names_in_file(path: str, *, variable: str = VARIABLE) -> Names:
    """The names and caps in an accounts file: its tables ``[provider.account]``.

    Raises:
        ConfigurationError: The file cannot be read, or a name is none.
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
            check_names(
                f"{variable}: {path}", provider, (name for name in accounts if isinstance(accounts[name], dict))
            )
    return {
        provider: {name: _cap(table) for name, table in accounts.items() if isinstance(table, dict)}
        for provider, accounts in tables.items()
        if isinstance(accounts, dict)
    }


def names_announced(hash_: Mapping[bytes, bytes]) -> Names:
    """The names and caps in the Redis hash that workers write: ``<provider>.<account>`` -> JSON."""
    names: dict[str, dict[str, int]] = {}
    for field, announcement in hash_.items():
        provider, _, account = field.decode("utf-8", "replace").partition(".")
        if is_account_name(account):
            names.setdefault(provider, {})[account] = _cap(read_announcement(announcement))
    return names


def read_announcement(text: bytes) -> dict[str, Any]:
    """What a worker has announced in a field of a hash; empty if it is no JSON object."""
    try:
        announced = json.loads(text)
    except ValueError:
        return {}
    return announced if isinstance(announced, dict) else {}


def _cap(table: Mapping[str, Any]) -> int:
    """0 where there is none, or none that can be used: the account's worker says what is wrong with it."""
    cap = table.get(CAP)
    return cap if type(cap) is int and cap > 0 else 0


class KnownAccounts:
    """Chooses and checks account names without a round trip per event.

    Args:
        given: Names set in code; nothing else is asked then.
        path: An accounts file; Redis is not asked then. None takes ``POSTBACK_ACCOUNTS``.
        read: Reads from Redis what workers announced; returns None if that failed, which never fails a send.
    """

    def __init__(
        self, read: Callable[[], Mapping[bytes, bytes] | None], *, given: Names | None = None, path: str | None = None
    ) -> None:
        self._read = read
        self._given = given
        self._path = path if path is not None else os.environ.get(VARIABLE) or None
        self._names: Names | None = None
        self._due = 0.0
        self._reading = threading.Lock()

    def choose(self, provider: str, account: str | None) -> str:
        """The account that carries an event.

        Args:
            provider: ``"tgtrack"``.
            account: The name asked for; None for the provider's only account or ``main``.

        Raises:
            UnknownAccount: The provider's names are known and this is none of them.
            ConfigurationError: The accounts file cannot be read.
        """
        fresh = self._refresh()
        known = self._known(provider)
        chosen = _pick(account, known)
        if chosen is None and not fresh:
            # The account may have been added since; a refusal must not rest on a stale copy.
            self._refresh(again=True)
            known = self._known(provider)
            chosen = _pick(account, known)
        if chosen is None:
            raise UnknownAccount(provider, account, sorted(known or ()))
        return chosen

    def cap(self, provider: str, account: str) -> int:
        """Most events that may wait in an account, as far as is known; 0: no cap."""
        return (self._known(provider) or {}).get(account, 0)

    def _known(self, provider: str) -> Mapping[str, int] | None:
        """None if nothing is known of this provider."""
        return (self._names or {}).get(provider) or None

    def _refresh(self, *, again: bool = False) -> bool:
        """Read the names if they are due; whether they were read now."""
        if self._given is not None:
            self._names = self._given
            return True
        if time.monotonic() < self._due and not again:
            return False
        if self._names is None or again:
            # Nothing to go on with meanwhile; no lock, so that an outage costs each thread one time limit and not a
            # queue of them.
            return self._read_now()
        if not self._reading.acquire(blocking=False):
            return False
        try:
            return self._read_now()
        finally:
            self._reading.release()

    def _read_now(self) -> bool:
        """Whether it succeeded."""
        if self._path is not None:
            names: Names | None = names_in_file(self._path)
        else:
            announced = self._read()
            names = None if announced is None else names_announced(announced)
        if names is not None:
            self._names = names
        self._due = time.monotonic() + (RETRY_S if self._names is None else CACHE_S)
        return names is not None

    def after_fork(self) -> None:
        """Forget a lock that another thread of the parent may have held."""
        self._reading = threading.Lock()


def _pick(account: str | None, known: Mapping[str, int] | None) -> str | None:
    if known is None:
        return account or DEFAULT_ACCOUNT
    if account is not None:
        return account if account in known else None
    if len(known) == 1:
        return next(iter(known))
    return DEFAULT_ACCOUNT if DEFAULT_ACCOUNT in known else None
