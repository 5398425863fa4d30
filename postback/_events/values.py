"""Values of ordinary models, as a field keeps them (ADR 37).

What has one meaning only is taken: an enum's member for its value, a UUID for its text, a whole
number for an id, a decimal that a JSON number holds exactly, an aware datetime. Everything else is
left to the field's check, which refuses it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, get_args, get_origin, overload
from uuid import UUID

__all__ = ["Id", "Kept", "Number", "Refused", "Text", "accepted", "exact", "milliseconds", "moment", "plain", "text_of"]

#: What a text takes. Enums stand for their values.
Text = str | Enum
#: What an id takes; it is kept as text.
Id = str | int | UUID | Enum
#: What a number takes.
Number = float | Decimal

_Accepted = TypeVar("_Accepted", contravariant=True)
_Kept = TypeVar("_Kept", covariant=True)


class Kept(Generic[_Accepted, _Kept]):
    """A field's two types for type checkers: what the constructor takes, what the event has."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, event: None, owner: Any = None) -> Any: ...
        @overload
        def __get__(self, event: object, owner: Any = None) -> _Kept: ...
        def __get__(self, event: object, owner: Any = None) -> Any: ...
        def __set__(self, event: object, value: _Accepted) -> None: ...


def accepted(annotation: Any) -> Any:
    """What a constructor takes by a field's annotation: ``Id`` of ``Kept[Id, str]``."""
    return get_args(annotation)[0] if get_origin(annotation) is Kept else annotation


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
#: Whole numbers with more bits are refused before they are written in decimal, which takes long.
_MAX_BITS: Final = 1024


class Refused(ValueError):
    """A value breaks a rule.

    The text follows the field's name in a sentence. It never holds the value.
    """


def plain(value: Any) -> Any:
    """An enum's member as its value, a UUID as its text; anything else as it is."""
    if isinstance(value, Enum):
        value = value.value
    return str(value) if isinstance(value, UUID) else value


def text_of(value: Any) -> Any:
    """The text of a value that identifies something.

    Returns:
        The digits of a whole number; anything else as :func:`plain` has it.
    """
    if type(value) is str:
        return value
    value = plain(value)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _MAX_BITS:
        return str(int(value))
    return value


def exact(value: Decimal) -> float | int:
    """The number that JSON has for a decimal.

    Raises:
        Refused: It is not finite, or a JSON number would not be exactly it.
    """
    if not value.is_finite() or value.adjusted() > 300:
        raise Refused("must be a finite number")
    number = float(value)
    if Decimal(repr(number)) == value:
        return number
    if value == value.to_integral_value():
        return int(value)
    raise Refused("has more digits than a JSON number keeps exactly: round it to 15")


def milliseconds(value: datetime) -> int:
    """Milliseconds since the epoch.

    Raises:
        Refused: It has no time zone.
    """
    if value.utcoffset() is None:
        raise Refused("must be an aware datetime: a naive one has no time zone and names no moment")
    return (value - _EPOCH) // _MILLISECOND


def moment(check: Callable[[Any], Any], from_ms: Callable[[int], Any]) -> Callable[[Any], Any]:
    """A check that takes an aware datetime as well.

    Args:
        check: The check of the provider's own form.
        from_ms: That form of a moment, in milliseconds since the epoch.
    """
    return lambda value: check(from_ms(milliseconds(value)) if isinstance(value, datetime) else value)
