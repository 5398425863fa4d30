"""Queue entries as operators read them: Celery messages, dead letters, and what is neither."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any, Final

from postback._events.event import EVENTS
from postback._events.payload import MAX_MESSAGE_BYTES
from postback.wire import keys
from postback.wire.compression import inflate
from postback.wire.state import STATE_HEADER, UNTOUCHED, DeliveryState
from postback.wire.time import moment

__all__ = ["Message", "for_replay", "is_expired", "read_message", "text_of"]

#: Content type of a dead letter that is wrapped around something that was no message.
WRAPPED_TYPE: Final = "application/octet-stream"


@dataclass(slots=True)
class Message:
    """One entry.

    Attributes:
        raw: Its bytes.
        document: The Celery message; empty if it is none.
        headers: Its headers.
    """

    raw: bytes
    document: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The event's id, or nothing."""
        return text_of(self.headers.get("id"))

    @property
    def task(self) -> str:
        """``tgtrack.add_event``, or nothing."""
        return text_of(self.headers.get("task"))

    @property
    def properties(self) -> dict[str, Any]:
        """What kombu adds: priority, encoding, where it was sent to."""
        properties = self.document.get("properties")
        return properties if isinstance(properties, dict) else {}

    @property
    def queue(self) -> str:
        """The queue it was sent to, or nothing."""
        info = self.properties.get("delivery_info")
        return text_of(info.get("routing_key")) if isinstance(info, dict) else ""

    @property
    def original(self) -> bytes | None:
        """The entry inside a dead letter; None if the letter is a message itself."""
        if self.document.get("content-type") != WRAPPED_TYPE or "postback_dead" not in self.headers:
            return None
        return self.body()

    def kwargs(self) -> dict[str, Any]:
        """The task's arguments; empty if they cannot be read."""
        parts = self.parts()
        return parts[1] if len(parts) > 1 and isinstance(parts[1], dict) else {}

    def parts(self) -> list[Any]:
        """``[args, kwargs, embed]``; empty if the body cannot be read."""
        body = self.body()
        if body is None:
            return []
        compression = self.headers.get("compression")
        try:
            if compression:
                body = inflate(body, compression, MAX_MESSAGE_BYTES)
            parts = json.loads(body)
        except (ValueError, RecursionError):
            return []
        return parts if isinstance(parts, list) else []

    def body(self) -> bytes | None:
        """The body's bytes; None if they cannot be read."""
        body = self.document.get("body")
        if not isinstance(body, str):
            return None
        try:
            if self.properties.get("body_encoding") == "base64":
                return base64.b64decode(body, validate=True)
            return body.encode()
        except ValueError:
            return None

    def priority_list(self, queue: str) -> str:
        """The list of ``queue`` that it belongs to.

        ``workers/governor/lua/include/message.lua`` has the same rule.
        """
        priority = self.properties.get("priority")
        number = priority if isinstance(priority, int) and priority >= 0 else 0
        return keys.priority_list(queue, max(step for step in keys.PRIORITY_STEPS if step <= number))


def read_message(raw: bytes) -> Message:
    """Read an entry; never raises."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return Message(raw)
    if not isinstance(document, dict) or not isinstance(document.get("headers"), dict):
        return Message(raw)
    return Message(raw, document, document["headers"])


def is_expired(message: Message, now_ms: float) -> bool:
    """Whether Celery's ``expires`` has passed."""
    expires_s = moment(message.headers.get("expires"))
    return expires_s is not None and expires_s * 1000 <= now_ms


def for_replay(message: Message, now_ms: float, *, possible_duplicate: bool) -> bytes:
    """A dead letter as it goes back into its queue.

    Its attempts start anew. What may have been recorded stays flagged. The time of its first grant
    stays too if the provider takes a time: an event without one of its own goes out with that. An
    ``expires`` that has passed is taken off; with it the event would only be buried again.

    Args:
        message: The dead letter.
        now_ms: Redis' clock.
        possible_duplicate: Whether an attempt may have been recorded.
    """
    if message.original is not None:
        return message.original
    if not message.document:
        return message.raw
    headers = dict(message.headers)
    headers.pop("postback_dead", None)
    before = DeliveryState.parse(headers.pop(STATE_HEADER, None))
    event = EVENTS.get(message.task)
    is_timed = event is None or event.time_field is not None
    state = DeliveryState(first_us=before.first_us if is_timed else 0, duplicate=possible_duplicate or before.duplicate)
    if state != UNTOUCHED:
        headers = {STATE_HEADER: state.text(), **headers}
    if is_expired(message, now_ms):
        headers["expires"] = None
    headers["postback_replayed_at"] = int(now_ms)
    return json.dumps({**message.document, "headers": headers}).encode()


def text_of(value: Any) -> str:
    """The value if it is text, else nothing."""
    return value if isinstance(value, str) else ""
