"""TonAPI: one look-up in a request, repeated until the trace is final; the event is the result.

Source: TonAPI, Get event. The document does not have the texts of the 404s, nor that bodies say
``error`` or ``Error``; these come from elsewhere.

========================================================  ===================================
answer                                                    class
========================================================  ===================================
200, an event with ``in_progress`` false                  delivered, the event as it came
200, an event with ``in_progress`` true                   pending
404 ``entity not found``                                  pending: it may not be indexed yet
404 ``more than one transaction``                         rejected
any other 404                                             ambiguous
400 413, any other 4xx                                    rejected
401 402 403                                               credentials
429                                                       quota
5xx                                                       retry
a 200 that is no event, any other 2xx or 3xx              ambiguous
========================================================  ===================================

Unknown fields and actions are kept and never read: "It is advised not to build any logic on top of
actions".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from config.accounts import Account
from tasks.outcomes import Outcome, Verdict
from tasks.provider import Provider, by_status, words
from tasks.request import Answer, Asked, HttpRequest

#: Part of a 404's text, in lower case, and its class.
_NOT_FOUND: Final = (
    ("more than one transaction", Outcome.REJECTED),
    ("entity not found", Outcome.PENDING),
)


class TonAPI(Provider):
    """TonAPI's event look-up."""

    name: ClassVar[str] = "tonapi"

    def request(self, account: Account, method: str, bodies: Sequence[bytes]) -> HttpRequest:
        """``GET /v2/events/<64 lower-case hex digits>``. The event's class normalised the id."""
        event: dict[str, str] = json.loads(bodies[0])
        headers = {"Accept": "application/json"}
        # The HTTP client refuses a header value that begins with a space.
        language = event.get("accept_language", "").strip()
        if language:
            headers["Accept-Language"] = language
        token = account.credentials.get("token")
        if token is not None:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        return HttpRequest("GET", f"{account.base_url}/v2/events/{event['event_id']}", headers)

    def classify(self, answer: Answer, asked: Asked) -> Verdict:
        """By HTTP status; a 200 by whether the trace is final, a 404 by its text."""
        body = answer.json()
        if answer.status == 200 and _is_event(body):
            if body["in_progress"]:
                return Verdict(Outcome.PENDING, "its trace is not finished yet", 200)
            return Verdict(Outcome.DELIVERED, status=200, data=body)
        detail = words(body.get("error")) or words(body.get("Error")) if isinstance(body, dict) else ""
        if answer.status == 404:
            text = detail.casefold()
            outcome = next((outcome for part, outcome in _NOT_FOUND if part in text), Outcome.AMBIGUOUS)
            return Verdict(outcome, detail or "unknown answer", 404)
        return by_status(answer, detail)


def _is_event(body: Any) -> bool:
    return (
        isinstance(body, dict) and isinstance(body.get("event_id"), str) and isinstance(body.get("in_progress"), bool)
    )
