"""What a field of an event may hold.

A field is declared once, in its event's class body::

    amount: Kept[Number | None, float | None] = number(default=None)

That declaration gives the constructor its parameter (with a type, for type checkers and editors),
the check that runs on it, and the marshmallow field that ``load`` uses. ``default`` makes a field
optional. With :data:`UNSET` as the default, an explicit None is a value of its own (JSON null).
What a field takes besides JSON's own types is in :mod:`postback._events.values`. What it means
stands in its class's docstring, under ``Args``.
"""

from __future__ import annotations

import enum
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, get_args

from postback._events.payload import FrozenDict, FrozenList, check_finite, check_text, freeze
from postback._events.shown import Shown
from postback._events.values import Refused, exact, plain, text_of

__all__ = [
    "ID_CHARS",
    "NAME_CHARS",
    "TEXT_CHARS",
    "UNSET",
    "Field",
    "Shown",
    "Unset",
    "flag",
    "integer",
    "items",
    "json_object",
    "number",
    "one_of",
    "text",
    "text_map",
]


class Unset(enum.Enum):
    """The type of :data:`UNSET`; falsy."""

    UNSET = "UNSET"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNSET"


#: Longest id where the provider names no bound, in characters. Decision: twice the 128 characters
#: of the longest hashes; wallet addresses and UUIDs have fewer.
ID_CHARS: Final = 256
#: Longest name of a person, event, goal or place, in characters. Decision: far above the 64
#: characters of Telegram's names.
NAME_CHARS: Final = 1024
#: Longest free text, in characters. Decision: as long as a message in Telegram. Browsers' addresses
#: and errors are shorter.
TEXT_CHARS: Final = 4096
#: Most entries of a list of objects. Decision: a TON wallet signs at most 255 messages at once.
MAX_ITEMS: Final = 256

#: The value of an absent optional field for which None is a value of its own.
UNSET: Final = Unset.UNSET

#: A default that means: the field is required.
REQUIRED: Final[Any] = object()

Check = Callable[[Any], Any]


@dataclass(slots=True)
class Field:
    """One field of an event.

    Attributes:
        check: Returns the value to keep or raises :class:`~postback._events.payload.Refused`.
        rule: What it takes, for people: ``1 to 256 characters``.
        default: None, :data:`UNSET`, or :data:`REQUIRED`.
        wire: The provider's name for it; empty takes the attribute's name.
        shown: See :data:`Shown`.
        label: What ``summary`` calls it.
        annotation: Its type in the constructor's signature.
    """

    check: Check
    rule: str
    default: Any
    wire: str
    shown: Shown
    label: str
    annotation: Any = inspect.Parameter.empty

    def __post_init__(self) -> None:
        if self.shown not in get_args(Shown):
            raise ValueError(f"shown must be plain or hidden, not {self.shown!r}; a person's id has personal=True")

    @property
    def required(self) -> bool:
        """Whether the event is invalid without it."""
        return self.default is REQUIRED


def _kind(value: object) -> str:
    """A value's type as JSON readers call it."""
    return "null" if value is None else "bool" if isinstance(value, bool) else type(value).__name__


def text(
    *,
    max_chars: int,
    default: Any = REQUIRED,
    wire: str = "",
    min_chars: int = 0,
    pattern: str | None = None,
    rule: str = "",
    clean: Callable[[str], str] | None = None,
    whole_numbers: bool = False,
    shown: Shown = "hidden",
    personal: bool = False,
    label: str = "",
) -> Any:
    """A string.

    Args:
        max_chars: Longest length in characters: the provider's, with its source, or a constant
            above.
        default: None makes it optional.
        wire: The provider's name, if it differs from the attribute's.
        min_chars: Shortest length in characters.
        pattern: A regular expression that must match all of it.
        rule: What the pattern asks for, as the end of a sentence: ``must be <rule>``.
        clean: Turns an accepted string into the one to send; may raise Refused.
        whole_numbers: It is an id: whole numbers are taken too.
        shown: How ``repr`` and ``summary`` show it.
        personal: It identifies a person. It is shortened where people look; ``postback erase``
            searches it.
        label: Its name in ``summary``.
    """
    match = re.compile(pattern).fullmatch if pattern else None
    convert = text_of if whole_numbers else plain
    kinds = "a string or a whole number" if whole_numbers else "a string"
    length = _length(min_chars, max_chars)

    def check(value: Any) -> str:
        if type(value) is not str:
            value = convert(value)
            if not isinstance(value, str):
                raise Refused(f"must be {kinds}, not {_kind(value)}")
            value = str.__str__(value)  # a subclass must not travel further
        if not min_chars <= len(value) <= max_chars:  # before anything walks the text
            raise Refused(f"must have {length}")
        if not value.isascii():
            check_text(value)
        if match is not None and match(value) is None:
            raise Refused(f"must be {rule}")
        return value if clean is None else clean(value)

    return Field(check, rule or length, default, wire, "personal" if personal else shown, label)


def _length(low: int, high: int) -> str:
    if low == high:
        return f"exactly {low} characters"
    return f"{low} to {high} characters" if low else f"at most {high} characters"


