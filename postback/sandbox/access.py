"""Which keys a provider knows. Only fingerprints are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .exchange import fingerprint

Keys = Mapping[str, Iterable[str] | Mapping[str, str]]


class Access:
    """Known, revoked and scoped keys of all providers.

    Args:
        keys: provider -> keys, or provider -> {account name: key}. A provider without an entry
            takes any key.
    """

    def __init__(self, keys: Keys | None = None) -> None:
        self._known: dict[str, set[str]] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._revoked: dict[tuple[str, str], int] = {}
        self._scopes: dict[tuple[str, str], str] = {}
        for provider, entries in (keys or {}).items():
            if isinstance(entries, str):
                raise TypeError(
                    f"keys[{provider!r}] is a list of keys or a mapping of account names to keys, not one string"
                )
            if isinstance(entries, Mapping):
                for name, key in entries.items():
                    self.add(provider, key, name=name)
            else:
                for key in entries:
                    self.add(provider, key)

    def add(self, provider: str, key: str, *, name: str = "") -> None:
        """Make a key known; from now on the provider refuses keys it does not know."""
        self._known.setdefault(provider, set()).add(fingerprint(key))
        if name:
            self._names[provider, fingerprint(key)] = name

    def name(self, provider: str, key: str) -> str:
        """The account name of a key's fingerprint, ``""`` if it has none."""
        return self._names.get((provider, key), "")

    def revoke(self, provider: str, key: str, code: int = 0) -> None:
        """Refuse a key from now on; `code` 0 stands for the provider's usual one."""
        self._revoked[provider, fingerprint(key)] = code

    def restore(self, provider: str, key: str) -> None:
        """Take a revoked key again."""
        self._revoked.pop((provider, fingerprint(key)), None)

    def scope(self, provider: str, key: str, value: str) -> None:
        """Tie a key to one ``idApp`` (myTracker) or one ``app_name`` (Telegram Analytics)."""
        self._scopes[provider, fingerprint(key)] = value

    def scope_of(self, provider: str, key: str) -> str | None:
        """What a key's fingerprint is tied to, None if to nothing."""
        return self._scopes.get((provider, key))

    def refusal(self, provider: str, key: str) -> int | None:
        """None if the key is good, else the refusal's code (0: the provider's usual one)."""
        revoked = self._revoked.get((provider, key))
        if revoked is not None:
            return revoked
        known = self._known.get(provider)
        return None if known is None or key in known else 0

    def clear(self) -> None:
        """Take revoked keys again."""
        self._revoked.clear()
