"""Reading one table of the accounts file: types, bounds and ``"env:NAME"``.

Every reader remembers the key it was asked for, so that what nobody asked for is an unknown key: a
setting is declared where it is read, once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast
from urllib.parse import urlsplit

from config.policy import Credential, Setting, T
from config.secret import Secret
from postback._events.account_names import check_account_name
from postback._events.values import Refused
from postback._suggestion import nearest
from postback.wire.windows import Window, parse_windows

_FROM_ENVIRONMENT: Final = "env:"

#: Characters of a credential by where it travels. None allows a line break: it would end an HTTP
#: header.
_PATTERNS: Final = {
    "path": (re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~!$&'()*+,;=:@-]+"), "characters of one URL path segment"),
    "header": (re.compile(r"[\x21-\x7e]+"), "printable ASCII characters without spaces"),
    "text": (re.compile(r"[^\x00-\x1f\x7f]+"), "printable characters"),
    "number": (re.compile(r"[1-9][0-9]{0,18}"), "a whole number, 1 or more"),
}


class TableError(Exception):
    """Something is wrong in a table: the key, or None for the table itself, and the fact.

    Never leaves this room.
    """

    def __init__(self, key: str | None, fact: str) -> None:
        """Keep both; whoever knows the file and the table's name makes the sentence."""
        super().__init__(fact)
        self.key = key
        self.fact = fact


class Table:
    """One account's table. Every method raises :class:`TableError`."""

    def __init__(self, values: Mapping[str, object], environ: Mapping[str, str]) -> None:
        """Read ``values``, taking those that say so from ``environ``."""
        self._values = values
        self._environ = environ
        self._known: list[str] = []

    def known(self) -> list[str]:
        """Keys that were asked for."""
        return list(self._known)

    def unread(self) -> list[str]:
        """Keys of the table that nobody asked for."""
        return [key for key in self._values if key not in self._known]

    def credential(self, credential: Credential) -> Secret | None:
        """A credential, or None if it is optional and absent."""
        key = credential.name
        value = self._value(key)
        if value is None:
            if credential.required:
                near = nearest(key, self._values)
                hint = (
                    f"is {near} meant for it?"
                    if near is not None
                    else 'write it as "env:NAME" to keep it out of the file'
                )
                raise TableError(key, f"is missing; {hint}")
            return None
        if credential.place == "number" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise TableError(
                key, f"must be {'a whole number' if credential.place == 'number' else 'a string'}, not {_kind(value)}"
            )
        pattern, words = _PATTERNS[credential.place]
        if pattern.fullmatch(value) is None:
            raise TableError(key, f"must be {words}" if value else "is empty")
        return Secret(value)

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """A number between ``low`` and ``high``, both allowed."""
        value = self._number(key)
        if value is None:
            return default
        if not low <= value <= high:
            raise TableError(key, f"{value:g} is not between {low:g} and {high:g}")
        return value

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number between ``low`` and ``high``, both allowed."""
        value = self._number(key)
        if value is None:
            return default
        if not value.is_integer():
            raise TableError(key, f"{value:g} is not a whole number")
        if not low <= value <= high:
            raise TableError(key, f"must be {low}" if low == high else f"{value:.0f} is not between {low} and {high}")
        return int(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._value(key)
        if value is None:
            return default
        if isinstance(value, str) and self._is_from_environment(key) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise TableError(key, f"must be true or false, not {_kind(value)}")
        return value

    def choice(self, key: str, default: str | None, allowed: tuple[str, ...]) -> str | None:
        """One of some words."""
        value = self._value(key)
        if value is None:
            return default
        if not isinstance(value, str) or value not in allowed:
            words = " or ".join(f'"{word}"' for word in allowed)
            raise TableError(key, f"must be {words}")
        return value

    def name(self, key: str) -> str:
        """A name, of the characters that an account's may have; "" if it is not given.

        Raises:
            TableError: It is none.
        """
        value = self._value(key)
        if value is None:
            return ""
        try:
            check_account_name(value)
        except Refused as refused:
            raise TableError(key, str(refused)) from None
        return str(value)

    def own(self, setting: Setting[T]) -> T:
        """A provider's own setting."""
        default: object = setting.default
        value: object
        if isinstance(default, bool):
            value = self.flag(setting.name, default)
        elif isinstance(default, int):
            value = self.whole(setting.name, default, int(setting.low), int(setting.high))
        elif isinstance(default, float):
            value = self.number(setting.name, default, setting.low, setting.high)
        else:
            value = self.choice(setting.name, str(default), setting.words)
        return cast(T, value)

    def windows(self, key: str) -> tuple[Window, ...]:
        """Quota windows; empty if the key is absent."""
        value = self._value(key)
        if value is None:
            return ()
        if not isinstance(value, str):
            raise TableError(key, f"must be a string, not {_kind(value)}")
        try:
            return parse_windows(value)
        except ValueError as error:
            # What the file has, not what the environment had: `limits = "env:API_KEY"` must not
            # print the key.
            raise TableError(key, f'"{self._values[key]}" {error}') from None

    def url(self, key: str) -> str | None:
        """An http(s) address without a slash at the end, or None.

        It is never shown: people do put keys into
        addresses.
        """
        value = self._value(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise TableError(key, f"must be a string, not {_kind(value)}")
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018  a bad port is told only when it is read
        except ValueError:
            raise TableError(key, "is not an address") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or any(char.isspace() for char in value):
            raise TableError(key, "must be an http:// or https:// address")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise TableError(key, "must have no user, query or fragment; credentials have keys of their own")
        return value.rstrip("/")

    def _value(self, key: str) -> object:
        self._known.append(key)
        value = self._values.get(key)
        if not isinstance(value, str) or not value.startswith(_FROM_ENVIRONMENT):
            return value
        variable = value.removeprefix(_FROM_ENVIRONMENT)
        text = self._environ.get(variable)
        if text is None:
            raise TableError(key, f"the environment variable {variable} is not set")
        # A key copied into a file or a secret store often ends with a line break.
        text = text.strip()
        if not text:
            raise TableError(key, f"the environment variable {variable} is empty")
        return text

    def _number(self, key: str) -> float | None:
        value = self._value(key)
        if value is None:
            return None
        if isinstance(value, str) and self._is_from_environment(key):
            try:
                value = float(value)
            except ValueError:
                raise TableError(key, f"must be a number, which {self._values[key]} is not") from None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TableError(key, f"must be a number, not {_kind(value)}")
        # TOML has nan and inf, and an int of any length, which float() refuses.
        if not abs(value) <= 1e15:
            raise TableError(key, "is not a usable number")
        return float(value)

    def _is_from_environment(self, key: str) -> bool:
        return str(self._values[key]).startswith(_FROM_ENVIRONMENT)


def _kind(value: object) -> str:
    names = {
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), "a date")
