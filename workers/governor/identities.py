"""Whose key an account has, and which quota: what Redis counts requests by (invariant I10, ADR 33).

A credential is known by a keyed fingerprint. Its key stands in Redis, so that all workers of one Redis come to the same.
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


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose an account is, for its provider.

    Attributes:
        credential: Names its credential.
        quota: Names its quota.
        windows: By which it is asked: its own, and those of the accounts that share its quota; the shortest first.
    """

    credential: str
    quota: str
    windows: tuple[Window, ...]


class Identities:
    """Of the accounts of a process. Any thread."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._key = b""
        self._serial = 0
        #: Queue -> its account, as of which serial, and its identity.
        self._known: dict[str, tuple[Account, int, Identity]] = {}
        #: Key of a quota -> queue -> the windows that it goes by.
        self._windows: dict[str, dict[str, tuple[Window, ...]]] = {}
        #: Key of a credential -> name of the quota that one of its accounts names.
        self._named: dict[str, str] = {}
        self._served: Mapping[str, Account] = {}
        #: What all workers say.
        self._told: Mapping[str, Announced] = {}
        self._warned: set[str] = set()

    def learn(self, client: redis.Redis) -> bool:
        """Agree on the key of fingerprints with all workers of a Redis.

        Returns:
            Whether it is another than before.

        Raises:
            redis.RedisError: Redis is away.
        """
        found: Any = client.get(keys.FINGERPRINTS)
        if not found:
            client.set(keys.FINGERPRINTS, self._key or secrets.token_hex(32).encode(), nx=True)
            found = client.get(keys.FINGERPRINTS)
        if not found or found == self._key:
            return False
        self._key = found
        self._begin_anew()
        return True

    @property
    def known(self) -> bool:
        """It has the key of fingerprints."""
        return bool(self._key)

    def serve(self, accounts: Mapping[str, Account]) -> None:
        """These are the accounts of the process now: what they share is known before any of them is asked."""
        if accounts is self._served:
            return
        self._served = accounts
        self._begin_anew()
        self._serve(accounts.values())

    def of(self, account: Account) -> Identity:
        """An account's."""
        known = self._known.get(account.queue)
        if known is None or known[0] is not account or known[1] != self._serial:
            self._serve([account])
            known = self._known[account.queue]
        return known[2]

    def of_grant(self, grant: Grant, account: Account | None) -> Identity:
        """Whose a grant is: as it was taken, also if the account has another key by now, or is gone."""
        if isinstance(grant.identity, Identity):
            return grant.identity
        return self.of(account) if account else Identity(_own(grant.queue), _own(grant.queue), ())

    def hear(self, told: Mapping[str, Announced]) -> list[str]:
        """What other workers say of their accounts.

        Returns:
            Warnings that were not given before.
        """
        if told == self._told:
            return []
        self._told = told
        self._begin_anew()
        self._serve(self._served.values())
        return self._warnings()

    def _begin_anew(self) -> None:
        self._serial += 1
        self._windows, self._named = {}, {}
        for queue, one in self._told.items():
            provider = queue.partition(".")[0]
            self._windows.setdefault(keys.quota(provider, one.quota), {})[queue] = one.windows
            if one.credential.startswith(FINGERPRINT) and one.quota.startswith(NAME):
                self._name(keys.credential(provider, one.credential), one.quota)

    def _name(self, credential_key: str, quota: str) -> None:
        self._named[credential_key] = min(quota, self._named.get(credential_key, quota))

    def _serve(self, accounts: Iterable[Account]) -> None:
        found = []
        for account in accounts:
            credential = self._credential(account)
            key = keys.credential(account.provider, credential)
            if account.quota:
                self._name(key, f"{NAME}{account.quota}")
            found.append((account, credential, key))
        # Every account says by which windows it goes before any of them is told which hold.
        placed = []
        for account, credential, key in found:
            quota = self._named.get(key, credential)
            quota_key = keys.quota(account.provider, quota)
            self._windows.setdefault(quota_key, {})[account.queue] = account.windows
            placed.append((account, credential, quota, quota_key))
        holding = {key: strictest(self._windows[key].values()) for key in {key for *_, key in placed}}
        for account, credential, quota, quota_key in placed:
            self._known[account.queue] = (account, self._serial, Identity(credential, quota, holding[quota_key]))

    def _credential(self, account: Account) -> str:
        if not account.credentials:
            return _own(account.queue)
        words = [
            account.provider,
            *(f"{name}={secret.reveal()}" for name, secret in sorted(account.credentials.items())),
        ]
        return FINGERPRINT + hmac.digest(self._key, "\0".join(words).encode(), "sha256").hex()[:DIGITS]

    def _warnings(self) -> list[str]:
        same: dict[str, set[str]] = {}
        for queue, one in self._told.items():
            if one.credential.startswith(FINGERPRINT):
                same.setdefault(keys.credential(queue.partition(".")[0], one.credential), set()).add(queue)
        mine = set()
        for account in self._served.values():
            if account.credentials:
                key = keys.credential(account.provider, self.of(account).credential)
                same.setdefault(key, set()).add(account.queue)
                mine.add(key)
        texts = [
            f"{_names(queues)} have the same key: they share one quota and one health"
            for key, queues in same.items()
            if key in mine and len(queues) > 1
        ]
        for windows in self._windows.values():
            if len({tuple((window.limit, window.window_s) for window in one) for one in windows.values()}) > 1:
                limits = "; ".join(window.text for window in strictest(windows.values()))
                texts.append(
                    f"{_names(windows)} share one quota and have different limits: the stricter hold ({limits})"
                )
        new = [text for text in texts if text not in self._warned]
        self._warned.update(new)
        return new


#: What a credential or a quota is called after: the fingerprint of a key, the accounts file's word, the account itself.
FINGERPRINT: Final = "key."
NAME: Final = "name."
ACCOUNT: Final = "account."


def _own(queue: str) -> str:
    return ACCOUNT + queue.partition(".")[2]


def _names(queues: Iterable[str]) -> str:
    names = sorted(queues)
    if len(names) <= NAMED:
        return f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
