"""What Flower shows of an event that failed or waits: a sentence, not an exception's ``repr``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

from tasks.delivery import Report
from tasks.envelopes import Envelope
from tasks.rulings import PUT_BACK, Again, Back, Dead, Halved, Poll, Waiting
from workers.observe.logs import one_line

__all__ = ["failed", "waits"]

#: What is added where the provider may have recorded the event.
RECORDED: Final = ", it may have been recorded"


def waits(report: Report, envelope: Envelope, ruling: Waiting, max_attempts: int | None) -> str:
    """``503 Service unavailable; attempt 2 of 8, again at 12:00:05 UTC``.

    The event is sent later than that if its account is paused then, or its quota is spent.

    Args:
        report: The outcome of its grant.
        envelope: The event.
        ruling: Its ruling.
        max_attempts: Its account's; None if the accounts file no longer has it.
    """
    if ruling == PUT_BACK:
        return "it was not sent; no attempt used, again at once"
    text = one_line(ruling.text)
    words = text.partition(" ")[2] or text
    match ruling:
        case Again():
            attempt = f"attempt {_attempt(report, envelope, ruling, max_attempts)}"
            again = f"{attempt}, again at {_time(report, ruling.after_s)}"
            if report.grant.outage:  # its end gives the attempts back
                again = "no attempt used, again when the outage ends"
            return f"{words}{RECORDED if ruling.ambiguous else ''}; {again}"
        case Poll():
            return f"{words}; no attempt used, looked up again at {_time(report, ruling.after_s)}"
        case Halved():
            return f"{words}; no attempt used, again at once"
        case Back():
            return f"{words}; no attempt used, again {_after_pause(report, ruling.after_s)}"


def failed(ruling: Dead) -> str:
    """``rejected 422 Unprocessable entity; dead letter after 1 attempt``: first the reason code."""
    # Where TAKE has buried an event, the letter is in Redis alone.
    attempts: int | None = json.loads(ruling.letter or "{}").get("attempts")
    after = {None: "", 0: ", no request was made", 1: " after 1 attempt"}.get(attempts, f" after {attempts} attempts")
    return f"{one_line(ruling.text)}{RECORDED if ruling.possible_duplicate else ''}; dead letter{after}"


def _attempt(report: Report, envelope: Envelope, ruling: Again, max_attempts: int | None) -> str:
    """``2 of 8``: this attempt, and the one that is the last."""
    number, most = envelope.state.attempts + 1, max_attempts
    if ruling.few and report.verdict is not None:
        number, most = envelope.state.odd + 1, report.verdict.most_attempts
    return f"{number} of {most}" if most else str(number)


def _after_pause(report: Report, after_s: float | None) -> str:
    """What ends the pause of an account whose quota is spent or whose key is refused."""
    if report.settlement.health == "refused":
        return f"with another key or after `postback resume {report.grant.queue}`"
    return "when the quota allows" if after_s is None else f"when the quota allows, not before {_time(report, after_s)}"


def _time(report: Report, after_s: float) -> str:
    """The time some seconds after the answer, by Redis' clock; another day has its date."""
    answered_s = report.grant.granted_us / 1_000_000 + report.elapsed_s
    answered, then = (datetime.fromtimestamp(at_s, UTC) for at_s in (answered_s, answered_s + after_s))
    return f"{then:%H:%M:%S} UTC" if then.date() == answered.date() else f"{then:%Y-%m-%d %H:%M:%S} UTC"
