"""JSON values that cannot change after the event was made: freezing, thawing and measuring them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, Final, NoReturn
from uuid import UUID

from postback._events.values import Refused, exact, plain

__all__ = [
    "MAX_MESSAGE_BYTES",
    "FrozenDict",
    "FrozenList",
    "check_finite",
    "check_text",
    "compact",
    "freeze",
    "thaw",
]

#: How many levels an opaque payload may nest. Telegram's updates have fewer than 20. Python's JSON
#: decoder gives up near 1,000.
MAX_DEPTH: Final = 100

#: Most bytes of a message: of a queue entry as it is in Redis, and of its body once it is inflated.
#: Decision: a bot's update has a few kilobytes, the largest batch of a provider a few hundred.
MAX_MESSAGE_BYTES: Final = 512 * 1024


def _no_change(self: object, *args: object, **kwargs: object) -> NoReturn:
    raise TypeError("events are immutable: make a new one instead")


class FrozenDict(dict[str, Any]):
    """A dict that refuses changes; equal to a plain dict, hashable, JSON-serialisable."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _no_change

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return freeze, (thaw(self),)

    def __deepcopy__(self, memo: object) -> FrozenDict:
        return self


class FrozenList(list[Any]):
    """A list that refuses changes; equal to a plain list, hashable, JSON-serialisable."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = append = clear = extend = _no_change
    insert = pop = remove = reverse = sort = _no_change

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return freeze, (thaw(self),)

    def __deepcopy__(self, memo: object) -> FrozenList:
        return self


def check_text(value: str) -> str:
    """Refuse text that UTF-8 cannot carry (lone surrogates)."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Refused("holds a lone surrogate, which UTF-8 cannot carry") from None
    return value


def freeze(value: Any, depth: int = 0) -> Any:
    """A deep, immutable copy of a JSON value. Enums, UUIDs and exact decimals are taken too.

    Raises:
        Refused: Something in it is not JSON: NaN, infinity, a key that is no string, a lone
            surrogate, a date, bytes …
    """
    if isinstance(value, str):
        return check_text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return check_finite(int(value))
    if isinstance(value, float):
        return check_finite(value)
    if depth >= MAX_DEPTH:
        raise Refused(f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise Refused(f"has a key that is not a string but {type(key).__name__}")
            check_text(key)
        return FrozenDict({key: freeze(item, depth + 1) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return FrozenList([freeze(item, depth + 1) for item in value])
    if isinstance(value, Decimal):
        return exact(value)
    if isinstance(value, (Enum, UUID)):
        return freeze(plain(value), depth + 1)
    raise Refused(f"holds a value that is not JSON: {type(value).__name__}")


def check_finite(value: float) -> float:
    """Refuse what JSON cannot carry: NaN, infinity, and integers beyond a float's range."""
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise Refused("must be a finite number")
    return value


def thaw(value: Any) -> Any:
    """A plain, mutable copy of a frozen value."""
    if isinstance(value, dict):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list):
        return [thaw(item) for item in value]
    return value


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False, allow_nan=False).encode


def compact(wire: Any) -> bytes:
    """The wire form in UTF-8: text as it is, everything else as compact JSON."""
    return (wire if isinstance(wire, str) else _encode(wire)).encode()
