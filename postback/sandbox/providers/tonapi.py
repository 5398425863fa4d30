"""TonAPI's event look-up: scripted answers per event, final by default.

Source: tonapi-get-event for the event; limits and the two spellings ``error`` and ``Error`` of
error bodies are *ext*.
"""

from __future__ import annotations

import base64
import binascii
import random
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from ..access import Access
from ..exchange import Accepted, Answer, Call, Refused, Request, json_answer
from ..provider import Provider

#: a status, ``"in_progress"``, ``"final"``, ``"not_found"``, ``"ambiguous"`` (404: more than one
#: transaction), or a whole event
Step = int | str | dict[str, Any]

_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
_NAMED: Final = {"not_found": (404, "entity not found"), "ambiguous": (404, "more than one transaction")}
_TEXTS: Final = {
    400: "bad request",
    401: "unauthorized",
    403: "forbidden",
    404: "entity not found",
    413: "request entity too large",
    429: "rate limit: too many requests",
    500: "internal error",
    503: "service unavailable",
}
#: the gateway before the API writes ``Error``, the API itself ``error``
_GATEWAY: Final = frozenset((401, 403, 429, 502, 503))
_ACCOUNT: Final = {
    "address": "0:10C1073837B93FDAAD594284CE8B8EFF7B9CF25427440EB2FC682762E1471365",
    "is_scam": False,
    "is_wallet": True,
    "name": "Ton foundation",
    "icon": "https://ton.org/logo.png",
}


def normalise(event_id: str) -> str | None:
    """64 lower-case hex digits of an id given in hex or base64url, None if it is neither."""
    if _HEX.fullmatch(event_id):
        return event_id.lower()
    if re.fullmatch(r"[A-Za-z0-9_-]{43}=?", event_id):
        try:
            return base64.urlsafe_b64decode(event_id.rstrip("=") + "=").hex()
        except binascii.Error:
            return None
    return None


class TonAPI(Provider):
    """TonAPI."""

    name: ClassVar[str] = "tonapi"
    controls: ClassVar[Mapping[str, str]] = {"tonapi": "tonapi_script"}

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._lock = threading.Lock()
        self._scripts: dict[str, list[Step]] = {}

    def limits(self, call: Call) -> str:
        """One request per 4 s without a token, the smallest plan's 1/s with one (*ext*)."""
        return "1/second" if call.credential else "1 per 4 seconds"

    def tonapi_script(self, event_id: str, answers: Sequence[Step]) -> None:
        """Set the answers for an event, one a request, the last repeated.

        An answer is an HTTP status, ``"in_progress"``, ``"final"``, ``"not_found"``,
        ``"ambiguous"`` (404: more than one transaction) or a whole event: ``[404, 404,
        "in_progress", "final"]``.

        Raises:
            ValueError: not an event id, or a step that is none.
        """
        normal = normalise(event_id) if isinstance(event_id, str) else None
        if normal is None:
            raise ValueError("event_id is 32 bytes in hex or base64url")
        if not isinstance(answers, (list, tuple)):
            raise ValueError("answers must be an array")
        for step in answers:
            known = (
                step in ("in_progress", "final", *_NAMED)
                if isinstance(step, str)
                else isinstance(step, dict) or type(step) is int
            )
            if not known:
                raise ValueError(f"step {step!r} is no HTTP status, in_progress, final, not_found, ambiguous or event")
        with self._lock:
            self._scripts[normal] = list(answers) or ["final"]

    def route(self, request: Request) -> Call | None:
        """``/v2/events/<event_id>``."""
        segments = request.segments
        if len(segments) != 3 or segments[:2] != ["v2", "events"]:
            return None
        authorization = request.headers.get("authorization", "")
        token = authorization[7:].strip() if authorization[:7].lower() == "bearer " else authorization or None
        return Call(self.name, "get_event", f"/v2/events/{segments[2][:100]}", token, target=segments[2])

    def authorise(self, call: Call, access: Access) -> None:
        """A token is optional; one that is sent must be good."""
        if call.credential is not None:
            super().authorise(call, access)

    def accept(self, call: Call, request: Request, access: Access) -> Accepted:
        """Play the event's next answer."""
        if request.http_method != "GET":
            raise Refused(self.error(405, call), "events are read by GET")
        event_id = normalise(call.target)
        if event_id is None:
            raise Refused(
                self.error(400, call, "can't decode event_id"), "event_id is neither hex nor base64url of 32 bytes"
            )
        step = self._next(event_id)
        if isinstance(step, str) and step in _NAMED:
            status, text = _NAMED[step]
            raise Refused(self.error(status, call, text), text)
        if isinstance(step, int):
            raise Refused(self.error(step, call), f"scripted {step}")
        event = step if isinstance(step, dict) else _event(event_id, final=step == "final")
        return Accepted(
            json_answer(200, event),
            [{"event_id": event_id}],
            records=False,
            note="" if step == "final" else "not final",
        )

    def error(self, code: int, call: Call, detail: str = "") -> Answer:
        """``{"error": …}``, or ``{"Error": …}`` where the gateway speaks."""
        name = "Error" if code in _GATEWAY else "error"
        return json_answer(code, {name: detail or _TEXTS.get(code, "error")})

    def clear(self) -> None:
        """Forget all scripts."""
        with self._lock:
            self._scripts.clear()

    def _next(self, event_id: str) -> Step:
        with self._lock:
            steps = self._scripts.get(event_id)
            if not steps:
                return "final"
            return steps.pop(0) if len(steps) > 1 else steps[0]


def _event(event_id: str, *, final: bool) -> dict[str, Any]:
    """An event as the document shows it."""
    return {
        "event_id": event_id,
        "timestamp": 1234567890,
        "actions": [
            {
                "type": "TonTransfer",
                "status": "ok",
                "simple_preview": {
                    "name": "Ton Transfer",
                    "description": "Transferring 5 Ton",
                    "accounts": [_ACCOUNT],
                    "value": "5 Ton",
                },
                "base_transactions": [event_id],
            }
        ],
        "value_flow": [{"account": _ACCOUNT, "ton": 80, "fees": 10}],
        "is_scam": False,
        "lt": 25713146000001,
        "in_progress": not final,
        "progress": 1 if final else 0.5,
        "last_slice_id": 12345678 if final else None,
        "ext_msg_hash": event_id,
    }
