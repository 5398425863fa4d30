"""Masks every credential that a process knows (invariant I8)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from config.accounts import Account
from config.secret import MASK
from config.settings import Settings

#: Shorter credentials are not masked: they would mask half of a text. No provider has such keys.
SHORTEST_SECRET: Final = 4
#: Up to so many spellings are searched for one by one.
FEW: Final = 48


class Masker:
    """Knows credentials. Any thread."""

    def __init__(self) -> None:
        """It knows none yet."""
        #: Spellings of credentials, the longest first; and by their first characters.
        self._secrets: tuple[str, ...] = ()
        self._by_start: Mapping[str, list[str]] = {}

    def learn(self, accounts: Mapping[str, Account]) -> None:
        """Mask the credentials of these accounts, too.

        Earlier credentials stay masked: a removed key is still a key.
        """
        spellings: set[str] = set()
        for account in accounts.values():
            for credential in account.policy.credentials:
                secret = account.credentials.get(credential.name)
                if secret is not None and credential.place in ("path", "header"):
                    spellings |= _spellings(secret.reveal())
        self._add(spellings)

    def learn_broker(self, settings: Settings) -> None:
        """Mask the brokers' passwords, too."""
        for urls in settings.broker_urls_in_use():
            for url in urls.split(";"):
                self.learn_url(url)

    def learn_url(self, url: str) -> None:
        """Mask the passwords of a URL, too."""
        parts, spellings = urlsplit(url), set[str]()
        passwords = [parts.password, *(value for name, value in parse_qsl(parts.query) if "password" in name)]
        for password in filter(None, passwords):
            spellings |= _spellings(password) | _spellings(unquote(password))
        self._add(spellings)

    def scrub(self, text: str) -> str:
        """The text with every known credential masked."""
        # This runs for each line. With many credentials, only those whose first characters occur in
        # the text are searched for.
        secrets = self._secrets if len(self._secrets) <= FEW else self._possible(text)
        for secret in secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        return text

    def _add(self, spellings: set[str]) -> None:
        secrets = sorted({*self._secrets, *spellings}, key=len, reverse=True)
        by_start: dict[str, list[str]] = {}
        for secret in secrets:
            by_start.setdefault(secret[:SHORTEST_SECRET], []).append(secret)
        self._by_start, self._secrets = by_start, tuple(secrets)

    def _possible(self, text: str) -> list[str]:
        starts = self._by_start
        possible = {
            secret
            for at in range(len(text) - SHORTEST_SECRET + 1)
            for secret in starts.get(text[at : at + SHORTEST_SECRET], ())
        }
        return sorted(possible, key=len, reverse=True)


def _spellings(value: str) -> set[str]:
    return {
        text
        for text in (value, quote(value, safe=""), quote(value), json.dumps(value)[1:-1])
        if len(text) >= SHORTEST_SECRET
    }
