"""Accounts: one set of credentials at one provider, read from a TOML file.

A value ``"env:NAME"`` is read from the environment. Whatever is wrong is told in one sentence that
names the file, the table and the key, and never shows a value that could be a secret.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from config.policy import Policy, Setting, T
from config.providers import POLICIES, PROVIDERS
from config.secret import Secret
from config.table import Table, TableError
from postback._events.account_names import check_account_name
from postback._events.values import Refused
from postback._suggestion import nearest
from postback.errors import ConfigurationError
from postback.wire import keys
from postback.wire.windows import Window

__all__ = ["Account", "Accounts", "Secret", "build_account", "load_accounts"]

#: Seconds by which a lease outlasts its request: the wait for the next round, the settle's way back
#: to Redis.
LEASE_MARGIN_S: Final = 5.0

#: Largest `max_queued`: so many events fill any Redis.
MOST_QUEUED: Final = 10**9


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account with all that its worker needs to know.

    Times are in seconds; see :class:`config.policy.Policy` for their meaning.
    """

    provider: str
    name: str
    #: Names as in the accounts file (``api_key``, ``token``, ``id_app``, ``app_name``); an optional
    #: one that was not given is absent.
    credentials: Mapping[str, Secret] = field(hash=False)
    #: Scheme and host, and a path if the account overrides it with one; no slash at the end, no API
    #: version.
    base_url: str
    #: Shortest first; empty: no quota is known.
    windows: tuple[Window, ...]
    connect_timeout_s: float
    timeout_s: float
    lease_s: float
    linger_s: float
    batch_max: int
    max_bytes: int
    max_attempts: int
    backoff_s: float
    backoff_max_s: float
    outage_after: int
    retry_in_place: bool
    poll_s: float
    poll_max_s: float
    deadline_s: float
    max_age_s: float
    #: 0: no bound.
    max_wait_s: float
    on_ambiguous: Literal["send", "dead"]
    dedup_s: float
    max_queued: int
    #: Name of a quota that several accounts of the provider share; "": each credential has its own.
    quota: str = ""
    #: The provider's own settings by name; :meth:`own` reads one.
    own_settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def queue(self) -> str:
        """The account's queue: ``tgtrack.main``."""
        return keys.queue(self.provider, self.name)

    @property
    def policy(self) -> Policy:
        """The provider's policy."""
        return POLICIES[self.provider]

    def own(self, setting: Setting[T]) -> T:
        """The account's value of a setting that its provider's policy declares."""
        value: T = self.own_settings[setting.name]
        return value


class Accounts(Mapping[str, Account]):
    """Queue name (``tgtrack.main``) -> account, in the order of the file."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        """Index ``accounts`` by queue."""
        self._by_queue = {account.queue: account for account in accounts}

    def __getitem__(self, queue: str) -> Account:
        """The account of a queue."""
        return self._by_queue[queue]

    def __iter__(self) -> Iterator[str]:
        """Queue names."""
        return iter(self._by_queue)

    def __len__(self) -> int:
        """How many accounts."""
        return len(self._by_queue)

    def __repr__(self) -> str:
        """Queue names only."""
        return f"Accounts({', '.join(self._by_queue)})"

    def of(self, provider: str) -> tuple[Account, ...]:
        """A provider's accounts; empty if it has none."""
        return tuple(account for account in self._by_queue.values() if account.provider == provider)

    def find(self, provider: str, name: str) -> Account | None:
        """The account, or None if there is none of that name."""
        return self._by_queue.get(keys.queue(provider, name))


def load_accounts(path: Path | str, environ: Mapping[str, str], *, provider: str | None = None) -> Accounts:
    """Read the accounts file.

    Args:
        path: The TOML file.
        environ: Where ``"env:NAME"`` values come from.
        provider: Read the tables of this provider only, so that its worker needs no other
            provider's secrets in its
        environment.

    Raises:
        ConfigurationError: The file cannot be read or something in it is wrong.
    """
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: no such accounts file; copy config/accounts.example.toml or set POSTBACK_ACCOUNTS"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read the accounts file: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: the accounts file is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        # The message tells the place and may quote a character, never a value.
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from None
    accounts = []
    for name, tables in document.items():
        if name not in POLICIES:
            hint = _suggestion(name, PROVIDERS)
            raise ConfigurationError(f"{path}: [{name}] is not a provider{hint}; providers are {', '.join(PROVIDERS)}")
        if not isinstance(tables, dict):
            raise ConfigurationError(f"{path}: {name} must be a table of accounts such as [{name}.main]")
        for account, table in tables.items():
            if not isinstance(table, dict):
                raise ConfigurationError(f"{path}: [{name}] {account}: an account needs a name, such as [{name}.main]")
            if provider is None or name == provider:
                accounts.append(build_account(name, account, table, environ, where=f"{path}: "))
    _check_quotas(path, accounts)
    if provider is None and not accounts:
        raise ConfigurationError(f"{path}: names no account; config/accounts.example.toml shows one of each provider")
    return Accounts(accounts)


