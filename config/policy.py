"""A provider's policy: where it is, what it asks for, how fast, and when to give up.

A policy holds the defaults of a provider's accounts; the accounts file may override most of them.
Each number has its ``Source:`` (a provider's document and section) or says that it is a decision of
ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from postback.wire.windows import Window

#: Seconds in a day.
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Credential:
    """A key of the accounts file that says who we are to the provider."""

    name: str
    #: Where it travels, hence which characters it may have: a URL path segment, an HTTP header, a
    #: JSON text, or a whole number in a URL.
    place: Literal["path", "header", "text", "number"]
    required: bool = True


T = TypeVar("T", bool, int, float, str)


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """A key of the accounts file that one provider's accounts have and no other's.

    Its default says what it is: true or false, a whole number, a number, or a word.
    ``account.own(SETTING)`` reads it.
    """

    name: str
    default: T
    #: Bounds of a number, both allowed.
    low: float = 0
    high: float = 0
    #: Of which a word is one.
    words: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What holds for all accounts of one provider unless an account overrides it.

    Times are in seconds.
    """

    provider: str
    credentials: tuple[Credential, ...]
    #: Environment name -> scheme and host. A provider with one host has it under ``""``; a provider
    #: with several has no default among them.
    base_urls: Mapping[str, str]
    #: Path that people may append to ``base_url``, as providers' documents do; it is taken off, the
    #: task adds it.
    version_path: str = ""

    #: Quota windows of an account with all its credentials; empty: the provider names no limit.
    windows: tuple[Window, ...] = ()
    #: Quota windows of an account that leaves an optional credential out.
    anonymous_windows: tuple[Window, ...] = ()

    #: Events in one request, default and most; 1 and 1 where the provider has no batch form.
    batch_max: int = 1
    batch_limit: int = 1
    #: Bytes of a batch's JSON body as sent (UTF-8), default and most. A single event goes out
    #: whatever its size: the event's class has checked it. Decision for all but myTracker: one cap
    #: for everyone, small enough to log, store and replay.
    max_bytes: int = 10_000
    max_bytes_limit: int = 1_000_000
    #: How long an incomplete batch waits for companions. Decision: unnoticed by people, and 20
    #: times fewer requests under load.
    linger_s: float = 1.0

    #: Decision: no provider names a time limit. A healthy answer takes under a second; ten of them
    #: show a provider that will not answer.
    connect_timeout_s: float = 5.0
    #: The whole request, name look-up to the last byte.
    timeout_s: float = 10.0
    #: How long a taken message is held before it counts as lost with its worker. Decision:
    #: timeout_s, the pool's wait, and room for a slow settle.
    lease_s: float = 30.0

    #: Attempts of one event that failed by its own fault or the provider's; waiting for a quota is
    #: none. Decision: with doubling from 1 s, some minutes.
    max_attempts: int = 8
    #: First back-off; it doubles, with full jitter, up to ``backoff_max_s``. Decision.
    backoff_s: float = 1.0
    backoff_max_s: float = 300.0
    #: Failures in a row after which the account counts as in outage and is probed instead of tried.
    #: Decision: two could be chance, five are not.
    outage_after: int = 5
    #: True: after a failure the account pauses for the back-off and the same event is tried again
    #: before any other one.
    retry_in_place: bool = False

    #: First and longest wait between two looks at an answer that is not final; doubling. Decision:
    #: a TON trace takes some 5 to 30 s.
    poll_s: float = 2.0
    poll_max_s: float = 30.0
    #: When a look-up that is still not final is given up (``not_final``). Decision.
    deadline_s: float = 600.0
    #: When an event that never got through is given up (``exhausted``). Decision: longer than a
    #: holiday, shorter than anyone's interest.
    max_age_s: float = 7 * DAY_S
    #: Whether an event without a trustworthy answer is sent again (at least once) or becomes a dead
    #: letter (at most once). Decision: a lost conversion costs more than a double one, which is
    #: flagged ``possible_duplicate``.
    on_ambiguous: Literal["send", "dead"] = "send"
    #: How long an idempotency key is remembered. Decision: as long as an event may live.
    dedup_s: float = 7 * DAY_S
    #: What only this provider's accounts can set.
    own: tuple[Setting[Any], ...] = ()

    def windows_for(self, names: Collection[str]) -> tuple[Window, ...]:
        """Quota windows of an account with the credentials ``names``."""
        complete = all(credential.name in names for credential in self.credentials)
        return self.windows if complete else self.anonymous_windows
