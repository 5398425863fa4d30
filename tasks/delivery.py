"""One grant, one request: checks the events, sends them, reads the answer and rules on every event.

Nothing here touches Redis: the governor applies the rulings in one step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from config.accounts import Account
from postback._events.event import EVENTS
from tasks.batches import fitting, halves_after
from tasks.envelopes import Envelope
from tasks.fitness import body_or_ruling
from tasks.grants import Grant, Half, Health, Settlement
from tasks.judge import judge
from tasks.outcomes import Outcome, Verdict, brief
from tasks.provider import Provider
from tasks.request import Answer, Asked, HttpRequest, NotSent, Sender, Unanswered
from tasks.rulings import PUT_BACK, Halved, Ruling

#: A request is not begun when less than its time limit and this many seconds are left of the lease.
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
    """The outcome of a whole grant. What became of each event is the event's ruling."""

    grant: Grant
    settlement: Settlement
    #: What the answer meant; None if no request was made.
    verdict: Verdict | None = None
    elapsed_s: float = 0.0

    @property
    def rulings(self) -> list[Ruling]:
        """What became of each of its events."""
        return [envelope.ruling for envelope in self.grant.envelopes]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that is ready to be sent, with the events that it carries."""

    request: HttpRequest
    asked: Asked
    events: list[Envelope]


@dataclass(frozen=True, slots=True)
class Delivery:
    """Delivers grants of one account."""

    account: Account
    provider: Provider
    #: Removes credentials from a text of the provider's.
    scrub: Callable[[str], str] = str

    def deliver(self, grant: Grant, sender: Sender) -> Report:
        """Send what is fit to be sent, wait for the answer, and rule on every event.

        Never raises for anything an event or a provider can do.
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
        """The request; or the settlement of a grant of which nothing is to be sent."""
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
        """Rule on the events of a request that was sent, or that should have been."""
        verdict, events = self._verdict(answer, prepared.asked), prepared.events
        health = _HEALTH[verdict.outcome]
        settlement = Settlement(health, verdict.words if health != "ok" else "", retry_after_s=verdict.retry_after_s)
        report = Report(grant, settlement, verdict, elapsed_s)
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
    """Where events go that are put back: a half of a refused batch stays together."""
    return [Half(events, grant.siblings)] if grant.group else []
