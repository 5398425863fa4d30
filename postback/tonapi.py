"""Event look-ups at TonAPI. Source: TonAPI, ``GET /v2/events/{event_id}``."""

from __future__ import annotations

import base64
import binascii
import re
from typing import ClassVar

from postback._events.fields import text
from postback._events.values import Kept, Refused, Text
from postback._send.event import Event

__all__ = ["GetEvent"]

_HEX = re.compile("[0-9a-fA-F]{64}")
_BASE64URL = re.compile("[A-Za-z0-9_-]{43}=?")


def _as_hex(event_id: str) -> str:
    """64 lower-case hex digits from hex or base64url of 32 bytes."""
    if _HEX.fullmatch(event_id):
        return event_id.lower()
    if _BASE64URL.fullmatch(event_id):
        try:
            raw = base64.urlsafe_b64decode(event_id[:43] + "=")
        except binascii.Error:  # pragma: no cover - the pattern admits only decodable text
            raise Refused("must be hex or base64url of 32 bytes") from None
        # The last character has four unused bits. If they are set, the id was cut or mistyped.
        if base64.urlsafe_b64encode(raw).decode()[:43] == event_id[:43]:
            return raw.hex()
    raise Refused("must be hex (without 0x) or base64url of 32 bytes")


class GetEvent(Event, method="get_event", provider="tonapi", reads=True):
    """Asks for a TON event. ``.get()`` returns it as a dict once its trace is final.

    Args:
        event_id: The event's id, or the hash of any transaction of its trace, in hex or base64url.
            It is kept as 64 lower-case hex digits.
        accept_language: The ``Accept-Language`` header: the language of previews,
            ``ru-RU,ru;q=0.5``.
    """

    event_id: Kept[Text, str] = text(
        max_chars=64, clean=_as_hex, rule="hex (without 0x) or base64url of 32 bytes", shown="plain"
    )
    accept_language: Kept[Text | None, str | None] = text(
        max_chars=100, default=None, pattern=r"[A-Za-z0-9*,;=. -]+", rule="an Accept-Language header's value"
    )

    time_field: ClassVar[str | None] = None
