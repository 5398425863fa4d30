"""What a dead letter says, and which of them an operator means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from postback._events.account_names import is_account_name
from postback.operations.messages import Message, read_message, text_of
from postback.wire.state import STATE_HEADER, DeliveryState
from postback.wire.time import iso, moment

__all__ = ["REASONS", "Filter", "Letter", "read_letter"]

#: Reasons that workers write. A letter of another edition may have another one.
REASONS: Final = frozenset(
    {
        "rejected", "invalid", "malformed", "unknown_account", "expired", "exhausted", "ambiguous", "not_final", "crashed",
        "revoked",
    }
)  # fmt: skip

#: Longest piece of an entry that is no message, in characters.
RAW_CHARS: Final = 2000


@dataclass(slots=True)
class Letter:
    """One dead letter.

    Attributes:
        message: Its entry in the list.
        provider: Whose list it is in.
        header: Its header ``postback_dead``; empty if no worker has buried it.
    """

    message: Message
    provider: str
    header: dict[str, Any] = field(default_factory=dict)
    _kwargs: dict[str, Any] | None = None

    @property
    def reason(self) -> str:
        """Reason code; ``malformed`` for an entry without the header."""
        return text_of(self.header.get("reason")) or "malformed"

    @property
    def kwargs(self) -> dict[str, Any]:
        """The task's arguments, read once."""
        if self._kwargs is None:
            self._kwargs = {} if self.message.original is not None else self.message.kwargs()
        return self._kwargs

    @property
    def account(self) -> str:
        """The account whose queue it came from; empty if the entry does not say it."""
        provider, _, name = self.message.queue.partition(".")
        if provider == self.provider and is_account_name(name):
            return name
        named = text_of(self.kwargs.get("account"))
        return named if is_account_name(named) else ""

    @property
    def enqueued_at(self) -> str | None:
        """When the producer enqueued it, ISO 8601."""
        noted = text_of(self.header.get("enqueued_at"))
        at = self.message.headers.get("postback_at")
        return noted or (iso(at) if isinstance(at, int) and 0 < at < 1 << 47 else None)

    @property
    def failed_at(self) -> str | None:
        """When it became a dead letter, ISO 8601."""
        return text_of(self.header.get("failed_at")) or None

    @property
    def possible_duplicate(self) -> bool:
        """Whether an attempt may have been recorded."""
        state = DeliveryState.parse(self.message.headers.get(STATE_HEADER))
        return bool(self.header.get("possible_duplicate")) or state.duplicate

    @property
    def key(self) -> object:
        """What it has in common with itself if it dies again."""
        return self.message.id or self.message.original or self.message.raw

    def as_json(self) -> dict[str, Any]:
        """For machines, with the whole event. What is no message has its text under ``raw``."""
        shown = {
            "id": self.message.id or None,
            "task": self.message.task or None,
            "provider": self.provider,
            "account": self.account or None,
            "event": self.kwargs.get("event"),
            "reason": self.reason,
            "status": self.header.get("status"),
            "detail": text_of(self.header.get("detail")),
            "attempts": self.header.get("attempts", 0),
            "enqueued_at": self.enqueued_at,
            "failed_at": self.failed_at,
            "possible_duplicate": self.possible_duplicate,
        }
        original = self.message.original
        if original is not None or not self.message.document:
            shown["raw"] = (original or self.message.raw).decode("utf-8", "replace")[:RAW_CHARS]
        return shown


@dataclass(frozen=True)
class Filter:
    """Which dead letters; all conditions must hold.

    Attributes:
        ids: Any of these ids; empty: all.
        reasons: Any of these reason codes; empty: all.
        account: Of this account only.
        older_than_s: Dead for longer than this; then letters that do not say when they died do not
            pass.
        limit: At most so many, the oldest first.
    """

    ids: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    account: str | None = None
    older_than_s: float | None = None
    limit: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it lets everything pass."""
        return not self.ids and not self.reasons and self.account is None and self.older_than_s is None

    def takes(self, letter: Letter, now_ms: float) -> bool:
        """Whether the letter passes; the limit does not count here."""
        if self.ids and letter.message.id not in self.ids:
            return False
        if self.reasons and letter.reason not in self.reasons:
            return False
        if self.older_than_s is not None:
            failed_s = moment(letter.failed_at)
            if failed_s is None or now_ms / 1000 - failed_s <= self.older_than_s:
                return False
        return self.account is None or letter.account == self.account


def read_letter(raw: bytes, provider: str) -> Letter:
    """Read an entry of a dead-letter list; never raises."""
    message = read_message(raw)
    header = message.headers.get("postback_dead")
    return Letter(message, provider, header if isinstance(header, dict) else {})
