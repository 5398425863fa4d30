"""Groups of commands. They import what is asked for, and name the nearest command if it is none."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from postback.cli.wording import nearest


class Commands(click.Group):
    """A group of commands.

    Args:
        places: Commands to import when they are asked for -> module and name there; so `send` does
            not load the sandbox.
    """

    def __init__(self, *args: Any, places: Mapping[str, tuple[str, str]] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._places = places or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of the help."""
        return [*self._places, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them; None if there is no such command."""
        if cmd_name not in self._places:
            return super().get_command(ctx, cmd_name)
        module, name = self._places[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the words name.

        Raises:
            click.UsageError: There is none; the sentence names the nearest.
        """
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            ctx.fail(f"no such command {args[0][:80]!r}; {nearest(args[0], names, 'commands')}")
        return super().resolve_command(ctx, args)
