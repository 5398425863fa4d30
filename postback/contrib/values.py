"""Settings that every framework's integration reads alike.

What is wrong becomes one sentence that names the key.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from postback._events.account_names import check_account_names
from postback._events.event import EVENTS
from postback._send.directory import names_in_file
from postback._suggestion import suggestion
from postback.errors import ConfigurationError

__all__ = ["read_accounts"]


def read_accounts(name: str, value: object) -> Mapping[str, list[str]] | str:
    """Account names by provider, or the path of an accounts file, which must be readable.

    Args:
        name: What to call the setting.
        value: The setting's value, of any type.

    Raises:
        ConfigurationError: It cannot be used.
    """
    if isinstance(value, (str, os.PathLike)):
        path = str(os.fspath(value))
        names_in_file(path, variable=name)
        return path
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f"{name} must be a path or a dict of provider to account names, not {type(value).__name__}"
        )
    return {_provider(name, provider): _names(name, provider, names) for provider, names in value.items()}


def _provider(name: str, provider: object) -> str:
    providers = {event.provider for event in EVENTS.values()}
    if not isinstance(provider, str) or provider not in providers:
        raise ConfigurationError(
            f"{name} has an unknown provider {str(provider)[:40]!r}: {suggestion(provider, providers)}"
        )
    return provider


def _names(name: str, provider: str, names: object) -> list[str]:
    # A lone string would pass for a list of one-letter accounts.
    if not isinstance(names, (list, tuple, set, frozenset)):
        raise ConfigurationError(f"{name} must give a list of names for {provider!r}, not {type(names).__name__}")
    check_account_names(name, provider, names)
    return list(names)
