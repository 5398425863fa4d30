"""Whom an event is about: the ids of people in an event, or in an answer.

A field holds a person's id if its event declares it so (``user_id``, ``wallet_address`` …), if it
is one of the people of a Telegram update, or if its name says so in an opaque payload.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any, Final

from postback._events.event import EVENTS

__all__ = ["ids_in", "people_of"]

#: How deep ids are looked for.
MAX_DEPTH: Final = 200
#: Objects whose ``id`` is a person's, as :func:`_comparable` writes them: names of Telegram and of
#: other services.
_PEOPLE: Final = frozenset(
    {
        "from", "user", "users", "chat", "senderchat", "contact", "client", "customer", "subscriber", "person", "forwardfrom",
        "newchatmember", "newchatmembers", "newchatparticipant", "leftchatmember", "leftchatparticipant", "viabot",
    }
)  # fmt: skip


@lru_cache(maxsize=4096)
def _comparable(name: str) -> str:
    """A field's name in lower case without ``_`` and ``-``."""
    return name.replace("_", "").replace("-", "").lower()


@cache
def _id_fields() -> frozenset[str]:
    """Fields that hold a person's id, as :func:`_comparable` writes them.

    Those that events declare, and names that other services use in opaque payloads.
    """
    return frozenset(
        {
            "telegramid", "tguserid", "tgid", "tgchatid", "chatid",
            "clientid", "contactid", "customerid", "subscriberid", "messengeruserid", "peerid", "fromid",
            *(_comparable(name) for event in EVENTS.values() for name in event.person_fields()),
        }
    )  # fmt: skip


@cache
def _declared(task: str) -> dict[str, int]:
    """The provider's names of an event's fields that identify a person, with their order."""
    names = (field.wire for field in EVENTS[task]._fields.values() if field.shown == "personal")
    return {name: place for place, name in enumerate(names)}


def people_of(task: str, wire: Any) -> list[str]:
    """The people of an event, each once: first the one whom it is about.

    Args:
        task: ``tgtrack.add_event``.
        wire: The event's wire form, valid or not.
    """
    declared = _declared(task) if task in EVENTS else None
    if not declared:
        return list(dict.fromkeys(ids_in(wire)))
    if not isinstance(wire, dict):
        return []
    values = [(declared[name], str(wire[name])) for name in wire if name in declared and _is_id(wire[name])]
    if not values:  # TON AI wants its field inside another one
        return list(dict.fromkeys(ids_in(wire)))
    if len(values) == 1:
        return [values[0][1]]
    return list(dict.fromkeys(value for _, value in sorted(values)))


def _is_id(value: Any) -> bool:
    return value.__class__ in (str, int) and value != ""


def ids_in(value: Any, parent: str = "", *, containing: str = "", depth: int = 0) -> Iterator[str]:
    """All ids of people in a JSON value, in their order.

    Args:
        value: An event's wire form, an answer.
        parent: The name of the field that holds it.
        containing: Read an object that is written as text only if it contains this.
        depth: How deep it is in the whole.
    """
    if depth > MAX_DEPTH:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            name = _comparable(key) if len(key) <= 64 else ""
            if _is_id(item) and (name in _id_fields() or (name == "id" and parent in _PEOPLE)):
                yield str(item)
            else:
                yield from ids_in(item, name, containing=containing, depth=depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from ids_in(item, parent, containing=containing, depth=depth + 1)
    elif isinstance(value, str) and value[:1] in ("{", "[") and containing in value:
        # An update that is sent as text, byte for byte.
        try:
            content = json.loads(value)
        except (ValueError, RecursionError):
            return
        yield from ids_in(content, parent, containing=containing, depth=depth + 1)
