"""Errors, and signs for a terminal that knows ASCII alone. No command needs Rich for these."""

from __future__ import annotations

import codecs
import io
import re
from typing import Final, TextIO

import click

#: Our signs -> what stands for them where the encoding has none; one character each, so that
#: columns stay.
_SIGNS: Final = dict(zip("✓✗●‖…·×", "+!*=~-x", strict=True))


def clean(text: str) -> str:
    """A foreign text in one line, without the control characters that steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def say_error(text: str) -> None:
    """One sentence on stderr."""
    click.echo(f"postback: {clean(text)}", err=True)


def usage_sentence(error: click.UsageError) -> str:
    """What was wrong with the words of a command, in one sentence that says where to read more."""
    # Click writes two sentences, and lists of choices in lines of their own.
    text = " ".join(error.format_message().split()).rstrip(".")
    text = re.sub(r"\.? (\(?)(Did|Choose)", lambda start: f"; {start[1]}{start[2].lower()}", text)
    command = error.ctx.command_path if error.ctx else "postback"
    return f"{text[:1].lower()}{text[1:]}; see `{command} --help`"


def in_ascii(stream: TextIO) -> None:
    """Let a stream write something readable for each character that its encoding does not have."""
    codecs.register_error("postback-signs", _readable)
    if isinstance(stream, io.TextIOWrapper) and not (stream.encoding or "").lower().startswith("utf"):
        stream.reconfigure(errors="postback-signs")


def _readable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_SIGNS.get(char, "?") for char in error.object[error.start : error.end]), error.end
