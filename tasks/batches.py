"""Requests that carry several events: how many fit, and which is to blame if the provider refuses them all.

A refused batch is halved. The first half is sent, the second waits for it as its *sibling*. If the first half is
delivered, the sibling's guilt is proved by elimination: it is halved at once and never sent whole again. If the first
half is refused, the sibling may be innocent and is sent as a unit of its own. A single guilty event among n costs at
most 2 * ceil(log2 n) extra requests.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.envelopes import Envelope
from tasks.grants import Grant, Half


def fitting(bodies: Sequence[bytes], max_bytes: int) -> int:
    """How many events from the front one JSON array of at most ``max_bytes`` bytes holds; at least 1.

    TAKE counts an upper bound, but cannot know what a raw client's event becomes.
    """
    total = 1
    for count, body in enumerate(bodies):
        total += len(body) + 1
        if count and total > max_bytes:
            return count
    return len(bodies)


def halves_after(grant: Grant, refused: Sequence[Envelope] = (), *, delivered: bool = False) -> list[Half]:
    """What is to be sent next, the first first.

    Args:
        grant: The refused (or, with a sibling, answered) request.
        refused: Events that were refused together, 2 or more; none if they were dealt with otherwise.
        delivered: The grant's own events were all recorded, so that a fault can only be in the sibling.
    """
    halves = [_halved(refused)] if refused else []
    sibling = grant.siblings
    if sibling:
        halves.append(_halved(sibling) if delivered and len(sibling) > 1 else Half(sibling, []))
    return halves


def _halved(events: Sequence[Envelope]) -> Half:
    middle = (len(events) + 1) // 2
    return Half(list(events[:middle]), list(events[middle:]))
