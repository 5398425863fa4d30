"""Recognising a person's events, and the answers about the person.

An event or an answer is a person's if one of its fields says so: a field that its event class
declares as personal (``user_id``, ``wallet_address`` …), the people of a Telegram update, and
fields of the same meaning in an opaque payload or a linked event. What cannot be read is a person's
if it contains the id as a word.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from postback._events.people import ids_in
from postback.operations.messages import Message, read_message

__all__ = ["Person"]

#: Shortest id that is looked for in text that is no JSON. A shorter one could be anything.
WORD_CHARS: Final = 6


class Person:
    """Recognises the events of one person."""

    def __init__(self, user: str) -> None:
        self._user = user
        # Most messages are somebody else's. A look at the bytes spares their decoding.
        self._plain = user.encode() if re.fullmatch(r"[\x21-\x7e]+", user) and not set(user) & set('"\\/') else None
        word = rf"(?<![0-9A-Za-z]){re.escape(user)}(?![0-9A-Za-z])"
        self._word = re.compile(word.encode()) if len(user) >= WORD_CHARS else None

    def owns(self, raw: bytes) -> bool:
        """Whether an entry of a queue or a dead-letter list is about this person."""
        return self.owns_message(read_message(raw))

    def owns_message(self, message: Message) -> bool:
        """Whether an entry that was read is about this person."""
        original = message.original
        if original is not None:
            return self.owns(original)
        if not message.document:
            return self._stands_in(message.raw)
        body = message.body()
        if body is None:
            return self._stands_in(message.raw)
        compressed = message.headers.get("compression")
        if self._plain is not None and not compressed and self._plain not in body:
            return False
        parts = message.parts()
        return self._is_in(parts) if parts else self._stands_in(body)

    def owns_result(self, raw: bytes) -> bool:
        """Whether a Celery result is about this person."""
        if self._plain is not None and self._plain not in raw:
            return False
        try:
            return self._is_in(json.loads(raw))
        except (ValueError, RecursionError):
            return self._stands_in(raw)

    def _stands_in(self, text: bytes) -> bool:
        return self._word is not None and self._word.search(text) is not None

    def _is_in(self, value: Any) -> bool:
        return any(person == self._user for person in ids_in(value, containing=self._user))
