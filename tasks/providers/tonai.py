"""TON AI: one conversion in a request; only success is documented, by a status and a body.

Source: TON AI, API for Reporting Conversion Events.

================================================  ===========
answer                                            class
================================================  ===========
200 and ``{"status": "success"}``                 delivered
401 403                                           credentials
429                                               quota
5xx                                               retry
any other 4xx                                     rejected
a 200 with another body, any other 2xx or 3xx     ambiguous
================================================  ===========

"You may retry shortly, but avoid excessive retries": see the policy, ``retry_in_place``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from config.accounts import Account
from tasks.outcomes import Outcome, Verdict
from tasks.provider import Provider, by_status, words
from tasks.request import Answer, Asked, HttpRequest

#: Source: TON AI, Request Method.
_PATH: Final = "/api/v2/openapi/exchange/event/report/conversion"

#: Statuses that differ from :func:`~tasks.provider.by_status`: there is nothing to pay for.
_OUTCOMES: Final[Mapping[int, Outcome]] = {402: Outcome.REJECTED}


class TonAI(Provider):
    """TON AI's exchange tasks."""

    name: ClassVar[str] = "tonai"

    def request(self, account: Account, method: str, bodies: Sequence[bytes]) -> HttpRequest:
        """``POST /api/v2/openapi/exchange/event/report/conversion``."""
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "x-api-key": account.credentials["api_key"].reveal(),
        }
        return HttpRequest("POST", account.base_url + _PATH, headers, bodies[0])

    def classify(self, answer: Answer, asked: Asked) -> Verdict:
        """Both the HTTP status and the body must say that it worked."""
        envelope = answer.json()
        if not isinstance(envelope, dict):
            return by_status(answer, outcomes=_OUTCOMES)
        if answer.status == 200 and envelope.get("status") == "success":
            return Verdict(Outcome.DELIVERED, status=200)
        return by_status(answer, words(envelope.get("message")) or words(envelope.get("error")), outcomes=_OUTCOMES)
