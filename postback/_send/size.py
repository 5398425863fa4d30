"""How long a message becomes, measured before anything is sent.

A worker buries a queue entry of more than :data:`~postback._events.payload.MAX_MESSAGE_BYTES`, so a producer must not send one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from postback._events.payload import MAX_MESSAGE_BYTES
from postback.errors import MessageTooLarge

if TYPE_CHECKING:
    from postback._events.event import EventData
    from postback._send.options import Options

__all__ = ["LATER_BYTES", "check_size", "may_be_too_large"]

#: Most bytes of a queue entry for one byte of its event: two bytes of UTF-8 become six of JSON,
#: three of those four of base64.
GROWTH: Final = 4
#: Bytes of a queue entry beside its event when there are no options that count: ids, times, a
#: summary of at most 8 short texts.
PLAIN_BYTES: Final = 8192
#: Bytes that deliveries and a replay may add: their state.
RESERVED_BYTES: Final = 1024
#: Bytes that a message may grow by if it is made now and sent later: its account, key, times and
#: host are not known yet.
LATER_BYTES: Final = 1024


def may_be_too_large(event: EventData, options: Options) -> bool:
    """Whether the message must be measured; most are too short for that. O(1) once the event is encoded."""
    unbounded = options.headers or options.link or options.link_error or options.passed
    return bool(unbounded) or GROWTH * event.size() + PLAIN_BYTES > MAX_MESSAGE_BYTES


def check_size(event: EventData, size: int) -> None:
    """Refuse a message that a worker would refuse.

    Args:
        event: For the error's title.
        size: Bytes of its queue entry.

    Raises:
        MessageTooLarge: With its reserve it is longer than :data:`~postback._events.payload.MAX_MESSAGE_BYTES`.
    """
    if size + RESERVED_BYTES > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(event.title(), size + RESERVED_BYTES, MAX_MESSAGE_BYTES)
