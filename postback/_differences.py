"""What differs between events, in words for whoever reads a failed test.

The lines hold whole values, a person's too: without them two events look the same. They are for the
output of a developer's own tests, and for nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from difflib import SequenceMatcher
from typing import Any, Final

from postback._events.event import EventData
from postback._events.fields import UNSET

__all__ = ["Sides", "in_list", "in_lists", "in_sets", "in_values"]

#: What the left and the right side are called: ``("sent", "expected")``.
Sides = tuple[str, str]

#: How far apart two events may be to be compared, in events, and how many comparisons there are at
#: most: a list of thousands must not take minutes.
REACH: Final = 50
MOST_COMPARED: Final = 20_000
#: Longest texts that are shown from their beginning, in characters. Of longer ones the equal part
#: is left out, except for its last characters.
LONG_CHARS: Final = 80
CONTEXT_CHARS: Final = 20


class _Word:
    """Stands for a value that is none."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


_NOTHING: Final = _Word("nothing")
_NO_TIME: Final = _Word("None (a send fills it in)")


def in_lists(left: Sequence[Any], right: Sequence[Any], sides: Sides) -> list[str]:
    """Lines about two lists of events: first their lengths, then each difference."""
    pairs = _pairs(left, right)
    matched = set(pairs.values())
    lines = [f"{_count(left, sides[0])} == {_count(right, sides[1])}"]
    for index in range(max(len(left), len(right))):
        if index in pairs:
            other = pairs[index]
            place = f"[{index}]" if index == other else f"[{index}] ({sides[1]}: [{other}])"
            lines += in_values(left[index], right[other], sides, f"{place} {_name(left[index])}")
        elif index < len(left):
            lines.append(f"[{index}] {sides[0]}, not {sides[1]}: {_whole(left[index])}")
        if index < len(right) and index not in matched:
            lines.append(f"[{index}] {sides[1]}, not {sides[0]}: {_whole(right[index])}")
    for index, other in _moved(pairs):
        lines.append(f"another order: {sides[0]} [{index}], {sides[1]} [{other}]: {_whole(left[index])}")
    return lines


def in_sets(left: Set[Any], right: Set[Any], sides: Sides) -> list[str]:
    """Lines about two sets of events: first their sizes, then what only one of them has."""
    return [
        f"{_count(left, sides[0])} == {_count(right, sides[1])}",
        *(f"{sides[0]}, not {sides[1]}: {_whole(event)}" for event in left - right),
        *(f"{sides[1]}, not {sides[0]}: {_whole(event)}" for event in right - left),
    ]


def in_values(left: object, right: object, sides: Sides, place: str = "") -> list[str]:
    """A line for each field in which two events differ: ``amount: sent 1.0, expected 2.0``.

    Args:
        left: An event, or anything else.
        right: What it was compared with.
        sides: What the two are called.
        place: Where they are.
    """
    lines = []
    for path, one, other in _differing(left, right):
        if isinstance(one, str) and isinstance(other, str) and min(len(one), len(other)) > LONG_CHARS:
            start = max(_equal_chars(one, other) - CONTEXT_CHARS, 0)
            path, one, other = f"{path}[{start}:]", one[start:], other[start:]
        where = f"{place}{path}".lstrip(".")
        lines.append(f"{f'{where}: ' if where else ''}{sides[0]} {_whole(one)}, {sides[1]} {_whole(other)}")
    return lines


def in_list(event: object, events: Sequence[Any], sides: Sides) -> list[str]:
    """Lines about an event that is not in a list: how the nearest one of its kind differs.

    Without one of its kind, each event of the list has a line.
    """
    lines = [f"{_name(event)} in {_count(events, sides[1])}"]
    alike = [index for index, other in enumerate(events) if type(other) is type(event)]
    if not alike:
        return lines + [f"[{index}] {sides[1]}: {_whole(other)}" for index, other in enumerate(events)]
    nearest = min(alike, key=lambda index: _distance(event, events[index]))
    place = f"[{nearest}] {_name(event)}"
    return lines + in_values(events[nearest], event, (sides[1], sides[0]), place)


def _pairs(left: Sequence[Any], right: Sequence[Any]) -> dict[int, int]:
    """Which event of the right list belongs to which of the left: an equal one, else a like one."""
    pairs = {index: index for index, (one, other) in enumerate(zip(left, right, strict=False)) if one == other}
    rest = [index for index in range(len(left)) if index not in pairs]
    others = [index for index in range(len(right)) if index not in pairs]
    reach = min(REACH, MOST_COMPARED // (2 * len(rest) + 1))
    alike = sorted(
        (_distance(left[index], right[other]), abs(index - other), index, other)
        for position, index in enumerate(rest)
        for other in others[max(position - reach, 0) : position + reach + 1]
        if type(left[index]) is type(right[other])
    )
    taken: set[int] = set()
    for _, _, index, other in alike:
        if index not in pairs and other not in taken:
            pairs[index] = other
            taken.add(other)
    return pairs


def _moved(pairs: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """The fewest pairs that must move for both lists to have one order."""
    indexes = sorted(pairs)
    order = [pairs[index] for index in indexes]
    blocks = SequenceMatcher(None, order, sorted(order), autojunk=False).get_matching_blocks()
    stays = {position for block in blocks for position in range(block.a, block.a + block.size)}
    return ((index, order[position]) for position, index in enumerate(indexes) if position not in stays)


def _distance(left: object, right: object) -> int:
    return sum(1 for _ in _differing(left, right))


def _differing(left: object, right: object, path: str = "") -> Iterator[tuple[str, object, object]]:
    """Each place at which two values differ, with both of them."""
    if left == right:
        return
    (kind, parts), (other_kind, others) = _parts(left), _parts(right)
    if kind is None or kind != other_kind:
        yield path, left, right
        return
    for name in {**parts, **others}:
        yield from _differing(parts.get(name, _NOTHING), others.get(name, _NOTHING), f"{path}{name}")


def _parts(value: object) -> tuple[object, dict[str, object]]:
    """A value's parts by their paths, and its kind: parts of one kind can be compared.

    The kind is None if it has no parts.
    """
    if isinstance(value, Mapping):
        return Mapping, {f"[{name!r}]": part for name, part in value.items()}
    if isinstance(value, list):
        return (list, len(value)), {f"[{index}]": part for index, part in enumerate(value)}
    if isinstance(value, EventData):
        parts = {f".{name}": _NOTHING if part is UNSET else part for name, part in vars(value).items()}
        if value.time_field is not None and getattr(value, value.time_field) is None:
            parts[f".{value.time_field}"] = _NO_TIME
        return type(value), parts
    if is_dataclass(value):
        return type(value), {f".{field.name}": getattr(value, field.name) for field in fields(value)}
    return None, {}


def _whole(value: object) -> str:
    """The ``repr`` of a value, of an event with everything that it holds."""
    if not isinstance(value, EventData) and not is_dataclass(value):
        return repr(value)
    parts = [
        f"{path[1:]}={_whole(part)}"
        for path, part in _parts(value)[1].items()
        if part is not None and part is not _NOTHING and part is not _NO_TIME
    ]
    return f"{_name(value)}({', '.join(parts)})"


def _equal_chars(left: str, right: str) -> int:
    """How many characters two texts have in common at their beginning."""
    shorter = min(len(left), len(right))
    return next((index for index in range(shorter) if left[index] != right[index]), shorter)


def _name(value: object) -> str:
    return value.title() if isinstance(value, EventData) else type(value).__name__


def _count(events: Collection[Any], side: str) -> str:
    return f"{len(events)} event{'' if len(events) == 1 else 's'} ({side})"
