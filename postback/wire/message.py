"""A queue entry: a Celery message (protocol 2) as kombu writes it, but without empty values.

See ADR 30.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any, Final

from kombu.utils.json import JSONEncoder

from postback.wire import keys

__all__ = ["entry", "list_of"]

#: Values of Celery's headers that mean the same as their absence.
_EMPTY: Final[tuple[Any, ...]] = (None, {}, [None, None], (None, None))

_encode = JSONEncoder(check_circular=False).encode


def entry(headers: Mapping[str, Any], properties: Mapping[str, Any], body: Any, queue: str, priority: int) -> bytes:
    """The bytes that are pushed to a queue's list.

    Args:
        headers: The headers of a message from Celery's factory.
        properties: Its properties.
        body: ``(args, kwargs, embed)``.
        queue: ``tgtrack.main``.
        priority: 0 … 9.

    Raises:
        TypeError, ValueError, RecursionError: Something in it is not JSON.
    """
    args, kwargs, embed = body
    links = {name: value for name, value in embed.items() if value is not None}
    message = {
        # Their order matters: workers search the text behind the body.
        "body": base64.b64encode(_encode((args, kwargs, links)).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {name: value for name, value in headers.items() if value not in _EMPTY},
        "properties": {
            **properties,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": priority,
            "body_encoding": "base64",
            "delivery_tag": os.urandom(16).hex(),
        },
    }
    return _encode(message).encode()


def list_of(queue: str, priority: int) -> str:
    """The list of a queue that holds this priority's messages."""
    return keys.priority_list(queue, max(step for step in keys.PRIORITY_STEPS if step <= priority))
