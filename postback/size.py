"""How long a message becomes, measured before anything is sent.

A worker buries a queue entry of more than :data:`~postback.payload.MAX_MESSAGE_BYTES`, so a producer must not send one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kombu.exceptions import EncodeError
from kombu.serialization import dumps

from postback.errors import MessageTooLarge
from postback.payload import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from postback.events import Event
    from postback.options import Options

__all__ = ["check_size", "may_be_too_large"]

#: Most bytes of a queue entry for one byte of its event: two bytes of UTF-8 become six of JSON,
#: three of those four of base64.
GROWTH: Final = 4
#: Bytes of a queue entry beside its event when there are no options that count: ids, times, a
#: summary of at most 8 short texts.
PLAIN_BYTES: Final = 8192
#: Bytes beside body, headers and properties: kombu's own frame, and the state that deliveries and a
#: replay add.
RESERVED_BYTES: Final = 2048
#: Bytes that a message may grow by if it is made now and sent later: its account, key, times and
#: host are not known yet.
LATER_BYTES: Final = 1024


def may_be_too_large(event: Event, options: Options) -> bool:
    """Whether the message must be measured; most are too short for that. O(1) once the event is encoded."""
    unbounded = options.headers or options.link or options.link_error or options.passed
    return bool(unbounded) or GROWTH * event.size() + PLAIN_BYTES > MAX_MESSAGE_BYTES


def check_size(event: Event, message: Any, *, later: bool = False) -> None:
    """Refuse a message that a worker would refuse.

    Args:
        event: For the error's title.
        message: What Celery's message factory made of it.
        later: Another one of this event will be sent, perhaps by another process.

    Raises:
        MessageTooLarge: It would have more than :data:`~postback.payload.MAX_MESSAGE_BYTES`.
        TypeError: It cannot be written as JSON.
    """
    try:
        # As kombu writes them, so that the sum is exact up to the reserve.
        body, headers, properties = (
            len(dumps(part, serializer="json")[2]) for part in (message.body, message.headers, message.properties)
        )
    except EncodeError as unencodable:
        raise TypeError(f"{event.title()}: headers, link and the other options must be JSON") from unencodable
    size = 4 * -(-body // 3) + headers + properties + RESERVED_BYTES + LATER_BYTES * later
    if size > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(event.title(), size, MAX_MESSAGE_BYTES)
