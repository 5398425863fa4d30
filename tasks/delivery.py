"""One grant, one request: checks the events, sends them, reads the answer and decides what becomes of each.

Nothing here touches Redis: the decision is a :class:`~tasks.grants.Settlement`, which the governor applies in one step.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from celery.utils.functional import maybe_list
from celery.worker import state as worker_state

from config.accounts import Account
from postback.errors import InvalidEvent
from postback.events import EVENTS
from postback.payload import MAX_MESSAGE_BYTES
from tasks.envelopes import Envelope
from tasks.exchange import Asked, HttpRequest, NotSent, Sender, Unanswered
from tasks.grants import Grant, Health, Settlement
from tasks.isolation import split
from tasks.letters import MAX_DETAIL, letter, wrapped
from tasks.outcomes import Outcome, Verdict, brief
from tasks.provider import Provider

#: A request is not begun when less than its time limit and this many seconds are left of the lease.
LEASE_RESERVE_S: Final = 1.0

#: The arguments of every task of ours.
_ARGUMENTS: Final = frozenset({"account", "event"})

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
class Fate:
    """What became of one event, for Celery, Flower and the log."""

    #: ``delivered``, ``duplicate``, ``retry``, ``wait`` or ``dead``.
    kind: str
    #: First word is the reason code of a dead letter.
    text: str
    result: Any = None
    #: Seconds until it is tried again, where that is known.
    again_in_s: float | None = None


@dataclass(slots=True)
class Report:
    """The outcome of a whole grant."""

    settlement: Settlement
    #: One for each envelope, in order.
    fates: list[Fate] = field(default_factory=list)
    verdict: Verdict | None = None
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """Delivers grants of one account."""

    account: Account
    provider: Provider
    sender: Sender
    #: Removes credentials from a text of the provider's.
    scrub: Callable[[str], str] = str

    def deliver(self, grant: Grant) -> Report:
        """Send what is fit to be sent and say what becomes of every message. Never raises for anything an event or a provider can do."""
        fates: list[Fate | None] = [None] * len(grant.envelopes)
        settlement = Settlement(health="none")
        live: list[tuple[int, bytes]] = []
        for position, envelope in enumerate(grant.envelopes):
            body = self._prepared(envelope, grant, position, settlement, fates)
            if body is not None:
                live.append((position, body))
        report = Report(settlement)
        if live:
            self._send(grant, live, report, fates)
        elif grant.siblings:
            settlement.groups.append([_siblings(grant), []])
        report.fates = [fate or Fate("wait", "put back") for fate in fates]
        return report

    # What is not sent at all

    def _prepared(
        self, envelope: Envelope, grant: Grant, position: int, settlement: Settlement, fates: list[Fate | None]
    ) -> bytes | None:
        """The event's body; or None, and its fate is decided."""

        def dead(reason: str, detail: str) -> None:
            # An event can have any number of wrong fields, and each is named.
            self._bury(envelope, position, settlement, fates, Verdict(Outcome.REJECTED, detail[:MAX_DETAIL]), reason)

        if envelope.duplicate_of:
            # Named, so that the script does not count it among the delivered.
            settlement.messages.append([position + 1, "done"])
            fates[position] = Fate("duplicate", f"duplicate of {envelope.duplicate_of}")
            return None
        if envelope.defect:
            dead("malformed", envelope.defect)
            return None
        event_class = EVENTS.get(envelope.task)
        if event_class is None or event_class.provider != self.account.provider:
            dead("malformed", f"unknown task {envelope.task[:80]!r}")
            return None
        end = ended(envelope)
        if end:
            dead(end, "its `expires` has passed" if end == "expired" else "")
            return None
        longest_s, wanted_ms = self.account.max_wait_s, envelope.wanted_ms
        if longest_s and wanted_ms and grant.granted_us / 1000 - wanted_ms > longest_s * 1000:
            dead("expired", f"it has waited longer than max_wait_s ({longest_s:g})")
            return None
        account = envelope.kwargs.get("account", self.account.name)
        if account != self.account.name:
            named = repr(account[:64]) if isinstance(account, str) else f"of type {type(account).__name__}"
            dead("unknown_account", f"account {named} in the queue of {self.account.queue}")
            return None
        if "event" not in envelope.kwargs or not envelope.kwargs.keys() <= _ARGUMENTS:
            extra = envelope.kwargs.keys() - _ARGUMENTS
            dead("malformed", f"unexpected argument {min(extra)[:40]!r}" if extra else "it has no event")
            return None
        first_us = envelope.state.first_us or grant.granted_us + position
        age_s = time.time() - (envelope.enqueued_ms or first_us / 1000) / 1000
        overdue = self.provider.overdue(self.account, event_class.method, age_s)
        if overdue:
            dead("expired", overdue)
            return None
        try:
            event = event_class.load(envelope.kwargs["event"], account=self.account.name)
            # A producer that is not ours may leave the time out. The first grant's time is kept in the message: a retry does not move the event.
            return self.provider.encode(self.account, event.with_time(first_us / 1_000_000))
        except InvalidEvent as error:
            dead("invalid", str(error))
            return None

    # The request

    def _send(self, grant: Grant, live: list[tuple[int, bytes]], report: Report, fates: list[Fate | None]) -> None:
        account, settlement = self.account, report.settlement
        fitting = self._fitting(live)
        for position, _ in live[len(fitting) :]:
            settlement.messages.append([position + 1, "back"])
        live = fitting
        positions = [position for position, _ in live]
        if grant.lease_left_s() < account.timeout_s + LEASE_RESERVE_S:
            _return(grant, positions, settlement)
            return
        method = EVENTS[grant.envelopes[positions[0]].task].method
        request = self.provider.request(account, method, [body for _, body in live])
        asked = Asked(
            account, method, len(live), any(grant.envelopes[position].state.duplicate for position in positions)
        )
        grant.sent = True
        started = time.monotonic()
        verdict = self._ask(request, asked)
        report.elapsed_s = time.monotonic() - started
        report.verdict = verdict
        settlement.health = _HEALTH[verdict.outcome]
        settlement.detail = verdict.words if settlement.health != "ok" else ""
        settlement.retry_after_s = verdict.retry_after_s
        if verdict.outcome is Outcome.REJECTED and len(positions) > 1:
            split(grant, positions, settlement)
            for position in positions:
                fates[position] = Fate("wait", f"rejected {verdict.words}: in a batch of {len(positions)}, halving it")
            return
        if settlement.health in ("quota", "refused"):
            _return(grant, positions, settlement, asked=True)
        elif grant.siblings:
            split(grant, [], settlement, own_delivered=verdict.outcome is Outcome.DELIVERED)
        for position in positions:
            self._decide(grant, position, verdict, settlement, fates)

    def _fitting(self, live: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """As many events from the front as the byte cap allows. TAKE counts an upper bound, but cannot know what a raw client's event becomes."""
        total = 1
        for count, (_, body) in enumerate(live):
            total += len(body) + 1
            if count and total > self.account.max_bytes:
                return live[:count]
        return live

    def _ask(self, request: HttpRequest, asked: Asked) -> Verdict:
        try:
            answer = self.sender.send(request, self.account)
        except NotSent as error:
            return Verdict(Outcome.RETRY, str(error))
        except Unanswered as error:
            return Verdict(Outcome.AMBIGUOUS, str(error))
        verdict = self.provider.classify(answer, asked)
        return replace(verdict, detail=brief(self.scrub(verdict.detail))) if verdict.detail else verdict

    # What an answer means for one event

    def _decide(
        self, grant: Grant, position: int, verdict: Verdict, settlement: Settlement, fates: list[Fate | None]
    ) -> None:
        outcome = verdict.outcome
        if outcome is Outcome.DELIVERED:
            settlement.delivered += 1
            # What a provider says about a write is nobody's result: Celery would show it, and it may name a person.
            has_result = EVENTS[grant.envelopes[position].task].has_result
            text = "delivered, possible_duplicate" if grant.envelopes[position].state.duplicate else "delivered"
            fates[position] = Fate("delivered", text, verdict.data if has_result else None)
        elif outcome in (Outcome.QUOTA, Outcome.CREDENTIALS):
            word = "quota" if outcome is Outcome.QUOTA else "credentials"
            fates[position] = Fate("wait", f"{word} {verdict.words}", again_in_s=verdict.retry_after_s)
        elif outcome is Outcome.PENDING:
            self._poll(grant, position, verdict, settlement, fates)
        elif outcome in (Outcome.RETRY, Outcome.AMBIGUOUS):
            self._again(grant, position, verdict, settlement, fates)
        else:
            reason = "expired" if outcome is Outcome.EXPIRED else "rejected"
            self._bury(grant.envelopes[position], position, settlement, fates, verdict, reason, asked=True)

    def _poll(
        self, grant: Grant, position: int, verdict: Verdict, settlement: Settlement, fates: list[Fate | None]
    ) -> None:
        envelope, account = grant.envelopes[position], self.account
        waited_s = (grant.granted_us - (envelope.state.first_us or grant.granted_us)) / 1_000_000
        if waited_s >= account.deadline_s:
            self._bury(envelope, position, settlement, fates, verdict, "not_final", asked=True)
            return
        pause_s = min(
            account.poll_max_s,
            account.poll_s * 2 ** min(envelope.state.polls, 30),
            max(account.deadline_s - waited_s, 0.05),
        )
        settlement.messages.append([position + 1, "poll", round(pause_s * 1000)])
        fates[position] = Fate("wait", f"pending {verdict.words}".rstrip(), again_in_s=pause_s)

    def _again(
        self, grant: Grant, position: int, verdict: Verdict, settlement: Settlement, fates: list[Fate | None]
    ) -> None:
        envelope, account = grant.envelopes[position], self.account
        ambiguous = verdict.outcome is Outcome.AMBIGUOUS
        state, attempts = envelope.state, envelope.state.attempts
        spent = (
            attempts + 1 >= account.max_attempts
            or (verdict.most_attempts is not None and state.odd + 1 >= verdict.most_attempts)
            or state.age_ms > account.max_age_s * 1000
        )
        if ambiguous and account.on_ambiguous == "dead":
            self._bury(envelope, position, settlement, fates, verdict, "ambiguous", asked=True)
        elif spent and not grant.outage:
            self._bury(envelope, position, settlement, fates, verdict, "exhausted", asked=True)
        else:
            ceiling_s = min(account.backoff_max_s, account.backoff_s * 2 ** min(attempts, 30))
            pause_s = ceiling_s if account.retry_in_place else random.uniform(0, ceiling_s)
            settlement.messages.append([position + 1, "retry", round(pause_s * 1000), int(ambiguous)])
            if verdict.most_attempts is not None:
                settlement.messages[-1].append(1)
            word = "ambiguous" if ambiguous else "retry"
            fates[position] = Fate("retry", f"{word} {verdict.words}".rstrip(), again_in_s=pause_s)

    def _bury(
        self,
        envelope: Envelope,
        position: int,
        settlement: Settlement,
        fates: list[Fate | None],
        verdict: Verdict,
        reason: str,
        *,
        asked: bool = False,
    ) -> None:
        """Make it a dead letter. ``asked``: a request was made for it just now."""
        duplicate = envelope.state.duplicate or verdict.outcome is Outcome.AMBIGUOUS
        header = letter(
            envelope,
            reason,
            verdict.detail,
            status=verdict.status,
            attempts=envelope.state.attempts + int(asked),
            duplicate=duplicate,
        )
        settlement.messages.append(_dead_line(envelope, position + 1, header, self.account.queue, duplicate=duplicate))
        fates[position] = Fate("dead", f"{reason} {verdict.words}".rstrip())


def _dead_line(envelope: Envelope, index: int, header: str, queue: str, *, duplicate: bool) -> list[Any]:
    """What SETTLE is told of a dead letter; what is no Celery message gets one around it."""
    line: list[Any] = [index, "dead", 0, int(duplicate), header]
    # A large one that may be a message is not wrapped: the script writes its reason into it, and reads it once and not twice.
    if not envelope.document and (len(envelope.raw) <= MAX_MESSAGE_BYTES or envelope.raw[:1] != b"{"):
        line.append(wrapped(envelope, header, queue))
    return line


def _return(grant: Grant, positions: list[int], settlement: Settlement, *, asked: bool = False) -> None:
    """Put events back to the front; a half of a refused batch stays together.

    ``asked``: they were sent. Where a worker filled in the time of an event, it is the same when it is sent again.
    """
    if grant.group:
        settlement.groups.append([[position + 1 for position in positions], _siblings(grant)])
        return
    for position in positions:
        timed = asked and EVENTS[grant.envelopes[position].task].time_field is not None
        settlement.messages.append([position + 1, "back", 1] if timed else [position + 1, "back"])


def _siblings(grant: Grant) -> list[int]:
    own = len(grant.envelopes)
    return [own + index for index in range(1, len(grant.siblings) + 1)]


def ended(envelope: Envelope) -> str:
    """Why an event ends without a request: ``expired``, or ``revoked`` by its id or by one of its stamps; else nothing."""
    expires = envelope.expires
    if expires is not None and expires <= time.time():
        return "expired"
    if envelope.revoked or envelope.id in worker_state.revoked:
        return "revoked"
    stamps = envelope.headers.get("stamps") if worker_state.revoked_stamps else None
    by_stamp = isinstance(stamps, dict) and any(
        value in maybe_list(worker_state.revoked_stamps[name])
        for name in stamps.keys() & worker_state.revoked_stamps.keys()
        for value in maybe_list(stamps[name])
    )
    return "revoked" if by_stamp else ""


def not_handed_over(grant: Grant, why: str) -> Settlement:
    """The settlement of a grant that Celery would not take: nothing was sent, and nobody waits for its lease.

    A single event is to blame itself. A batch's message is our own, so its events are tried again.

    Args:
        grant: The grant.
        why: A few words for the dead letter; no value of the message.
    """
    if len(grant.envelopes) > 1:
        return Settlement("none", messages=[[index, "poll", 1000] for index in grant.everything])
    (envelope,) = grant.envelopes
    state = envelope.state
    header = letter(
        envelope, "malformed", f"Celery cannot take it ({why})", attempts=state.attempts, duplicate=state.duplicate
    )
    settlement = Settlement("none", messages=[_dead_line(envelope, 1, header, grant.queue, duplicate=state.duplicate)])
    if grant.siblings:
        settlement.groups.append([_siblings(grant), []])
    return settlement


def unsettled(grant: Grant, account: Account | None, *, ran: bool = False) -> Settlement:
    """The settlement of a grant that Celery closed without its task having decided anything (invariant I3).

    An event that expired or was revoked is a dead letter and was not sent. Anything else means that our own code failed
    after the request may have gone out: it is ambiguous.

    Args:
        grant: The grant.
        account: Its account, if the accounts file still has it.
        ran: The task did run, so that its request may have gone out even if the event has expired by now.
    """
    settlement = Settlement(health="none")
    sent = False
    for index, envelope in enumerate(grant.envelopes, 1):
        reason = "" if ran else ended(envelope)
        if not reason:
            sent = True
            attempts = envelope.state.attempts + 1
            at_most_once = account is not None and account.on_ambiguous == "dead"
            if account is None or at_most_once or attempts >= account.max_attempts:
                reason = "ambiguous" if at_most_once else "exhausted"
                header = letter(envelope, reason, "the worker's own code failed", attempts=attempts, duplicate=True)
                settlement.messages.append(_dead_line(envelope, index, header, grant.queue, duplicate=True))
            else:
                pause_ms = round(1000 * min(account.backoff_max_s, account.backoff_s * 2**attempts))
                settlement.messages.append([index, "retry", pause_ms, 1])
            continue
        header = letter(envelope, reason, attempts=envelope.state.attempts, duplicate=envelope.state.duplicate)
        settlement.messages.append(_dead_line(envelope, index, header, grant.queue, duplicate=envelope.state.duplicate))
    if sent:
        settlement.health = "unknown"
        settlement.detail = "ambiguous: the worker's own code failed"
    if grant.siblings:
        settlement.groups.append([_siblings(grant), []])
    return settlement
