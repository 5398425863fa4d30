"""What becomes of one event: makes its ruling, before its request or after the answer."""

from __future__ import annotations

import random
from typing import Final, assert_never

from celery.utils.functional import maybe_list
from celery.worker import state as worker_state

from config.accounts import Account
from postback._events.event import EVENTS
from postback.errors import InvalidEvent
from tasks.dead_letters import MAX_DETAIL, dead
from tasks.envelopes import Envelope
from tasks.grants import Grant, Settlement, halves_after
from tasks.outcomes import Outcome, Verdict
from tasks.provider import Provider
from tasks.rulings import DELIVERED, Again, Back, Dead, Delivered, Duplicate, Poll, Ruling

OUR_FAILURE: Final = "the worker's own code failed"
#: The arguments of every task of ours.
_ARGUMENTS: Final = frozenset({"account", "event"})


class _NotSendable(Exception):
    """The event must not be sent: the reason and the detail of its dead letter."""

    def __init__(self, reason: str, detail: str = "") -> None:
        """Cut the detail: an event can have any number of wrong fields, and each is named."""
        super().__init__(reason)
        self.reason, self.detail = reason, detail[:MAX_DETAIL]


def body_or_ruling(
    envelope: Envelope, account: Account, provider: Provider, *, first_us: int, granted_us: int
) -> bytes | Dead | Duplicate:
    """The body to send for an event; or its ruling, if it must not be sent.

    Args:
        envelope: The event.
        account: Its account.
        provider: The account's provider.
        first_us: Time of its first grant.
        granted_us: Time of this grant.
    """
    if envelope.duplicate_of:
        return Duplicate(envelope.duplicate_of)
    try:
        return _body(envelope, account, provider, first_us, granted_us)
    except _NotSendable as unfit:
        return dead(envelope, account.queue, unfit.reason, Verdict(Outcome.REJECTED, unfit.detail))


def _body(envelope: Envelope, account: Account, provider: Provider, first_us: int, granted_us: int) -> bytes:
    if envelope.defect:
        raise _NotSendable("malformed", envelope.defect)
    event_class = EVENTS.get(envelope.task)
    if event_class is None or event_class.provider != account.provider:
        raise _NotSendable("malformed", f"unknown task {envelope.task[:80]!r}")
    now_s = granted_us / 1_000_000
    if end := ended(envelope, now_s):
        raise _NotSendable(end, "its `expires` has passed" if end == "expired" else "")
    longest_s = account.max_wait_s
    if longest_s and (wanted_ms := envelope.wanted_ms) and granted_us / 1000 - wanted_ms > longest_s * 1000:
        raise _NotSendable("expired", f"it has waited longer than max_wait_s ({longest_s:g})")
    account_name = envelope.kwargs.get("account", account.name)
    if account_name != account.name:
        shown = repr(account_name[:64]) if isinstance(account_name, str) else f"of type {type(account_name).__name__}"
        raise _NotSendable("unknown_account", f"account {shown} in the queue of {account.queue}")
    if "event" not in envelope.kwargs or not envelope.kwargs.keys() <= _ARGUMENTS:
        extra = envelope.kwargs.keys() - _ARGUMENTS
        raise _NotSendable("malformed", f"unexpected argument {min(extra)[:40]!r}" if extra else "it has no event")
    age_s = now_s - (envelope.enqueued_ms or first_us / 1000) / 1000
    if overdue := provider.overdue(account, event_class.method, age_s):
        raise _NotSendable("expired", overdue)
    try:
        event = event_class.load(envelope.kwargs["event"], account=account.name)
        # Another Celery client may leave the time out. The first grant's time is kept in the
        # message, so a retry does not move the event.
        return provider.encode(account, event.with_time(first_us / 1_000_000))
    except InvalidEvent as error:
        raise _NotSendable("invalid", str(error)) from None


def ended(envelope: Envelope, now_s: float) -> str:
    """Why an event ends without a request.

    Args:
        envelope: The event.
        now_s: Redis' clock, seconds of the epoch.

    Returns:
        ``expired``; ``revoked``, by its id or by one of its stamps; empty if it does not end.
    """
    expires = envelope.expires
    if expires is not None and expires <= now_s:
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


