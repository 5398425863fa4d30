"""What TAKE hands over and what SETTLE takes back: grants and settlements."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from tasks.envelopes import Envelope
from tasks.rulings import PUT_BACK

#: First characters of every grant id, so that kombu's own delivery tags (UUIDs) are never taken for one.
GRANT_PREFIX: Final = "postback:"

#: What an answer says of the provider.
#: ``unknown``: there may have been one, it says nothing. ``none``: nothing was sent.
Health = Literal["ok", "fail", "quota", "refused", "unknown", "none"]


class Half(NamedTuple):
    """Events of a refused batch that are sent next as one request, and their sibling.

    The sibling waits for what becomes of them. A half says where events go, their rulings say why.
    """

    own: list[Envelope]
    sibling: list[Envelope]


@dataclass(slots=True)
class Settlement:
    """What SETTLE is to do with a grant, besides the rulings on its events."""

    health: Health = "ok"
    #: A few words for operators.
    detail: str = ""
    #: The next to be sent comes first.
    halves: list[Half] = field(default_factory=list)
    #: Seconds that a 429 asked for, or None.
    retry_after_s: float | None = None


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
    #: Whose key and quota it was taken for, as the governor knows it; None in a test.
    identity: object | None = None
    #: ``time.monotonic()`` at which the lease has surely run out.
    lease_end: float = 0.0
    #: Its request is on the wire, or was: it can no longer be put back as if nothing had been sent.
    sent: bool = False
    #: What its task has decided. It is the settlement once all that hangs on its events is published
    #: (invariant I3).
    decided: Settlement | None = None
    settlement: Settlement | None = None

    def put_back(self) -> Settlement:
        """Rule that nothing of it was sent: everything goes back to the front as it was, uncharged."""
        for envelope in self.envelopes:
            envelope.ruling = PUT_BACK
        return Settlement("none", halves=[Half(self.envelopes, self.siblings)] if self.group else [])

    def lease_left_s(self) -> float:
        """Seconds until the lease runs out."""
        return self.lease_end - time.monotonic()


class Grants:
    """The grants that this process holds, by id. Any thread."""

    def __init__(self) -> None:
        """None yet."""
        self._held: dict[str, Grant] = {}
        #: Queue -> how many of it; only of those that have any.
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many."""
        return len(self._held)

    def __iter__(self) -> Iterator[Grant]:
        """All of them, as of now."""
        return iter(list(self._held.values()))

    def __contains__(self, grant_id: str) -> bool:
        """Whether it is held here."""
        return grant_id in self._held

    def get(self, grant_id: str) -> Grant | None:
        """The grant of this id, if it is held here."""
        return self._held.get(grant_id)

    def add(self, grant: Grant) -> None:
        """Hold it from now on."""
        self._held[grant.id] = grant
        self.counts[grant.queue] += 1

    def pop(self, grant_id: str) -> Grant | None:
        """Hold it no longer. Of several threads that ask for one grant, one gets it."""
        grant = self._held.pop(grant_id, None)
        if grant is not None:
            self.counts[grant.queue] -= 1
            if not self.counts[grant.queue]:
                del self.counts[grant.queue]
        return grant

    def of(self, queue: str) -> int:
        """How many of an account."""
        return self.counts[queue]
