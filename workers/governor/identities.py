"""Names the credential and the quota of each account; Redis counts by them (invariant I10, ADR 33).

A credential's name is a keyed fingerprint. The key of the fingerprints is in Redis, so that all
workers of one Redis compute the same names.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from config.accounts import Account
from postback.operations.queues import Announced
from postback.wire import keys
from postback.wire.windows import Window, strictest
from tasks.grants import Grant

#: Hexadecimal digits of a fingerprint.
DIGITS: Final = 16
#: Accounts that a warning names.
NAMED: Final = 5


#: First part of a name: of a key's fingerprint, of a quota in the accounts file, of the account.
FINGERPRINT: Final = "key."
NAME: Final = "name."
ACCOUNT: Final = "account."


@dataclass(frozen=True, slots=True)
class Identity:
    """The credential and the quota of an account.

    Attributes:
        credential: Name of its credential.
        quota: Name of its quota.
        windows: The strictest windows of all accounts that share its quota, the shortest first.
    """

    credential: str
    quota: str
    windows: tuple[Window, ...]


class Identities:
    """The identities of a process's accounts. Any thread."""

    def __init__(self) -> None:
        """It has no accounts yet."""
        self._key = b""
        self._serial = 0
        #: Queue -> its account, the serial at that time, and its identity.
        self._identities: dict[str, tuple[Account, int, Identity]] = {}
        #: Key of a quota -> queue -> the account's own windows.
        self._windows: dict[str, dict[str, tuple[Window, ...]]] = {}
        #: Key of a credential -> name of the quota that one of its accounts asks for.
        self._quota_names: dict[str, str] = {}
        self._served: Mapping[str, Account] = {}
        #: The announcements of all workers.
        self._announced: Mapping[str, Announced] = {}
        self._warned: set[str] = set()

    def learn(self, client: redis.Redis) -> bool:
        """Agree on the key of fingerprints with all workers of a Redis.

        Returns:
            Whether the key has changed.

        Raises:
            redis.RedisError: Redis is away.
        """
        key: Any = client.get(keys.FINGERPRINTS)
        if not key:
            client.set(keys.FINGERPRINTS, self._key or secrets.token_hex(32).encode(), nx=True)
            key = client.get(keys.FINGERPRINTS)
        if not key or key == self._key:
            return False
        self._key = key
        self._begin_anew()
        return True

    @property
    def has_key(self) -> bool:
        """Whether it has the key of fingerprints."""
        return bool(self._key)

    def serve(self, accounts: Mapping[str, Account]) -> None:
        """Identify the accounts of the process. What they share is known before any TAKE."""
        if accounts is self._served:
            return
        self._served = accounts
        self._begin_anew()
        self._serve(accounts.values())

    def of(self, account: Account) -> Identity:
        """An account's identity."""
        entry = self._identities.get(account.queue)
        if entry is None or entry[0] is not account or entry[1] != self._serial:
            self._serve([account])
            entry = self._identities[account.queue]
        return entry[2]

    def of_grant(self, grant: Grant, account: Account | None) -> Identity:
        """The identity that a grant was taken for, even if the account has another key by now."""
        if isinstance(grant.identity, Identity):
            return grant.identity
        return self.of(account) if account else Identity(_own(grant.queue), _own(grant.queue), ())

    def update(self, announced: Mapping[str, Announced]) -> list[str]:
        """Take over the announcements of all workers.

        Returns:
            New warnings.
        """
        if announced == self._announced:
            return []
        self._announced = announced
        self._begin_anew()
        self._serve(self._served.values())
        return self._warnings()

    def _begin_anew(self) -> None:
        self._serial += 1
        self._windows, self._quota_names = {}, {}
        for queue, announced in self._announced.items():
            provider = queue.partition(".")[0]
            self._windows.setdefault(keys.quota(provider, announced.quota), {})[queue] = announced.windows
            if announced.credential.startswith(FINGERPRINT) and announced.quota.startswith(NAME):
                self._name_quota(keys.credential(provider, announced.credential), announced.quota)

    def _name_quota(self, credential_key: str, quota: str) -> None:
        self._quota_names[credential_key] = min(quota, self._quota_names.get(credential_key, quota))

    def _serve(self, accounts: Iterable[Account]) -> None:
        credentials = []
        for account in accounts:
            credential = self._credential(account)
            key = keys.credential(account.provider, credential)
            if account.quota:
                self._name_quota(key, f"{NAME}{account.quota}")
            credentials.append((account, credential, key))
        # The windows of all accounts are gathered before the strictest are chosen.
        quotas = []
        for account, credential, key in credentials:
            quota = self._quota_names.get(key, credential)
            quota_key = keys.quota(account.provider, quota)
            self._windows.setdefault(quota_key, {})[account.queue] = account.windows
            quotas.append((account, credential, quota, quota_key))
        windows = {key: strictest(self._windows[key].values()) for key in {key for *_, key in quotas}}
        for account, credential, quota, quota_key in quotas:
            self._identities[account.queue] = (account, self._serial, Identity(credential, quota, windows[quota_key]))

    def _credential(self, account: Account) -> str:
        if not account.credentials:
            return _own(account.queue)
        words = [
            account.provider,
            *(f"{name}={secret.reveal()}" for name, secret in sorted(account.credentials.items())),
        ]
        return FINGERPRINT + hmac.digest(self._key, "\0".join(words).encode(), "sha256").hex()[:DIGITS]

    def _warnings(self) -> list[str]:
        queues_by_key: dict[str, set[str]] = {}
        for queue, announced in self._announced.items():
            if announced.credential.startswith(FINGERPRINT):
                key = keys.credential(queue.partition(".")[0], announced.credential)
                queues_by_key.setdefault(key, set()).add(queue)
        own_keys = set()
        for account in self._served.values():
            if account.credentials:
                key = keys.credential(account.provider, self.of(account).credential)
                queues_by_key.setdefault(key, set()).add(account.queue)
                own_keys.add(key)
        texts = [
            f"{_names(queues)} have the same key: they share one quota and one health"
            for key, queues in queues_by_key.items()
            if key in own_keys and len(queues) > 1
        ]
        for accounts in self._windows.values():
            limits_of = {tuple((window.limit, window.window_s) for window in windows) for windows in accounts.values()}
            if len(limits_of) > 1:
                limits = "; ".join(window.text for window in strictest(accounts.values()))
                texts.append(
                    f"{_names(accounts)} share one quota and have different limits: the stricter hold ({limits})"
                )
        new = [text for text in texts if text not in self._warned]
        self._warned.update(new)
        return new


def _own(queue: str) -> str:
    return ACCOUNT + queue.partition(".")[2]


def _names(queues: Iterable[str]) -> str:
    names = sorted(queues)
    if len(names) <= NAMED:
        return f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
