"""``postback send``: one event from the command line."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import click

from postback._send.event import EVENTS, Event, event_class
from postback.cli.parameters import Name, example
from postback.errors import PostbackError

#: Events whose JSON travels byte for byte.
_VERBATIM: Final = "tgtrack.on_telegram_webhook"


class BadEvent(PostbackError):
    """The words of the command are no event."""


@click.command(
    epilog=example(
        """postback send tgtrack.add_event '{"user_id": "7", "event_type": "sale"}'""",
        "postback send tgtrack.on_telegram_webhook - < update.json",
    )
)
@click.argument("task", type=Name("event", EVENTS))
@click.argument("event", metavar="JSON")
@click.option("--account", metavar="A", help="Default: the provider's only account, or main.")
def send(task: str, event: str, account: str | None) -> int:
    """Put one event into its account's queue and print its id.

    TASK is provider and method, like tgtrack.add_event. JSON is the event with the provider's own
    field names; - reads it from stdin.
    """
    click.echo(_event(task, event, account).apply_async().id)
    return 0


def _event(task: str, text: str, account: str | None) -> Event:
    kind = event_class(task)
    raw: bytes | str = sys.stdin.buffer.read() if text == "-" else text
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
