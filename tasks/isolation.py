"""Finding the guilty events of a refused batch by halving it.

A refused batch is split; the first half is sent, the second waits for it as its *sibling*. If the first half is delivered, the sibling's guilt is
proved by elimination, so it is split at once and never sent whole again. If the first half is refused, the sibling may be innocent and is
sent as a unit of its own. A single guilty event among n costs at most 2 * ceil(log2 n) extra requests.
"""

from __future__ import annotations

from tasks.grants import Grant, Settlement


def split(grant: Grant, refused: list[int], settlement: Settlement, *, own_delivered: bool = False) -> None:
    """Add to ``settlement.groups`` what is to be sent next.

    Args:
        grant: The refused (or, with siblings, answered) request.
        refused: Positions of the events that were refused together, 2 or more; empty if they were dealt with otherwise.
        settlement: Its ``groups`` are extended; the first is sent first.
        own_delivered: The grant's own events were all recorded, so that a fault can only be in the sibling.
    """
    if refused:
        settlement.groups.append(_halves([position + 1 for position in refused]))
    own = len(grant.envelopes)
    sibling = [own + index for index in range(1, len(grant.siblings) + 1)]
    if not sibling:
        return
    settlement.groups.append(_halves(sibling) if own_delivered and len(sibling) > 1 else [sibling, []])


def _halves(indices: list[int]) -> list[list[int]]:
    middle = (len(indices) + 1) // 2
    return [indices[:middle], indices[middle:]]
