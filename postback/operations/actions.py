"""What operators do, as records of the journal (ADR 41): who did it, where, to which dead letters.

The scripts that act add the records in the same step, and set their times.
"""

from __future__ import annotations

import getpass
import json
import socket
import uuid
from collections.abc import Callable
from typing import Any, Final

import redis

from postback.journal.records import MAX_TEXT, about_people, cut
from postback.operations.letters import Letter
from postback.operations.messages import text_of
from postback.wire import keys
from postback.wire.scripts import Script

__all__ = ["event_text", "note", "operator", "record_text"]

#: Header of a message -> the field of an event in a record.
_KEYS: Final = {"postback_key_text": "key", "postback_key": "key_hash"}

_note = Script("postback.operations", "note")


def operator() -> str:
    """Who runs this process: ``ann@ops1``. It never fails."""
    return f"{_answer(getpass.getuser)}@{_answer(socket.gethostname)}"


def _answer(ask: Callable[[], str]) -> str:
    try:
        return ask() or "unknown"
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return "unknown"


def record_text(action: str, place: str, who: str | None, **fields: Any) -> str:
    """A record without its time.

    Args:
        action: ``pause``, ``resume``, ``replay``, ``drop``, ``erase``.
        place: An account's queue or a provider.
        who: Who acts; None: :func:`operator`.
        **fields: Further fields of the record, JSON.
    """
    named = cut(who or operator())
    return json.dumps({"grant": f"action:{uuid.uuid4().hex}", "action": action, "who": named, "queue": place, **fields})


def event_text(letter: Letter, queue: str) -> str:
    """A dead letter as an event of a record, with the people in it.

    Args:
        letter: The letter.
        queue: Where it is put, or where it came from.
    """
    message = letter.message
    enqueued_at = message.headers.get("postback_at")
    event: dict[str, Any] = {
        "id": cut(message.id),
        "task": cut(message.task),
        "queue": queue,
        **about_people(message.task, letter.kwargs.get("event")),
        "enqueued_at": enqueued_at if isinstance(enqueued_at, int) else None,
        "duplicate": letter.possible_duplicate,
    }
    event.update((field, text_of(message.headers.get(header))[:MAX_TEXT]) for header, field in _KEYS.items())
    return json.dumps({name: value for name, value in event.items() if value})


def note(client: redis.Redis, provider: str, text: str) -> None:
    """Add a record of what no script did.

    Raises:
        redis.RedisError: As the client does.
    """
    _note(client, [keys.journal(provider), keys.journal_gap(provider)], [text])
