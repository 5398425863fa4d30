"""``postback send``: one event from the command line."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from typing import Any, Final

from postback._send.event import EVENTS, Event, event_class
from postback.cli.arguments import Commands, command
from postback.cli.terminal import Console
from postback.errors import PostbackError

#: Events whose JSON travels byte for byte.
_VERBATIM: Final = "tgtrack.on_telegram_webhook"


class BadEvent(PostbackError):
    """What was given is no event."""


def add(commands: Commands, given: list[str]) -> None:
    """Declare the command."""
    parser = command(
        commands,
        "send",
        "Validate one event and put it into its account's queue; prints its id.",
        """postback send tgtrack.add_event '{"user_id": "987654321", "event_type": "sale", "amount": 1500}'
postback send tgtrack.on_telegram_webhook - < update.json""",
        run,
    )
    parser.add_argument("task", metavar="TASK", help="provider and method, like tgtrack.add_event")
    parser.add_argument(
        "json", metavar="JSON", help="the event with the provider's own field names; - reads it from stdin"
    )
    parser.add_argument("--account", metavar="A", help="default: the provider's only account, or main")


def run(args: argparse.Namespace, console: Console) -> int:
    """Send it.

    Raises:
        PostbackError: The event is wrong, or could not be enqueued.
    """
    event = _event(args.task, args.json, args.account)
    console.line(str(event.apply_async().id))
    return 0


def _event(task: str, given: str, account: str | None) -> Event:
    try:
        kind = event_class(task)
    except KeyError:
        close = difflib.get_close_matches(task, EVENTS, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; events are {', '.join(EVENTS)}"
        raise BadEvent(f"{task[:80]!r} is no event{hint}") from None
    raw: bytes | str = sys.stdin.buffer.read() if given == "-" else given
    if task == _VERBATIM:
        return kind.load(raw.strip() if isinstance(raw, str) else raw, account=account)
    try:
        data: Any = json.loads(raw)
    except UnicodeDecodeError:
        raise BadEvent(f"{task}: the event is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadEvent(f"{task}: the event is not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise BadEvent(f"{task}: the event is nested too deep") from None
    return kind.load(data, account=account)
