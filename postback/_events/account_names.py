"""Names of accounts: one rule for all rooms."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from postback._events.values import Refused
from postback.errors import ConfigurationError
from postback.wire import keys

__all__ = ["DEFAULT_ACCOUNT", "check_account_name", "check_account_names", "is_account_name"]

#: The account of an event that names none, if its provider has several or they are not known.
DEFAULT_ACCOUNT: Final = "main"

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_account_name(name: object) -> None:
    """Refuse what cannot be an account's name.

    The name becomes part of Redis keys, so it has no dots.

    Raises:
        Refused: It cannot be one.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise Refused("must have 1 to 64 of the characters A-Z a-z 0-9 _ -")
    if name in keys.RESERVED_NAMES:
        raise Refused(f'must not be "{name}", which Postback uses in its own Redis keys')


def is_account_name(name: object) -> bool:
    """Whether an account may have this name; see :func:`check_account_name`."""
    try:
        check_account_name(name)
    except Refused:
        return False
    return True


def check_account_names(source: str, provider: str, names: Iterable[str]) -> None:
    """Refuse names that accounts cannot have.

    Args:
        source: Where they come from, for the message: a variable, a setting.
        provider: ``"tgtrack"``.
        names: The names.

    Raises:
        ConfigurationError: One of them breaks the rule of :func:`check_account_name`.
    """
    for name in names:
        try:
            check_account_name(name)
        except Refused as refused:
            raise ConfigurationError(f"{source}: a name for {provider!r} {refused}") from None
