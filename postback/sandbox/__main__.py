"""``python -m postback.sandbox``."""

from .cli import command

command(prog_name="python -m postback.sandbox")
