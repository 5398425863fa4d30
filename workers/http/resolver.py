"""Looks up host names in threads: a look-up that hangs delays only the requests to its own host."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

#: Seconds for which addresses are used before they are looked up again.
FRESH_S: Final = 60.0
#: Most host names that are remembered.
REMEMBERED: Final = 10_000

#: Called with a host's addresses; an empty list if it has none.
Resolved = Callable[[list[str]], None]
Lookup = Callable[[str, int], list[str]]


def addresses_of(host: str, port: int) -> list[str]:
    """A host's addresses in the order of the machine's resolver; none if there is no such name."""
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


class Resolver:
    """Host names and their addresses. It is called in one thread."""

    def __init__(self, wake: Callable[[], None], lookup: Lookup = addresses_of) -> None:
        """Nothing is looked up yet.

        Args:
            wake: Called after a look-up, in any thread. :meth:`deliver` is to be called then.
            lookup: Looks up a host's addresses; may block.
        """
        self._wake, self._lookup = wake, lookup
        #: Host and port -> addresses, and the time of the look-up (monotonic).
        self._cache: dict[tuple[str, int], tuple[list[str], float]] = {}
        #: Host and port -> callbacks that wait for the look-up.
        self._waiting: dict[tuple[str, int], list[Resolved]] = {}
        self._finished: deque[tuple[tuple[str, int], list[str]]] = deque()

    def ask(self, host: str, port: int, resolved: Resolved) -> None:
        """Call ``resolved`` at once if the addresses are fresh, else in a later :meth:`deliver`."""
        place = (host, port)
        cached = self._cache.get(place)
        if cached and cached[1] + FRESH_S > time.monotonic():
            resolved(cached[0])
            return
        waiting = self._waiting.setdefault(place, [])
        waiting.append(resolved)
        if len(waiting) == 1:
            threading.Thread(target=self._look_up, args=(place,), name="postback-names", daemon=True).start()

    def _look_up(self, place: tuple[str, int]) -> None:
        self._finished.append((place, self._lookup(*place)))
        self._wake()

    def deliver(self) -> None:
        """Call the callbacks of finished look-ups."""
        while self._finished:
            place, addresses = self._finished.popleft()
            if addresses:
                if len(self._cache) >= REMEMBERED:
                    self._cache.clear()
                self._cache[place] = (addresses, time.monotonic())
            for resolved in self._waiting.pop(place, []):
                resolved(addresses)
