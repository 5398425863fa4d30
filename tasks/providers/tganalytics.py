"""Telegram Analytics: one event or an array in a request; five answers share the status 400.

Source: tganalytics.xyz, "POST events", Responses.

==============================================================  ==================================
answer                                                          class
==============================================================  ==================================
201 and an object with a ``message`` that is none of the below  delivered
400 ``Failed to record``                                        retry
400 ``The token is not specified in the headers or …``          credentials
400 ``Token is invalid.``                                       credentials
400 ``Invalid app_name is specified.``                          rejected
400 with any other message (a validation report)                rejected
401 402, 403 ``The domain name does not match.``                credentials
429                                                             quota
5xx                                                             retry
any other 4xx                                                   rejected
203 (a challenge), any other 2xx or 3xx, a 201 with another     ambiguous, :data:`MOST_ATTEMPTS`
body
==============================================================  ==================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from config.accounts import Account
from postback._events.event import EventData
from postback._events.payload import compact
from tasks.outcomes import Outcome, Verdict
from tasks.provider import Provider, array, by_status, words
from tasks.request import Answer, Asked, HttpRequest

#: Attempts of an event whose answers are not understood. Asking again does not end a challenge.
#: Decision: three attempts show that.
MOST_ATTEMPTS: Final = 3

#: Message of a 400 -> its class; compared without case and full stop. Any other 400 refuses the
#: event.
_MESSAGES: Final[Mapping[str, Outcome]] = {
    "failed to record": Outcome.RETRY,
    "the token is not specified in the headers or is specified incorrectly": Outcome.CREDENTIALS,
    "token is invalid": Outcome.CREDENTIALS,
    "invalid app_name is specified": Outcome.REJECTED,
}


class TGAnalytics(Provider):
    """The Mini App analytics service."""

    name: ClassVar[str] = "tganalytics"

    def extra_bytes_for(self, account: Account) -> int:
        """``,"app_name":"<the account's>"``."""
        return len(compact({"app_name": account.credentials["app_name"].reveal()})) - len("{}") + len(",")

    def encode(self, account: Account, event: EventData) -> bytes:
        """The event under the account's application name.

        A name of the producer's is sent as it is. If it does not fit the token, the provider
        answers ``Invalid app_name``, which concerns no other event of the account.
        """
        wire = event.wire()
        if isinstance(wire, dict) and "app_name" not in wire:
            wire["app_name"] = account.credentials["app_name"].reveal()
        return compact(wire)

    def request(self, account: Account, method: str, bodies: Sequence[bytes]) -> HttpRequest:
        """``POST /events``: an object for one event, an array for more."""
        headers = {"TGA-Auth-Token": account.credentials["token"].reveal(), "Content-Type": "application/json"}
        body = bodies[0] if len(bodies) == 1 else array(bodies)
        return HttpRequest("POST", f"{account.base_url}/events", headers, body)

    def classify(self, answer: Answer, asked: Asked) -> Verdict:
        """By HTTP status, a 400 by its message."""
        envelope = answer.json()
        message = envelope.get("message") if isinstance(envelope, dict) else None
        outcome = _MESSAGES.get(message.strip().rstrip(".").casefold()) if isinstance(message, str) else None
        if answer.status == 201 and isinstance(message, str) and outcome is None:
            return Verdict(Outcome.DELIVERED, status=201)
        if answer.status == 400 and outcome is not None:
            return Verdict(outcome, words(message), 400)
        # A validation report may be an object or an array.
        report = message if message is None or isinstance(message, str) else json.dumps(message, ensure_ascii=False)
        return by_status(answer, words(report), most_attempts=MOST_ATTEMPTS)
