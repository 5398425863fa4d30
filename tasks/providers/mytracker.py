"""myTracker: one to twenty events of one method in a request; a batch passes whole or not at all.

Source: myTracker, Import events, "Methods" and "Status codes".

=====================================================  ==========================================
answer                                                 class
=====================================================  ==========================================
200 and an object with ``message``, without ``error``  delivered
400 ``Bad Request``, of a batch: at least one event    rejected
400 ``Empty post data``, ``Bad json``,                 rejected
400 ``Bad api version``, any other 400
401 403                                                credentials
404 ``Method not found``                               rejected
429 (not in the document)                              quota
500, any other 5xx                                     retry
any other 4xx                                          rejected
any other 2xx or 3xx, a 200 with another body          ambiguous
=====================================================  ==========================================

The success text is ``ОK`` with a Cyrillic О. Its presence counts; the text is never compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from config.accounts import Account
from tasks.outcomes import Outcome, Verdict
from tasks.provider import Provider, array, by_status, words
from tasks.request import Answer, Asked, HttpRequest

#: Our method -> the provider's; its batch form has ``Batch`` at the end.
_METHODS: Final[Mapping[str, str]] = {
    "registration": "registration",
    "login": "login",
    "custom_event": "customEvent",
}


class MyTracker(Provider):
    """myTracker's server-to-server API."""

    name: ClassVar[str] = "mytracker"

    def request(self, account: Account, method: str, bodies: Sequence[bytes]) -> HttpRequest:
        """``POST /v1/<method>/?idApp=<id>``; for several events ``/v1/<method>Batch/``."""
        single = len(bodies) == 1
        path = f"/v1/{_METHODS[method]}{'' if single else 'Batch'}/?idApp={account.credentials['id_app'].reveal()}"
        # The token stands alone in the header, without a scheme.
        headers = {"Authorization": account.credentials["token"].reveal(), "Content-Type": "application/json"}
        return HttpRequest("POST", account.base_url + path, headers, bodies[0] if single else array(bodies))

    def classify(self, answer: Answer, asked: Asked) -> Verdict:
        """By HTTP status; a 200 must also say so."""
        envelope = answer.json()
        if not isinstance(envelope, dict):
            return by_status(answer)
        if answer.status == 200 and isinstance(envelope.get("message"), str) and "error" not in envelope:
            return Verdict(Outcome.DELIVERED, status=200)
        return by_status(answer, words(envelope.get("error")))
