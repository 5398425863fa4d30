"""``flask postback send|status|dead``: ``postback`` with the app's broker and accounts."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click
from flask import current_app
from flask.cli import with_appcontext

from postback.wire.broker import VARIABLE

__all__ = ["postback_group"]

#: The commands that make sense inside an app -> their help.
_COMMANDS: Final = {
    "send": "Put one event into its account's queue.",
    "status": "Show the queues, pauses and quotas of all accounts.",
    "dead": "List, replay or drop dead letters.",
}

postback_group = click.Group("postback", help="Events for TGTrack, myTracker, Telegram Analytics, TON AI and TonAPI.")


def _run(name: str, arguments: tuple[str, ...]) -> None:
    """Hand over to ``postback NAME …`` with the app's broker.

    Its accounts are known to the producer.
    """
    sys.exit(import_module("postback.cli").main([name, *arguments], _environ(current_app.config.get(VARIABLE))))


def _environ(broker_url: str | None) -> Mapping[str, str]:
    """The environment of the command: as for the producer, the app's URL wins over variables."""
    if broker_url is None:
        return os.environ
    others = {name: value for name, value in os.environ.items() if not name.endswith("_BROKER_URL")}
    return {**others, VARIABLE: broker_url}


def _add(name: str, help_text: str) -> None:
    # Options and --help are left to the other command.
    passing: dict[str, Any] = {"ignore_unknown_options": True, "help_option_names": []}

    @postback_group.command(name, help=help_text, context_settings=passing)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    @with_appcontext
    def command(arguments: tuple[str, ...]) -> None:
        _run(name, arguments)


for _name, _help in _COMMANDS.items():
    _add(_name, _help)