def integer(
    *,
    low: int,
    high: int,
    default: Any = REQUIRED,
    wire: str = "",
    digits: bool = False,
    shown: Shown = "hidden",
    personal: bool = False,
    label: str = "",
) -> Any:
    """A whole number from ``low`` to ``high``.

    With ``digits`` it may also come as a string of digits; it is kept as a number.

    See :func:`text` for ``personal``.
    """
    bounds = f"from {low} to {high}"

    def check(value: Any) -> int:
        value = plain(value)
        if digits and isinstance(value, str):
            if re.fullmatch(r"-?[0-9]{1,20}", value) is None:
                raise Refused("must be a whole number")
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Refused(f"must be a whole number, not {_kind(value)}")
        if not low <= value <= high:
            raise Refused(f"must be {bounds}")
        return int(value)

    return Field(check, f"a whole number {bounds}", default, wire, "personal" if personal else shown, label)


def number(*, low: float = -math.inf, default: Any = REQUIRED, wire: str = "") -> Any:
    """A finite number, ``low`` or more, whole or not. A decimal must be exact as a JSON number."""

    def check(value: Any) -> float:
        value = plain(value)
        if isinstance(value, Decimal):
            value = exact(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Refused(f"must be a number, not {_kind(value)}")
        finite = check_finite(int(value) if isinstance(value, int) else float(value))
        if finite < low:
            raise Refused(f"must be {low} or more")
        return finite

    rule = "a finite number" if low == -math.inf else f"a number, {low} or more"
    return Field(check, rule, default, wire, "plain", "")


def flag(*, default: Any = REQUIRED, wire: str = "") -> Any:
    """True or false."""

    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise Refused(f"must be true or false, not {_kind(value)}")
        return value

    return Field(check, "true or false", default, wire, "plain", "")


def one_of(
    *choices: str | int, default: Any = REQUIRED, wire: str = "", digits: bool = False, shown: Shown = "plain"
) -> Any:
    """One of ``choices``; with ``digits``, a number may also come as a string of digits."""
    listed = ", ".join(str(choice) for choice in choices)
    kinds = tuple({type(choice) for choice in choices})

    def check(value: Any) -> str | int:
        value = plain(value)
        if digits and isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
            value = int(value)
        if not isinstance(value, bool) and isinstance(value, kinds):
            for choice in choices:
                if value == choice:
                    return choice
        raise Refused(f"must be one of {listed}")

    return Field(check, f"one of {listed}", default, wire, shown, "")


def items(*keys: str, max_chars: int, default: Any = REQUIRED, wire: str = "") -> Any:
    """A list of at most :data:`MAX_ITEMS` objects.

    Each object has exactly ``keys``. All values are strings of at most ``max_chars`` characters, or
    whole numbers and decimals, which are kept as text.
    """
    key_set = frozenset(keys)

    def check(value: Any) -> FrozenList:
        if not isinstance(value, (list, tuple)):
            raise Refused(f"must be a list, not {_kind(value)}")
        if len(value) > MAX_ITEMS:
            raise Refused(f"must hold at most {MAX_ITEMS} objects")
        return FrozenList([entry(index, item) for index, item in enumerate(value)])

    def entry(index: int, item: Any) -> FrozenDict:
        if not isinstance(item, Mapping):
            raise Refused(f"must hold objects; item {index} is {_kind(item)}")
        if item.keys() != key_set:
            raise Refused(f"must hold objects with exactly {' and '.join(keys)}; item {index} differs")
        return FrozenDict({key: part(item[key], f"item {index}'s {key}") for key in keys})

    def part(value: Any, place: str) -> str:
        text = text_of(value)
        if not isinstance(text, str):
            raise Refused(f"must hold strings; {place} is {_kind(value)}")
        if len(text) > max_chars:
            raise Refused(f"must hold strings of at most {max_chars} characters; {place} is longer")
        return check_text(str.__str__(text))

    rule = f"at most {MAX_ITEMS} objects with {' and '.join(keys)}, each at most {max_chars} characters"
    return Field(check, rule, default, wire, "hidden", "")


def text_map(*, default: Any = REQUIRED, wire: str = "", min_chars: int, max_chars: int) -> Any:
    """An object of strings. Names and values have ``min_chars`` to ``max_chars`` characters.

    The event's size bounds their number.
    """

    def check(value: Any) -> FrozenDict:
        if not isinstance(value, Mapping):
            raise Refused(f"must be an object, not {_kind(value)}")
        return FrozenDict({part(name, "names"): part(item, "values") for name, item in value.items()})

    def part(value: Any, parts: str) -> str:
        text = text_of(value)
        if not isinstance(text, str):
            raise Refused(f"must have {parts} that are strings, not {_kind(value)}")
        if not min_chars <= len(text) <= max_chars:
            raise Refused(f"must have {parts} of {min_chars} to {max_chars} characters")
        return check_text(str.__str__(text))

    return Field(check, f"names and values of {_length(min_chars, max_chars)}", default, wire, "hidden", "")


def json_object(
    *,
    default: Any = REQUIRED,
    wire: str = "",
    or_text: bool = False,
    read: Callable[[Any], Any] | None = None,
    rule: str = "",
) -> Any:
    """Any JSON object, kept as it came; with ``or_text``, also a string.

    The event's size bounds it.

    Args:
        default: None makes it optional.
        wire: The provider's name, if it differs from the attribute's.
        or_text: A string is taken too.
        read: Turns what comes into the object or string to keep; may raise Refused.
        rule: What ``read`` takes, for people.
    """
    kinds = "object or a string" if or_text else "object"

    def check(value: Any) -> Any:
        if read is not None:
            value = read(value)
        if isinstance(value, Mapping) or (or_text and isinstance(value, str)):
            return freeze(value)
        raise Refused(f"must be an {kinds}, not {_kind(value)}")

    return Field(check, rule or f"any {kinds} in JSON", default, wire, "hidden", "")
