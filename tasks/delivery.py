"""One grant, one request: checks the events, sends them, reads the answer, rules on every event.

Nothing here touches Redis. The governor applies the rulings in one step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from config.accounts import Account
from postback._events.event import EVENTS
from tasks.envelopes import Envelope
from tasks.grants import Grant, Half, Health, Settlement, halves_after
from tasks.judge import body_or_ruling, judge
from tasks.outcomes import Outcome, Verdict, brief
from tasks.provider import Provider
from tasks.request import Answer, Asked, HttpRequest, NotSent, Sender, Unanswered
from tasks.rulings import PUT_BACK, Halved, Ruling

#: Seconds of the lease that must be left after a request's time limit. Else it is not begun.
LEASE_RESERVE_S: Final = 1.0

_HEALTH: Final[Mapping[Outcome, Health]] = {
    Outcome.DELIVERED: "ok",
    Outcome.PENDING: "ok",
    Outcome.REJECTED: "ok",
    Outcome.EXPIRED: "ok",
    Outcome.RETRY: "fail",
    Outcome.AMBIGUOUS: "fail",
    Outcome.QUOTA: "quota",
    Outcome.CREDENTIALS: "refused",
}


@dataclass(slots=True)
class Report:
    """The outcome of a whole grant. Each event has its own ruling."""

    grant: Grant
    settlement: Settlement
    #: What the answer meant; None if no request was made.
    verdict: Verdict | None = None
    elapsed_s: float = 0.0
    #: Events that the request carried; none if no request was made.
    sent: Sequence[Envelope] = ()

    @property
    def rulings(self) -> list[Ruling]:
        """The rulings on its events."""
        return [envelope.ruling for envelope in self.grant.envelopes]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that can be sent, with the events that it carries."""

    request: HttpRequest
    asked: Asked
    events: list[Envelope]


@dataclass(frozen=True, slots=True)
class Delivery:
    """Delivers grants of one account."""

    account: Account
    provider: Provider
    #: Removes credentials from the provider's words.
    scrub: Callable[[str], str] = str

    def deliver(self, grant: Grant, sender: Sender) -> Report:
        """Send the events that may be sent, wait for the answer, and rule on every event.

        It never raises, whatever an event or a provider does.
        """
        prepared = self.prepare(grant)
        if isinstance(prepared, Settlement):
            return Report(grant, prepared)
        grant.sent = True
        started = time.monotonic()
        try:
            answer: Answer | NotSent | Unanswered = sender.send(prepared.request, self.account)
        except (NotSent, Unanswered) as error:
            answer = error
        return self.conclude(grant, prepared, answer, time.monotonic() - started)

    def prepare(self, grant: Grant) -> Prepared | Settlement:
        """The request; or the settlement, if no event of the grant is to be sent."""
        account, ready = self.account, []
        for position, envelope in enumerate(grant.envelopes):
            # SETTLE counts the first grant's time in the same way.
            first_us = envelope.state.first_us or grant.granted_us + position
            prepared = body_or_ruling(envelope, account, self.provider, first_us=first_us, granted_us=grant.granted_us)
            if isinstance(prepared, bytes):
                ready.append((envelope, prepared))
            else:
                envelope.ruling = prepared
        if not ready:
            return Settlement("none", halves=halves_after(grant))
        count = fitting([body for _, body in ready], account.max_bytes)
        for envelope, _ in ready[count:]:
            envelope.ruling = PUT_BACK
        events = [envelope for envelope, _ in ready[:count]]
        if grant.lease_left_s() < account.timeout_s + LEASE_RESERVE_S:
            for envelope in events:
                envelope.ruling = PUT_BACK
            return Settlement("none", halves=_together(grant, events))
        method = EVENTS[events[0].task].method
        request = self.provider.request(account, method, [body for _, body in ready[:count]])
        maybe_recorded = any(envelope.state.duplicate for envelope in events)
        return Prepared(request, Asked(account, method, count, maybe_recorded), events)

    def conclude(
        self, grant: Grant, prepared: Prepared, answer: Answer | NotSent | Unanswered, elapsed_s: float
    ) -> Report:
        """Rule on the events of a request, now that its answer, or the lack of one, is known."""
        verdict, events = self._verdict(answer, prepared.asked), prepared.events
        health = _HEALTH[verdict.outcome]
        settlement = Settlement(health, verdict.words if health != "ok" else "", retry_after_s=verdict.retry_after_s)
        report = Report(grant, settlement, verdict, elapsed_s, events)
        if verdict.outcome is Outcome.REJECTED and len(events) > 1:
            settlement.halves = halves_after(grant, events)
            for envelope in events:
                envelope.ruling = Halved(f"rejected {verdict.words}: in a batch of {len(events)}, halving it")
            return report
        for envelope in events:
            envelope.ruling = judge(envelope, verdict, self.account, grant)
        if health in ("quota", "refused"):
            settlement.halves = _together(grant, events)
        else:
            settlement.halves = halves_after(grant, delivered=verdict.outcome is Outcome.DELIVERED)
        return report

    def _verdict(self, answer: Answer | NotSent | Unanswered, asked: Asked) -> Verdict:
        if isinstance(answer, NotSent):
            return Verdict(Outcome.RETRY, str(answer))
        if isinstance(answer, Unanswered):
            return Verdict(Outcome.AMBIGUOUS, str(answer))
        verdict = self.provider.classify(answer, asked)
        return replace(verdict, detail=brief(self.scrub(verdict.detail))) if verdict.detail else verdict


def _together(grant: Grant, events: list[Envelope]) -> list[Half]:
    """Keep a half of a refused batch together when its events are put back."""
    return [Half(events, grant.siblings)] if grant.group else []


def fitting(bodies: Sequence[bytes], max_bytes: int) -> int:
    """How many events from the front fit into a JSON array of ``max_bytes`` bytes; at least 1.

    TAKE counts an upper bound. It cannot know how another Celery client's event is encoded.
    """
    total = 1
    for count, body in enumerate(bodies):
        total += len(body) + 1
        if count and total > max_bytes:
            return count
    return len(bodies)