def judge(envelope: Envelope, verdict: Verdict, account: Account, grant: Grant) -> Ruling:
    """The ruling on an event whose request was answered, or got no answer."""
    outcome = verdict.outcome
    match outcome:
        case Outcome.DELIVERED:
            # A result is for look-ups only. Celery shows results, and what a provider says about
            # a write may name a person.
            result = verdict.data if EVENTS[envelope.task].has_result else None
            if result is None and not envelope.state.duplicate:
                return DELIVERED
            return Delivered(result, envelope.state.duplicate)
        case Outcome.QUOTA | Outcome.CREDENTIALS:
            timed = EVENTS[envelope.task].time_field is not None
            return Back(f"{outcome} {verdict.words}", verdict.retry_after_s, keeps_time=timed)
        case Outcome.PENDING:
            return _poll(envelope, verdict, account, grant)
        case Outcome.RETRY | Outcome.AMBIGUOUS:
            return _again(envelope, verdict, account, grant)
        case Outcome.EXPIRED | Outcome.REJECTED:
            return dead(envelope, account.queue, outcome.value, verdict, sent=True)
        case _:
            assert_never(outcome)


def _poll(envelope: Envelope, verdict: Verdict, account: Account, grant: Grant) -> Poll | Dead:
    waited_s = (grant.granted_us - (envelope.state.first_us or grant.granted_us)) / 1_000_000
    if waited_s >= account.deadline_s:
        return dead(envelope, account.queue, "not_final", verdict, sent=True)
    pause_s = account.poll_s * 2 ** min(envelope.state.polls, 30)
    left_s = max(account.deadline_s - waited_s, 0.05)
    return Poll(min(account.poll_max_s, pause_s, left_s), f"pending {verdict.words}".rstrip())


def _again(envelope: Envelope, verdict: Verdict, account: Account, grant: Grant) -> Again | Dead:
    state, few = envelope.state, verdict.most_attempts is not None
    ambiguous = verdict.outcome is Outcome.AMBIGUOUS
    if ambiguous and account.on_ambiguous == "dead":
        return dead(envelope, account.queue, "ambiguous", verdict, sent=True, duplicate=True)
    spent = (
        state.attempts + 1 >= account.max_attempts
        or (verdict.most_attempts is not None and state.odd + 1 >= verdict.most_attempts)
        or state.age_ms > account.max_age_s * 1000
    )
    if spent and not grant.outage:
        return dead(envelope, account.queue, "exhausted", verdict, sent=True, duplicate=ambiguous)
    ceiling_s = min(account.backoff_max_s, account.backoff_s * 2 ** min(state.attempts, 30))
    pause_s = ceiling_s if account.retry_in_place else random.uniform(0, ceiling_s)
    return Again(pause_s, f"{verdict.outcome} {verdict.words}".rstrip(), ambiguous, few)


def judge_undecided(grant: Grant, account: Account | None, *, ran: bool = False) -> Settlement:
    """The settlement of a grant on which our own code failed (invariant I3).

    Its request may have gone out. So its events are ambiguous, except those that ended without a
    request.

    Args:
        grant: The grant.
        account: Its account; None if the accounts file no longer has it.
        ran: Its request has gone out, even if the event has expired by now.
    """
    sent = False
    for envelope in grant.envelopes:
        reason = "" if ran else ended(envelope, grant.granted_us / 1_000_000)
        if reason:
            envelope.ruling = dead(envelope, grant.queue, reason, Verdict(Outcome.REJECTED))
        else:
            sent = True
            envelope.ruling = judge_failure(envelope, grant.queue, account, OUR_FAILURE)
    settlement = Settlement("none", halves=halves_after(grant))
    if sent:
        settlement.health, settlement.detail = "unknown", f"ambiguous: {OUR_FAILURE}"
    return settlement


def judge_failure(envelope: Envelope, queue: str, account: Account | None, words: str) -> Again | Dead:
    """The ruling on an event that may have been recorded, and for which something of ours failed.

    Args:
        envelope: The event.
        queue: Its account's queue.
        account: Its account; None if the accounts file no longer has it.
        words: What failed.
    """
    verdict, attempts = Verdict(Outcome.AMBIGUOUS, words), envelope.state.attempts + 1
    at_most_once = account is not None and account.on_ambiguous == "dead"
    if account is None or at_most_once or attempts >= account.max_attempts:
        return dead(envelope, queue, "ambiguous" if at_most_once else "exhausted", verdict, sent=True, duplicate=True)
    pause_s = min(account.backoff_max_s, account.backoff_s * 2**attempts)
    return Again(pause_s, f"ambiguous: {words}", ambiguous=True)
