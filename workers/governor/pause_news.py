"""The line for operators when an account pauses or goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from postback.wire.time import iso

_PAUSES: Final = {
    "credentials": "the provider refuses its key",
    "quota": "the provider says that its quota is spent",
    "outage": "the provider fails",
    "operator": "an operator has paused it",
}


@dataclass(frozen=True, slots=True)
class PauseNews:
    """An account has paused, or goes on. One worker reports it."""

    queue: str
    #: ``credentials``, ``quota``, ``outage``, ``operator``; empty when it goes on.
    reason: str
    #: A few words of the provider or of the operator.
    detail: str
    #: When the pause ends by itself, ms of the epoch; None: an operator must resume it.
    until_ms: int | None

    @classmethod
    def of(cls, queue: str, pause: Mapping[str, Any]) -> Self:
        """From TAKE's reply."""
        reason, detail = (pause[name].decode("utf-8", "replace") for name in ("reason", "detail"))
        return cls(queue, reason, detail, pause.get("until_ms"))

    def __str__(self) -> str:
        """One line for operators: what, why, until when, what to do."""
        if not self.reason:
            return f"{self.queue} is no longer paused"
        words = f"{self.queue} is paused: {_PAUSES.get(self.reason, self.reason)}"
        words += f" ({self.detail})" if self.detail else ""
        if self.until_ms is not None:
            return f"{words}; its events wait, and the pause ends by itself at {iso(self.until_ms)}"
        remedy = "correct its key in the accounts file, or " if self.reason == "credentials" else ""
        return f"{words}; its events wait: {remedy}`postback resume {self.queue}`"
