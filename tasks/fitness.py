"""Whether an event is fit to be sent: its body, or the ruling that ends it without a request."""

from __future__ import annotations

from typing import Final

from celery.utils.functional import maybe_list
from celery.worker import state as worker_state

from config.accounts import Account
from postback._events.event import EVENTS
from postback.errors import InvalidEvent
from tasks.envelopes import Envelope
from tasks.letters import MAX_DETAIL, buried
from tasks.outcomes import Outcome, Verdict
from tasks.provider import Provider
from tasks.rulings import Dead, Duplicate

#: The arguments of every task of ours.
_ARGUMENTS: Final = frozenset({"account", "event"})


class Unfit(Exception):
    """It must not be sent; says why: the reason of its dead letter, and a detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        """An event can have any number of wrong fields, and each is named: the detail is cut."""
        super().__init__(reason)
        self.reason, self.detail = reason, detail[:MAX_DETAIL]


def body_or_ruling(
    envelope: Envelope, account: Account, provider: Provider, *, first_us: int, granted_us: int
) -> bytes | Dead | Duplicate:
    """What is to be sent for an event; or what becomes of it, since it must not be sent.

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
    except Unfit as unfit:
        return buried(envelope, account.queue, unfit.reason, Verdict(Outcome.REJECTED, unfit.detail))


def _body(envelope: Envelope, account: Account, provider: Provider, first_us: int, granted_us: int) -> bytes:
    if envelope.defect:
        raise Unfit("malformed", envelope.defect)
    event_class = EVENTS.get(envelope.task)
    if event_class is None or event_class.provider != account.provider:
        raise Unfit("malformed", f"unknown task {envelope.task[:80]!r}")
    now_s = granted_us / 1_000_000
    if end := ended(envelope, now_s):
        raise Unfit(end, "its `expires` has passed" if end == "expired" else "")
    longest_s = account.max_wait_s
    if longest_s and (wanted_ms := envelope.wanted_ms) and granted_us / 1000 - wanted_ms > longest_s * 1000:
        raise Unfit("expired", f"it has waited longer than max_wait_s ({longest_s:g})")
    named = envelope.kwargs.get("account", account.name)
    if named != account.name:
        shown = repr(named[:64]) if isinstance(named, str) else f"of type {type(named).__name__}"
        raise Unfit("unknown_account", f"account {shown} in the queue of {account.queue}")
    if "event" not in envelope.kwargs or not envelope.kwargs.keys() <= _ARGUMENTS:
        extra = envelope.kwargs.keys() - _ARGUMENTS
        raise Unfit("malformed", f"unexpected argument {min(extra)[:40]!r}" if extra else "it has no event")
    age_s = now_s - (envelope.enqueued_ms or first_us / 1000) / 1000
    if overdue := provider.overdue(account, event_class.method, age_s):
        raise Unfit("expired", overdue)
    try:
        event = event_class.load(envelope.kwargs["event"], account=account.name)
        # A producer that is not ours may leave the time out. The first grant's time is kept in the
        # message: a retry does not move the event.
        return provider.encode(account, event.with_time(first_us / 1_000_000))
    except InvalidEvent as error:
        raise Unfit("invalid", str(error)) from None


def ended(envelope: Envelope, now_s: float) -> str:
    """Why an event ends without a request.

    Args:
        envelope: The event.
        now_s: Redis' clock, seconds of the epoch.

    Returns:
        ``expired``, or ``revoked`` by its id or by one of its stamps; else nothing.
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
