"""``flask postback send|status|dead``: the ``postback`` command with the app's broker and accounts."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click
from flask import current_app
from flask.cli import with_appcontext

__all__ = ["postback_group"]

#: What of the ``postback`` command makes sense inside an app.
_COMMANDS: Final = {
    "send": "Put one event into its account's queue.",
    "status": "Show the queues, pauses and quotas of all accounts.",
    "dead": "List, replay or drop dead letters.",
}

postback_group = click.Group("postback", help="Events for TGTrack, myTracker, Telegram Analytics, TON AI and TonAPI.")


def _run(name: str, arguments: tuple[str, ...]) -> None:
    """Hand over to ``postback NAME …``, which reads its settings from the environment."""
    for key in ("POSTBACK_BROKER_URL", "POSTBACK_ACCOUNTS", "POSTBACK_SEND_TIMEOUT_S"):
        value: Any = current_app.config.get(key)
        # Names in a dict have no place in a variable; the producer, configured already, knows them.
        if value is not None and not isinstance(value, Mapping):
            os.environ[key] = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    sys.exit(import_module("postback.cli").main([name, *arguments]))


def _add(name: str, help_text: str) -> None:
    # Options and --help are the other command's to read.
    passing: dict[str, Any] = {"ignore_unknown_options": True, "help_option_names": []}

    @postback_group.command(name, help=help_text, context_settings=passing)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    @with_appcontext
    def command(arguments: tuple[str, ...]) -> None:
        _run(name, arguments)


for _name, _help in _COMMANDS.items():
    _add(_name, _help)
