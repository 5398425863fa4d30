"""TGTrack: one event in a request, the key in the URL, errors in the HTTP status or in a 200.

Source: TGTrack service API, «Запрос к API», «Ответ API», «Список ошибок».

===============================  =============================================================
answer                           class
===============================  =============================================================
``status: OK`` in a 2xx          delivered
400 404 405 415 422              rejected
401 402 403                      credentials
409                              delivered if an earlier attempt may have been recorded;
                                 else rejected
429                              quota
500 503                          retry
any other code; below 400 what   ambiguous
is neither ``OK`` nor an error
``OK`` without data for          ambiguous, :data:`MOST_ATTEMPTS`
``get_user_info``
===============================  =============================================================

A number is the envelope's ``error_code``; without one, the HTTP status.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from config.accounts import Account
from config.policy import DAY_S
from config.providers.tgtrack import GOAL_DAYS
from tasks.outcomes import Outcome, Verdict
from tasks.provider import MAX_WORDS, Provider, words
from tasks.request import Answer, Asked, HttpRequest

logger = logging.getLogger(__name__)

#: Attempts of a look-up that is answered ``OK`` without data. Decision: the next answer will
#: hardly be different.
MOST_ATTEMPTS: Final = 3

_OUTCOMES: Final[dict[int, Outcome]] = {
    **dict.fromkeys((400, 404, 405, 409, 415, 422), Outcome.REJECTED),
    **dict.fromkeys((401, 402, 403), Outcome.CREDENTIALS),
    429: Outcome.QUOTA,
    **dict.fromkeys((500, 503), Outcome.RETRY),
}


class TGTrack(Provider):
    """The «Откуда Подписки» service."""

    name: ClassVar[str] = "tgtrack"

    def __init__(self) -> None:
        """No account is in sandbox mode, as far as is known."""
        self._sandboxed: set[str] = set()

    def overdue(self, account: Account, method: str, age_s: float) -> str:
        """A goal does not count later than 21 days after the user's start, which came first."""
        if method != "send_reach_goal":
            return ""
        days = account.own(GOAL_DAYS)
        return f"goals count for {days} days" if age_s > days * DAY_S else ""

    def request(self, account: Account, method: str, bodies: Sequence[bytes]) -> HttpRequest:
        """``POST /v1/<key>/<method>``."""
        key = account.credentials["api_key"].reveal()
        return HttpRequest(
            "POST", f"{account.base_url}/v1/{key}/{method}", {"Content-Type": "application/json"}, bodies[0]
        )

    def classify(self, answer: Answer, asked: Asked) -> Verdict:
        """By the body, then by the HTTP status: the document does not say whether they agree."""
        envelope = answer.json()
        if isinstance(envelope, dict):
            self._note_mode(envelope, asked.account)
            if envelope.get("status") == "OK" and 200 <= answer.status <= 299:
                return _recorded(answer.status, envelope.get("data"), asked)
            if envelope.get("status") == "error":
                code = _code(envelope.get("error_code"))
                if code is not None or answer.status >= 400:
                    return self._by_code(answer.status if code is None else code, _described(envelope), answer, asked)
        if answer.status >= 400:
            return self._by_code(answer.status, answer.text(MAX_WORDS), answer, asked)
        return Verdict(Outcome.AMBIGUOUS, "unknown answer", answer.status)

    def _by_code(self, code: int, detail: str, answer: Answer, asked: Asked) -> Verdict:
        outcome = _OUTCOMES.get(code, Outcome.AMBIGUOUS)
        if code == 409 and asked.maybe_recorded:
            outcome = Outcome.DELIVERED
        return Verdict(outcome, detail, code, retry_after_s=answer.retry_after_s)

    def _note_mode(self, envelope: dict[str, Any], account: Account) -> None:
        if envelope.get("mode") == "sandbox" and account.queue not in self._sandboxed:
            self._sandboxed.add(account.queue)
            logger.warning("%s is in TGTrack's sandbox mode: its events do not reach the reports", account.queue)


def _described(envelope: dict[str, Any]) -> str:
    texts = (words(envelope.get("error_description")), words(envelope.get("error_details")))
    return ": ".join(text for text in texts if text)


def _code(value: Any) -> int | None:
    """The envelope's ``error_code``: an int in the document; a text of three digits is accepted."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 99_999 else None


def _recorded(status: int, data: Any, asked: Asked) -> Verdict:
    if asked.method == "get_user_info" and not isinstance(data, dict):
        return Verdict(Outcome.AMBIGUOUS, "OK without data", status, most_attempts=MOST_ATTEMPTS)
    return Verdict(Outcome.DELIVERED, status=status, data=data)
