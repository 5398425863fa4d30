"""Beacon: one visit a request.

Source: Beacon, "Reporting visits" and "Answers".

==================================  ===========
answer                              class
==================================  ===========
202 and ``{"accepted": 1}``         delivered
401 402 403                         credentials
429                                 quota
5xx                                 retry
any other 4xx                       rejected
any other 2xx or 3xx                ambiguous
==================================  ===========
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from config.providers.beacon import REGION

from config.accounts import Account
from tasks.outcomes import Outcome, Verdict
from tasks.provider import Provider, by_status, words
from tasks.request import Answer, Asked, HttpRequest


class Beacon(Provider):
    """Beacon's visits."""

    name: ClassVar[str] = "beacon"

    def request(self, account: Account, method: str, bodies: Sequence[bytes]) -> HttpRequest:
        """``POST /<region>/visits``."""
        headers = {"Content-Type": "application/json", "X-Beacon-Key": account.credentials["key"].reveal()}
        return HttpRequest("POST", f"{account.base_url}/{account.own(REGION)}/visits", headers, bodies[0])

    def classify(self, answer: Answer, asked: Asked) -> Verdict:
        """A success takes both its status and its body; all else goes by the status."""
        body = answer.json()
        if not isinstance(body, dict):
            return by_status(answer)
        if answer.status == 202 and body.get("accepted") == 1:
            return Verdict(Outcome.DELIVERED, status=202)
        return by_status(answer, words(body.get("reason")))
