"""Fixed quota windows of unknown phase, as a provider keeps them.

"The counter is reset each second, hour or day" does not say when a second, hour or day begins, and
a client's clock is not the provider's. Each (key, window) therefore has a phase of its own, random
but reproducible from the seed. Every request counts when it arrives, also one that is refused:
hammering a provider that says 429 does not help.

Source: tgtrack-bot-api, "Лимиты на использование API".
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from postback.wire.windows import Window, parse_windows


def parse_limits(text: str | None) -> tuple[Window, ...]:
    """Read ``"3/second; 500/hour; 5000/day"`` or ``"20 per 10 seconds"``.

    An empty text or None means no limit.

    Raises:
        ValueError: the text is not in that notation.
    """
    if not text or not text.strip():
        return ()
    try:
        return parse_windows(text)
    except ValueError as error:
        raise ValueError(f'limits: "{text}" {error}') from None


@dataclass(slots=True)
class _Counter:
    limit: Window
    phase_s: float
    window: float = -math.inf
    used: int = 0


class Windows:
    """The counters of all keys.

    Args:
        clock: seconds, never going back.
        seed: makes the phases reproducible; None draws them anew.
    """

    def __init__(self, clock: Callable[[], float], seed: int | None = None) -> None:
        self._clock = clock
        self._seed = random.SystemRandom().getrandbits(64) if seed is None else seed
        self._lock = threading.Lock()
        self._counters: dict[tuple[str, ...], list[_Counter]] = {}

    def count(self, bucket: tuple[str, ...], limits: tuple[Window, ...]) -> Window | None:
        """Count one request now; return the limit that it exceeds, or None."""
        if not limits:
            return None
        exceeded = None
        with self._lock:
            now = self._clock()
            counters = self._counters.get(bucket)
            if counters is None or tuple(counter.limit for counter in counters) != limits:
                counters = self._counters[bucket] = self._fit(bucket, limits)
            for counter in counters:
                window = math.floor((now - counter.phase_s) / counter.limit.window_s)
                if window != counter.window:
                    counter.window, counter.used = window, 0
                counter.used += 1
                if counter.used > counter.limit.limit and exceeded is None:
                    exceeded = counter.limit
        return exceeded

    def phase_s(self, bucket: tuple[str, ...], window_s: float) -> float:
        """Where the bucket's windows begin.

        A window starts at each ``phase + n * window_s`` of the clock.
        """
        return random.Random(f"{self._seed}/{'/'.join(bucket)}/{window_s:g}").random() * window_s

    def clear(self) -> None:
        """Forget what was used.

        Phases stay: a client that is right about the old counters is right about the new ones.
        """
        with self._lock:
            self._counters.clear()

    def _fit(self, bucket: tuple[str, ...], limits: tuple[Window, ...]) -> list[_Counter]:
        """Counters for new limits, keeping what old windows of the same length have counted."""
        old = {counter.limit.window_s: counter for counter in self._counters.get(bucket, ())}
        fitted = []
        for limit in limits:
            known = old.get(limit.window_s)
            fitted.append(
                _Counter(limit, known.phase_s, known.window, known.used)
                if known
                else _Counter(limit, self.phase_s(bucket, limit.window_s))
            )
        return fitted
