"""Makes dead letters: the ruling, and the header ``postback_dead`` that says why an event died."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, Final

from postback._events.payload import MAX_MESSAGE_BYTES
from postback.wire.time import iso
from tasks.envelopes import Envelope
from tasks.outcomes import Verdict
from tasks.rulings import Dead

#: Longest detail kept with a dead letter, in characters.
MAX_DETAIL: Final = 500


def dead(
    envelope: Envelope, queue: str, reason: str, verdict: Verdict, *, sent: bool = False, duplicate: bool = False
) -> Dead:
    """The ruling that makes an event a dead letter.

    Args:
        envelope: The event.
        queue: Its account's queue.
        reason: One of the reasons in docs/guides/delivery.md.
        verdict: The answer, or our own decision; scrubbed of secrets.
        sent: A request was made for it just now; that counts as an attempt.
        duplicate: That request may have been recorded.
    """
    state = envelope.state
    duplicate = duplicate or state.duplicate
    text = letter(
        envelope,
        reason,
        verdict.detail,
        status=verdict.status,
        attempts=state.attempts + int(sent),
        duplicate=duplicate,
    )
    wrapper = wrapped(envelope, text, queue) if _is_no_message(envelope) else None
    return Dead(f"{reason} {verdict.words}".rstrip(), text, duplicate, wrapper)


def letter(
    envelope: Envelope | None,
    reason: str,
    detail: str = "",
    *,
    status: int | None = None,
    attempts: int = 0,
    duplicate: bool = False,
) -> str:
    """The header's JSON text.

    Args:
        envelope: The message, for its enqueue time; None in the scripts' own letters.
        reason: One of the reasons in docs/guides/delivery.md.
        detail: The provider's words, scrubbed of secrets.
        status: HTTP status or error code of the last answer.
        attempts: Requests that were made for it.
        duplicate: An attempt may have been recorded.
    """
    enqueued_ms = envelope.enqueued_ms if envelope else 0
    return json.dumps(
        {
            "reason": reason,
            "status": status,
            "detail": detail[:MAX_DETAIL],
            "attempts": attempts,
            "enqueued_at": iso(enqueued_ms) if enqueued_ms else None,
            "failed_at": iso(time.time() * 1000),
            "possible_duplicate": duplicate,
        }
    )


def _is_no_message(envelope: Envelope) -> bool:
    """Whether the entry must be wrapped, since it is no message.

    A large entry that may be a message is not wrapped: the script writes the reason into it.
    """
    return not envelope.document and (len(envelope.raw) <= MAX_MESSAGE_BYTES or envelope.raw[:1] != b"{")


def wrapped(envelope: Envelope, header: str, queue: str) -> str:
    """A Celery message around an entry that is none: a dead-letter list holds messages only.

    Its body is the original entry. A replay puts back exactly these bytes.
    """
    message: dict[str, Any] = {
        "body": base64.b64encode(envelope.raw).decode(),
        "content-encoding": "binary",
        "content-type": "application/octet-stream",
        "headers": {"postback_dead": json.loads(header), "id": envelope.id, "task": envelope.task},
        "properties": {
            "body_encoding": "base64",
            "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "delivery_tag": "",
        },
    }
    return json.dumps(message)
