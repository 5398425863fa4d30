"""Pieces that several commands' parameters share."""

from __future__ import annotations

import re
from typing import Final

import click

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def example(*lines: str) -> str:
    """The end of a command's --help."""
    return "\b\nexample:" + "".join(f"\n  {line}" for line in lines)


def age(text: str) -> float:
    """Seconds of ``30d``, ``12h``, ``90m``, ``45s``, ``2w`` or ``1d12h``.

    Raises:
        click.BadParameter: It is no age.
    """
    if re.fullmatch(r"(?:[0-9]{1,9}[smhdw])+", text) is None:
        raise click.BadParameter(f"{text!r} is no age; write 45s, 90m, 12h, 30d, 2w or 1d12h")
    return float(sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smhdw])", text)))
