"""The quota as TAKE sees it, and how long a backlog takes.

Pure arithmetic: all times are passed in.

An account's log holds the time of each response. A request counts in a window from its grant until
one window after its response; so with `f` requests in flight a window (n, W) lets the next one go
when the (n - f)-th latest response is W old.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from postback.wire.windows import Window

#: Requests that a forecast plays through one by one; what follows repeats the tightest window.
PLAYED: Final = 20_000


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a window is used.

    Attributes:
        used: Requests that count: in flight, or answered less than a window ago.
        resets_in_s: Seconds until the next slot returns; 0 if all are free. At least so long while
            a request in flight is the only one that counts.
        all_back_in_s: Seconds until all slots are free, if nothing is sent.
    """

    window: Window
    used: int
    remaining: int
    resets_in_s: float
    all_back_in_s: float


@dataclass(frozen=True, slots=True)
class Log:
    """An account's quota log at one moment.

    Attributes:
        now_ms: Redis time.
        answered_ms: Times of the latest responses, ascending.
        flying: Requests in flight.
    """

    now_ms: float
    answered_ms: Sequence[float]
    flying: int

    def usage(self, window: Window) -> Usage:
        """What of ``window`` is used now."""
        length = window.padded_ms
        young = self.answered_ms[bisect_right(self.answered_ms, self.now_ms - length) :]
        used = len(young) + self.flying
        if not used:
            return Usage(window, 0, window.limit, 0.0, 0.0)
        next_ms: float = length
        if used < window.limit:
            if young:
                next_ms = young[0] + length - self.now_ms
        elif window.limit > self.flying:
            next_ms = self.answered_ms[self.flying - window.limit] + length - self.now_ms
        last_ms = length if self.flying else young[-1] + length - self.now_ms
        return Usage(window, used, max(0, window.limit - used), next_ms / 1000, last_ms / 1000)

    def drain_s(self, windows: Sequence[Window], requests: int, *, begin_s: float = 0.0) -> float:
        """Seconds until the last of ``requests`` more requests can go out.

        Answers are taken to be immediate.

        Args:
            windows: The account's quota; empty: no limit, 0 s.
            requests: How many, 0 or more.
            begin_s: Seconds before which nothing goes (a pause).
        """
        begin_ms = self.now_ms + begin_s * 1000
        if not requests or not windows:
            return begin_s
        log = [*self.answered_ms, *[self.now_ms] * self.flying]
        rules = [(window.limit, window.padded_ms) for window in windows]
        at = begin_ms
        played = min(requests, PLAYED)
        for _ in range(played):
            for limit, length in rules:
                if len(log) >= limit and log[-limit] + length > at:
                    at = log[-limit] + length
            log.append(at)
        rest = requests - played
        if rest:
            limit, length = max(rules, key=lambda rule: rule[1] / rule[0])
            cycles = -(-rest // limit)
            back = cycles * limit - rest
            # The tightest window repeats itself: request i goes one window after request i - limit.
            at = log[-1 - back] + cycles * length if back < played else at + rest * length / limit
        return (at - self.now_ms) / 1000


def share_s(windows: Sequence[Window], requests: int) -> float:
    """How many seconds' worth of quota so many requests are: 5,000 at 5000/day are a day."""
    return max((requests / window.limit * window.window_s for window in windows), default=0.0)


def read_ring(ring: bytes, sequence: int, size: int) -> list[float]:
    """The quota log's times in ms, ascending.

    Args:
        ring: The packed log, 8 bytes an entry, big-endian doubles.
        sequence: How many responses were ever logged.
        size: How many entries the log has room for.
    """
    times = list(struct.unpack(f">{len(ring) // 8}d", ring[: len(ring) // 8 * 8]))
    if size <= 0:
        return []
    if sequence <= size:
        return times[:sequence]
    start = sequence % size
    return times[start:size] + times[:start]
