"""Which events somebody looks for."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Query"]


@dataclass(frozen=True, slots=True)
class Query:
    """Which events; all conditions must hold.

    Attributes:
        ids: Any of these ids; empty: all.
        key: The idempotency key as its producer wrote it; None: all.
        user: A person's id as the provider knows it; None: all.
        provider: None: all.
        account: The account's name; None: all.
        task: ``tgtrack.add_event``; None: all.
        outcome: The state an event is in, or has ended in: ``waiting``, ``delayed``, ``in_flight``,
            ``held``, ``delivered``, ``duplicate``, ``dead``, ``cancelled``; None: all.
        since_ms: Something happened to it since then; None: all.
        limit: At most so many events, the latest first; None: all.
    """

    ids: frozenset[str] = field(default_factory=frozenset)
    key: str | None = None
    user: str | None = None
    provider: str | None = None
    account: str | None = None
    task: str | None = None
    outcome: str | None = None
    since_ms: float | None = None
    limit: int | None = None

    @property
    def names_events(self) -> bool:
        """Whether it asks for certain events: by id, key or user."""
        return bool(self.ids) or self.key is not None or self.user is not None