def _check_quotas(path: Path | str, accounts: Iterable[Account]) -> None:
    """One credential has one quota."""
    first: dict[tuple[str, frozenset[tuple[str, Secret]]], Account] = {}
    for account in accounts:
        if not account.credentials or not account.quota:
            continue
        other = first.setdefault((account.provider, frozenset(account.credentials.items())), account)
        if other.quota != account.quota:
            raise ConfigurationError(
                f"{path}: [{account.queue}] quota: has the same key as [{other.queue}], so it cannot have another quota"
            )


def build_account(
    provider: str, name: str, table: Mapping[str, object], environ: Mapping[str, str] | None = None, *, where: str = ""
) -> Account:
    """Make an account from one table of the accounts file, filling in the provider's policy.

    Args:
        provider: One of :data:`config.providers.PROVIDERS`.
        name: The account's name.
        table: Credentials and overrides as the file has them.
        environ: Where ``"env:NAME"`` values come from.
        where: What an error begins with, such as the file's name.

    Raises:
        ConfigurationError: Something in the table is wrong.
    """
    policy = POLICIES[provider]
    try:
        check_account_name(name)
        source = Table(table, environ or {})
        account = _account(policy, name, source)
        for key in source.unread():
            hint = _suggestion(key, source.known())
            raise TableError(key, f"{provider} accounts have no such key{hint}")
    except Refused as refused:
        raise ConfigurationError(f"{where}[{provider}.{name}]: the name {refused}") from None
    except TableError as error:
        place = f"{where}[{provider}.{name}]"
        raise ConfigurationError(
            f"{place} {error.key}: {error.fact}" if error.key else f"{place}: {error.fact}"
        ) from None
    return account


def _account(policy: Policy, name: str, table: Table) -> Account:
    credentials: dict[str, Secret] = {}
    for credential in policy.credentials:
        value = table.credential(credential)
        if value is not None:
            credentials[credential.name] = value
    timeout_s = table.number("timeout_s", policy.timeout_s, 0.1, 600)
    lease_s = table.number("lease_s", policy.lease_s, 1, 3600)
    if lease_s <= timeout_s + LEASE_MARGIN_S:
        least = f"must exceed timeout_s ({timeout_s:g}) by more than {LEASE_MARGIN_S:g} seconds"
        raise TableError("lease_s", f"{lease_s:g} {least}, or an event could be sent twice at once")
    backoff_s = table.number("backoff_s", policy.backoff_s, 0.001, 86_400)
    poll_s = table.number("poll_s", policy.poll_s, 0.001, 3600)
    return Account(
        provider=policy.provider,
        name=name,
        credentials=MappingProxyType(credentials),
        base_url=_base_url(policy, table),
        windows=table.windows("limits") or policy.windows_for(credentials),
        connect_timeout_s=table.number("connect_timeout_s", min(policy.connect_timeout_s, timeout_s), 0.1, timeout_s),
        timeout_s=timeout_s,
        lease_s=lease_s,
        linger_s=table.number("linger_s", policy.linger_s, 0, 3600),
        batch_max=table.whole("batch_max", policy.batch_max, 1, policy.batch_limit),
        max_bytes=table.whole("max_bytes", policy.max_bytes, 100, policy.max_bytes_limit),
        max_attempts=table.whole("max_attempts", policy.max_attempts, 1, 1000),
        backoff_s=backoff_s,
        backoff_max_s=table.number("backoff_max_s", max(policy.backoff_max_s, backoff_s), backoff_s, 86_400),
        outage_after=table.whole("outage_after", policy.outage_after, 1, 1000),
        retry_in_place=table.flag("retry_in_place", policy.retry_in_place),
        poll_s=poll_s,
        poll_max_s=table.number("poll_max_s", max(policy.poll_max_s, poll_s), poll_s, 86_400),
        deadline_s=table.number("deadline_s", policy.deadline_s, 0.1, 30 * 86_400),
        max_age_s=table.number("max_age_s", policy.max_age_s, 1, 365 * 86_400),
        max_wait_s=table.number("max_wait_s", 0, 0, 365 * 86_400),
        on_ambiguous="dead"
        if table.choice("on_ambiguous", policy.on_ambiguous, ("send", "dead")) == "dead"
        else "send",
        dedup_s=table.number("dedup_s", policy.dedup_s, 1, 365 * 86_400),
        max_queued=table.whole("max_queued", 0, 0, MOST_QUEUED),
        quota=table.name("quota"),
        own_settings=MappingProxyType({setting.name: table.own(setting) for setting in policy.own}),
    )


def _base_url(policy: Policy, table: Table) -> str:
    own_url = table.url("base_url")
    environment = ""
    if "" not in policy.base_urls:
        environments = tuple(policy.base_urls)
        chosen = table.choice("environment", None, environments)
        if chosen is None and own_url is None:
            words = " or ".join(f'"{one}"' for one in environments)
            raise TableError("environment", f"is missing; it must be {words} and is never guessed")
        environment = chosen or environments[0]
    if own_url is None:
        return policy.base_urls[environment]
    # Providers' documents write the version as part of the address, ours do not: both spellings
    # work.
    return own_url.removesuffix(policy.version_path).rstrip("/") if policy.version_path else own_url


def _suggestion(word: str, known: Iterable[str]) -> str:
    near = nearest(word, known)
    return "" if near is None else f"; did you mean {near}?"
