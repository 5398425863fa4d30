"""Pieces that several commands' parameters share."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from typing import Final

import click

from postback.cli.wording import nearest
from postback.operations.queues import providers

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

DRY_RUN: Final = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
YES: Final = click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")


def can_ask() -> bool:
    """Whether somebody is there to answer a question."""
    return sys.stdin.isatty()


class Name(click.ParamType):  # type: ignore[type-arg]  # Click 8.1 cannot be subscripted
    """One of some names. A mistyped one is answered with the nearest.

    Args:
        kind: What they name: ``provider``.
        names: All of them.
    """

    def __init__(self, kind: str, names: Collection[str]) -> None:
        self.name = kind
        self._names = names

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name itself.

        Raises:
            click.BadParameter: It is none of them.
        """
        if value not in self._names:
            self.fail(f"no such {self.name} {value[:80]!r}; {nearest(value, self._names, f'{self.name}s')}", param, ctx)
        return value

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Which names there are, where none was given."""
        return f"Choose from {', '.join(self._names)}"


#: A provider's name.
PROVIDER: Final = Name("provider", providers())


def target(text: str) -> str:
    """``tgtrack`` or ``tgtrack.main``.

    Raises:
        click.BadParameter: There is no such provider.
    """
    PROVIDER.convert(text.partition(".")[0], None, None)
    return text


def example(*lines: str) -> str:
    """The end of a command's --help."""
    return "\b\nexample:" + "".join(f"\n  {line}" for line in lines)


def age(text: str) -> float:
    """Seconds of ``30d``, ``12h``, ``90m``, ``45s``, ``2w`` or ``1d12h``.

    Raises:
        click.BadParameter: It is no age.
    """
    if re.fullmatch(r"(?:[0-9]{1,9}[smhdw])+", text) is None:
        raise click.BadParameter(f"{text!r} is not an age; write 45s, 90m, 12h, 30d, 2w or 1d12h")
    return float(sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smhdw])", text)))
