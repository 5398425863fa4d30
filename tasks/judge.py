"""What an answer means for one event: makes the rulings of what was sent, and of what nobody decided."""

from __future__ import annotations

import random
from typing import Final, assert_never

from config.accounts import Account
from postback._events.event import EVENTS
from tasks.batches import halves_after
from tasks.envelopes import Envelope
from tasks.fitness import ended
from tasks.grants import Grant, Settlement
from tasks.letters import buried
from tasks.outcomes import Outcome, Verdict
from tasks.rulings import DELIVERED, Again, Back, Dead, Delivered, Poll, Ruling

OUR_FAILURE: Final = "the worker's own code failed"


def judge(envelope: Envelope, verdict: Verdict, account: Account, grant: Grant) -> Ruling:
    """What becomes of an event whose request was answered, or got no answer."""
    outcome = verdict.outcome
    match outcome:
        case Outcome.DELIVERED:
            # What a provider says about a write is nobody's result: Celery would show it, and it
            # may name a person.
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
            return buried(envelope, account.queue, outcome.value, verdict, sent=True)
        case _:
            assert_never(outcome)


def _poll(envelope: Envelope, verdict: Verdict, account: Account, grant: Grant) -> Poll | Dead:
    waited_s = (grant.granted_us - (envelope.state.first_us or grant.granted_us)) / 1_000_000
    if waited_s >= account.deadline_s:
        return buried(envelope, account.queue, "not_final", verdict, sent=True)
    pause_s = account.poll_s * 2 ** min(envelope.state.polls, 30)
    left_s = max(account.deadline_s - waited_s, 0.05)
    return Poll(min(account.poll_max_s, pause_s, left_s), f"pending {verdict.words}".rstrip())


def _again(envelope: Envelope, verdict: Verdict, account: Account, grant: Grant) -> Again | Dead:
    state, few = envelope.state, verdict.most_attempts is not None
    ambiguous = verdict.outcome is Outcome.AMBIGUOUS
    if ambiguous and account.on_ambiguous == "dead":
        return buried(envelope, account.queue, "ambiguous", verdict, sent=True, duplicate=True)
    spent = (
        state.attempts + 1 >= account.max_attempts
        or (verdict.most_attempts is not None and state.odd + 1 >= verdict.most_attempts)
        or state.age_ms > account.max_age_s * 1000
    )
    if spent and not grant.outage:
        return buried(envelope, account.queue, "exhausted", verdict, sent=True, duplicate=ambiguous)
    ceiling_s = min(account.backoff_max_s, account.backoff_s * 2 ** min(state.attempts, 30))
    pause_s = ceiling_s if account.retry_in_place else random.uniform(0, ceiling_s)
    return Again(pause_s, f"{verdict.outcome} {verdict.words}".rstrip(), ambiguous, few)


def judge_undecided(grant: Grant, account: Account | None, *, ran: bool = False) -> Settlement:
    """The settlement of a grant on which our own code failed (invariant I3).

    Its request may have gone out: its events are ambiguous, unless they have ended without one.

    Args:
        grant: The grant.
        account: Its account, if the accounts file still has it.
        ran: Its request has gone out, even if the event has expired by now.
    """
    sent = False
    for envelope in grant.envelopes:
        reason = "" if ran else ended(envelope, grant.granted_us / 1_000_000)
        if reason:
            envelope.ruling = buried(envelope, grant.queue, reason, Verdict(Outcome.REJECTED))
        else:
            sent = True
            envelope.ruling = judge_failure(envelope, grant.queue, account, OUR_FAILURE)
    settlement = Settlement("none", halves=halves_after(grant))
    if sent:
        settlement.health, settlement.detail = "unknown", f"ambiguous: {OUR_FAILURE}"
    return settlement


def judge_failure(envelope: Envelope, queue: str, account: Account | None, words: str) -> Again | Dead:
    """What becomes of an event that may have been recorded, and of which something of ours failed.

    Args:
        envelope: The event.
        queue: Its account's queue.
        account: Its account, if the accounts file still has it.
        words: What failed.
    """
    verdict, attempts = Verdict(Outcome.AMBIGUOUS, words), envelope.state.attempts + 1
    at_most_once = account is not None and account.on_ambiguous == "dead"
    if account is None or at_most_once or attempts >= account.max_attempts:
        return buried(envelope, queue, "ambiguous" if at_most_once else "exhausted", verdict, sent=True, duplicate=True)
    pause_s = min(account.backoff_max_s, account.backoff_s * 2**attempts)
    return Again(pause_s, f"ambiguous: {words}", ambiguous=True)
