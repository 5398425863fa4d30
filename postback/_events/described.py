"""What an event's class says of itself: its fields with type, meaning and bounds.

``help(tgtrack.AddEvent)`` shows it, and the reference is made from it. The meanings stand in
the docstrings, the rest in the declarations.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin

from postback._events.fields import Field

__all__ = ["ACCOUNT", "described", "meanings", "type_text"]

#: What the argument that every event has means.
ACCOUNT: Final = (
    "Name of the account whose credentials and quota carry it. Left out: the provider's only account, or ``main``."
)
#: Width of a composed docstring, in characters.
WIDTH: Final = 88

_SECTION: Final = "\nArgs:\n"
_ENTRY: Final = re.compile(r"^ {4}(\w+): ", re.MULTILINE)
_MODULES: Final = re.compile(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])")


def meanings(docstring: str | None) -> dict[str, str]:
    """The entries of a docstring's section ``Args``, each in one line."""
    parts = _ENTRY.split(inspect.cleandoc(docstring or "").partition(_SECTION)[2])
    return {name: " ".join(text.split()) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def type_text(annotation: Any) -> str:
    """A type as people write it: ``str | int | UUID | None``."""
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(type_text(part) for part in get_args(annotation))
    if annotation is NoneType:
        return "None"
    return _MODULES.sub("", inspect.formatannotation(annotation))


def described(docstring: str | None, fields: Mapping[str, Field], meaning: Mapping[str, str]) -> str:
    """A class's docstring with an entry for each field, inherited ones too.

    Args:
        docstring: The class's own.
        fields: Attribute -> the field.
        meaning: Attribute -> what it means.
    """
    entries = [
        f"{name} ({type_text(field.annotation)}{', required' if field.required else ''}): "
        f"{meaning.get(name, '')} {field.rule[:1].upper()}{field.rule[1:]}."
        for name, field in fields.items()
    ]
    lines = [
        textwrap.fill(entry, WIDTH, initial_indent="    ", subsequent_indent="        ", break_on_hyphens=False)
        for entry in [*entries, f"account (str | None): {ACCOUNT}"]
    ]
    return "\n".join([inspect.cleandoc(docstring or "").partition(_SECTION)[0].rstrip(), _SECTION.rstrip(), *lines])
