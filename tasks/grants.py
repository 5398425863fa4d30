"""What TAKE hands over and what SETTLE takes back: grants and settlements."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from tasks.envelopes import Envelope
from tasks.rulings import PUT_BACK

#: First characters of every grant id.
GRANT_PREFIX: Final = "postback:"

#: What an answer says about the provider. ``unknown``: there may have been an answer, it says
#: nothing. ``none``: nothing was sent.
Health = Literal["ok", "fail", "quota", "refused", "unknown", "none"]


class Half(NamedTuple):
    """Events of a refused batch that are sent next as one request, and the other half.

    The sibling waits for the outcome of this half. A half says where events go; their rulings say
    why.
    """

    own: list[Envelope]
    sibling: list[Envelope]


@dataclass(slots=True)
class Settlement:
    """What SETTLE does with a grant, beside the rulings on its events."""

    health: Health = "ok"
    #: A few words for operators.
    detail: str = ""
    #: The first is sent next.
    halves: list[Half] = field(default_factory=list)
    #: Seconds that a 429 asked for, or None.
    retry_after_s: float | None = None


@dataclass(slots=True)
class Grant:
    """Leave to send one HTTP request, with the messages that the request carries."""

    id: str
    queue: str
    envelopes: list[Envelope]
    #: Messages of the other half of a refused batch. They wait for the outcome of this half.
    siblings: list[Envelope] = field(default_factory=list)
    #: It is a half of a refused batch and stays together.
    group: bool = False
    #: The account is in outage and this request is its probe.
    outage: bool = False
    #: Time of the grant, microseconds of Redis' clock.
    granted_us: int = 0
    #: The governor's identity of the key and quota it was taken for; None in a test.
    identity: object | None = None
    #: ``time.monotonic()`` at which the lease has surely run out.
    lease_end: float = 0.0
    #: Its request is on the wire, or was. It can no longer be put back as if nothing was sent.
    sent: bool = False
    settlement: Settlement | None = None
    #: Its record for the journal; empty: none.
    record: bytes = b""

    def put_back(self) -> Settlement:
        """Rule that nothing was sent: all events go back to the front unchanged and uncharged."""
        for envelope in self.envelopes:
            envelope.ruling = PUT_BACK
        return Settlement("none", halves=[Half(self.envelopes, self.siblings)] if self.group else [])

    def lease_left_s(self) -> float:
        """Seconds until the lease runs out."""
        return self.lease_end - time.monotonic()


def halves_after(grant: Grant, refused: Sequence[Envelope] = (), *, delivered: bool = False) -> list[Half]:
    """The halves to send next, the first first.

    A refused batch is halved. The first half is sent. The second waits for it as its *sibling*.
    If the first half is delivered, a guilty event must be in the sibling: the sibling is halved at
    once and never sent whole again. If the first half is refused, the sibling may be innocent and
    is sent as a unit. One guilty event among n costs at most 2 * ceil(log2 n) extra requests.

    Args:
        grant: The refused request; or an answered one that has a sibling.
        refused: Events that were refused together, 2 or more; none if they have other rulings.
        delivered: All events of the grant were recorded, so a fault can only be in the sibling.
    """
    halves = [_halved(refused)] if refused else []
    sibling = grant.siblings
    if sibling:
        halves.append(_halved(sibling) if delivered and len(sibling) > 1 else Half(sibling, []))
    return halves


def _halved(events: Sequence[Envelope]) -> Half:
    middle = (len(events) + 1) // 2
    return Half(list(events[:middle]), list(events[middle:]))


class Grants:
    """The grants that this process holds, by id. Any thread."""

    def __init__(self) -> None:
        """It holds none yet."""
        self._by_id: dict[str, Grant] = {}
        #: Queue -> number of its grants; only queues that have any.
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        """The number of grants."""
        return len(self._by_id)

    def __iter__(self) -> Iterator[Grant]:
        """All grants, as of now."""
        return iter(list(self._by_id.values()))

    def add(self, grant: Grant) -> None:
        """Hold a grant from now on."""
        self._by_id[grant.id] = grant
        self.counts[grant.queue] += 1

    def pop(self, grant_id: str) -> Grant | None:
        """Hold a grant no longer. If several threads ask for one grant, only one gets it."""
        grant = self._by_id.pop(grant_id, None)
        if grant is not None:
            self.counts[grant.queue] -= 1
            if not self.counts[grant.queue]:
                del self.counts[grant.queue]
        return grant

    def of(self, queue: str) -> int:
        """The number of an account's grants."""
        return self.counts[queue]
