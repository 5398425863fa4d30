"""Pieces that several commands' arguments share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any, Final

from postback.operations.queues import providers

#: argparse's name for what ``add_subparsers`` returns is private.
Commands = Any

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def command(commands: Commands, name: str, told: str, example: str, run: Callable[..., int]) -> argparse.ArgumentParser:
    """Add a command whose --help ends with an example."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=told[0].lower() + told[1:].rstrip("."),
        description=told,
        epilog="example:\n  " + example.replace("\n", "\n  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def age(text: str) -> float:
    """Seconds of ``30d``, ``12h``, ``90m``, ``45s``, ``2w`` or ``1d12h``.

    Raises:
        argparse.ArgumentTypeError: It is no age.
    """
    if re.fullmatch(r"(?:[0-9]{1,9}[smhdw])+", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; write 45s, 90m, 12h, 30d, 2w or 1d12h")
    return float(sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smhdw])", text)))


def whole(text: str) -> int:
    """A whole number from 1.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if re.fullmatch(r"[0-9]{1,9}", text) is None or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def add_provider(parser: argparse.ArgumentParser) -> None:
    """The positional PROVIDER."""
    parser.add_argument("provider", metavar="PROVIDER", choices=providers(), help=", ".join(providers()))
