"""``settings.POSTBACK``: what may stand in it, and what is wrong with it.

::

    POSTBACK = {
        "BROKER_URL": "redis://127.0.0.1:6379/0",   # else POSTBACK_BROKER_URL
        "ACCOUNTS": {"tgtrack": ["main", "shop"]},  # else POSTBACK_ACCOUNTS
        "SEND_TIMEOUT_S": 2,                        # else POSTBACK_SEND_TIMEOUT_S
        "OUTBOX": {"BATCH": 100, "POLL_S": 0.5, "KEEP_DAYS": 7, "LEASE_S": 30},
    }

``ACCOUNTS`` may also be the path of an accounts file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from postback._suggestion import suggestion
from postback.contrib.values import read_accounts
from postback.errors import ConfigurationError
from postback.wire.broker import parse_broker

__all__ = ["MAX_BATCH", "OutboxSettings", "Settings", "read_outbox_value", "read_settings"]

#: Most events that one transaction of the relay moves. SQLite before 3.32 takes 999 parameters in a
#: statement.
MAX_BATCH: Final = 500
#: Longest time limit of one send, in seconds.
MAX_TIMEOUT_S: Final = 3600.0


@dataclass(frozen=True, kw_only=True)
class OutboxSettings:
    """How ``postback_relay`` works.

    Attributes:
        batch: Events a transaction, 1..500.
        poll_s: Seconds between two looks at an empty outbox.
        keep_days: Days after which queued events are deleted; 0 deletes them at once.
        lease_s: Seconds after which another relay takes over from a dead one, on databases without
            ``SKIP LOCKED``.
    """

    batch: int = 100
    poll_s: float = 0.5
    keep_days: float = 7.0
    lease_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``settings.POSTBACK``, read; None leaves a value to the environment."""

    broker_url: str | None = field(default=None, repr=False)
    accounts: Mapping[str, Iterable[str]] | str | None = None
    send_timeout_s: float | None = None
    outbox: OutboxSettings = field(default_factory=OutboxSettings)


class _Wrong(Exception):
    """A value cannot be used. The text follows the key's name."""


def read_settings(value: object) -> tuple[Settings, list[str]]:
    """Read ``settings.POSTBACK``.

    Args:
        value: The setting, of any type.

    Returns:
        The settings, and a sentence without a secret for each thing that is wrong, in order. What
        cannot be used has its default.
    """
    problems: list[str] = []
    values = _read("POSTBACK", value, _KEYS, problems)
    return Settings(**values), problems


def read_outbox_value(name: str, key: str, value: object) -> Any:
    """Check a value of ``OUTBOX`` that comes from an option of a command.

    Args:
        name: What to call it, ``--batch``.
        key: ``"BATCH"``.
        value: The value.

    Raises:
        ConfigurationError: It cannot be used.
    """
    try:
        return _OUTBOX_KEYS[key](name, value, [])
    except _Wrong as wrong:
        raise ConfigurationError(f"{name} {wrong}") from None


def _read(name: str, settings: object, keys: _Keys, problems: list[str]) -> dict[str, Any]:
    """The values of one dict of settings, by attribute."""
    if not isinstance(settings, Mapping):
        problems.append(f"{name} must be a dict, not {type(settings).__name__}")
        return {}
    values: dict[str, Any] = {}
    for key, value in settings.items():
        reader = keys.get(key)
        if reader is None:
            problems.append(_unknown(name, key, keys))
            continue
        path = f"{name}[{key!r}]"
        if value is None:
            continue
        try:
            values[key.lower()] = reader(path, value, problems)
        except _Wrong as wrong:
            problems.append(f"{path} {wrong}")
        except ConfigurationError as wrong:
            problems.append(str(wrong))
    return values


def _unknown(name: str, key: object, keys: Iterable[str]) -> str:
    """The problem of an unknown key, with the one that was probably meant."""
    shown = key if isinstance(key, str) else type(key).__name__
    return f"{name} has an unknown key {shown!r}: {suggestion(shown, keys)}"


def _broker_url(path: str, value: object, problems: list[str]) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"must be a URL such as redis://127.0.0.1:6379/0, not {type(value).__name__}")
    parse_broker(value, variable=path)
    return value


def _accounts(path: str, value: object, problems: list[str]) -> Mapping[str, Iterable[str]] | str:
    return read_accounts(path, value)


def _outbox(path: str, value: object, problems: list[str]) -> OutboxSettings:
    return OutboxSettings(**_read(path, value, _OUTBOX_KEYS, problems))


def _number(low: float, high: float, *, whole: bool = False, above: bool = False) -> _Reader:
    """A number from ``low`` (with ``above``: more than it) to ``high``."""
    kinds = int if whole else (int, float)
    what = f"must be a {'whole ' if whole else ''}number {'above' if above else 'from'} {low:g} "
    what += f"and at most {high:g}" if above else f"to {high:g}"

    def read(path: str, value: object, problems: list[str]) -> float:
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise _Wrong(f"{what}, not {type(value).__name__}")
        number: float = value
        if not low <= number <= high or (above and number == low):
            raise _Wrong(what)
        return number

    return read


_Reader = Callable[[str, object, list[str]], Any]
_Keys = Mapping[str, _Reader]

_KEYS: Final[_Keys] = {
    "BROKER_URL": _broker_url,
    "ACCOUNTS": _accounts,
    "SEND_TIMEOUT_S": _number(0, MAX_TIMEOUT_S, above=True),
    "OUTBOX": _outbox,
}
_OUTBOX_KEYS: Final[_Keys] = {
    "BATCH": _number(1, MAX_BATCH, whole=True),
    "POLL_S": _number(0, 3600, above=True),
    "KEEP_DAYS": _number(0, 36500),
    "LEASE_S": _number(1, 3600),
}
