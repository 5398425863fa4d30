"""What TAKE hands over and what SETTLE takes back: grants and settlements.

The governor (``workers.governor``) fills and empties :data:`REGISTRY`; a Celery task finds its grant there by delivery tag.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tasks.envelopes import Envelope

#: First characters of every grant id, so that kombu's own delivery tags (UUIDs) are never taken for one.
GRANT_PREFIX: Final = "postback:"

#: What an answer says of the provider. ``unknown``: there may have been one, it says nothing. ``none``: nothing was sent.
Health = Literal["ok", "fail", "quota", "refused", "unknown", "none"]


@dataclass(slots=True)
class Settlement:
    """What SETTLE is to do with a grant: see ``workers/lua/settle.lua`` for the verbs."""

    health: Health = "ok"
    #: A few words for operators.
    detail: str = ""
    delivered: int = 0
    #: ``[index from 1, verb, argument, duplicate 0|1, letter]``.
    messages: list[list[Any]] = field(default_factory=list)
    groups: list[list[list[int]]] = field(default_factory=list)
    #: Seconds that a 429 asked for, or None.
    retry_after_s: float | None = None

    def encode(self) -> str:
        """The script's JSON argument; empty for the most common settlement, one healthy answer for all."""
        if self.health == "ok" and not self.messages and not self.groups:
            return "" if self.delivered else '{"health":"ok"}'
        spec: dict[str, Any] = {
            "health": self.health,
            "detail": self.detail,
            "delivered": self.delivered,
            "messages": self.messages,
        }
        if self.groups:
            spec["groups"] = self.groups
        return json.dumps(spec, separators=(",", ":"))

    @property
    def leaves_something(self) -> bool:
        """Whether any of its messages waits for a later time or a later request."""
        return bool(self.groups) or any(line[1] in ("retry", "poll", "later") for line in self.messages)

    @classmethod
    def nothing_sent(cls, indices: Iterable[int]) -> Settlement:
        """Put messages back to the front as they were, uncharged."""
        return cls(health="none", messages=[[index, "back"] for index in indices])


@dataclass(slots=True)
class Grant:
    """Leave to send one HTTP request, with the messages that it carries."""

    id: str
    queue: str
    envelopes: list[Envelope]
    #: Messages of the other half of a refused batch; they wait for what becomes of this half.
    siblings: list[Envelope] = field(default_factory=list)
    #: This is a half of a refused batch and stays together.
    group: bool = False
    #: The account is in outage and this request is its probe.
    outage: bool = False
    #: Time of the grant, microseconds of the Redis clock.
    granted_us: int = 0
    #: ``time.monotonic()`` at which the lease has surely run out.
    lease_end: float = 0.0
    #: Its request is on the wire, or was: it can no longer be put back as if nothing had been sent.
    sent: bool = False
    #: What its task has decided. It is the settlement once all that hangs on its events is published (invariant I3).
    decided: Settlement | None = None
    settlement: Settlement | None = None

    @property
    def everything(self) -> Sequence[int]:
        """Indices of all its messages, siblings included, as SETTLE counts them."""
        return range(1, len(self.envelopes) + len(self.siblings) + 1)

    def put_back(self) -> Settlement:
        """The settlement of a grant whose request was not sent."""
        if not self.group:
            return Settlement.nothing_sent(self.everything)
        own = list(range(1, len(self.envelopes) + 1))
        return Settlement(
            health="none", groups=[[own, [index + len(own) for index in range(1, len(self.siblings) + 1)]]]
        )

    def lease_left_s(self) -> float:
        """Seconds until the lease runs out."""
        return self.lease_end - time.monotonic()


#: Grants in this process, by id.
REGISTRY: Final[dict[str, Grant]] = {}
