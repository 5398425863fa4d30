"""Looks up host names beside the wire: a look-up that hangs delays the requests to its own host only."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

#: Seconds for which addresses are used before they are looked up again.
FRESH_S: Final = 60.0
#: Host names that are remembered.
REMEMBERED: Final = 10_000

#: Told of a host's addresses, or of none if there are none.
Found = Callable[[list[str]], None]
Lookup = Callable[[str, int], list[str]]


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a host, as the machine's resolver orders them; none if it has no such name."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Names:
    """Host names and their addresses. Called in one thread, except ``wake``."""

    def __init__(self, wake: Callable[[], None], lookup: Lookup = addresses_of) -> None:
        """Nothing is looked up yet.

        Args:
            wake: Called in any thread when something was found: :meth:`deliver` is to be called.
            lookup: Looks up a host's addresses; may block.
        """
        self._wake, self._lookup = wake, lookup
        #: Host and port -> addresses, and when they were found (monotonic).
        self._known: dict[tuple[str, int], tuple[list[str], float]] = {}
        #: Who waits for which look-up.
        self._waiting: dict[tuple[str, int], list[Found]] = {}
        self._found: deque[tuple[tuple[str, int], list[str]]] = deque()

    def ask(self, host: str, port: int, found: Found) -> None:
        """Tell ``found`` the addresses: at once if they are known, else in a later :meth:`deliver`."""
        place = (host, port)
        known = self._known.get(place)
        if known and known[1] + FRESH_S > time.monotonic():
            found(known[0])
            return
        waiting = self._waiting.setdefault(place, [])
        waiting.append(found)
        if len(waiting) == 1:
            threading.Thread(target=self._look_up, args=(place,), name="postback-names", daemon=True).start()

    def _look_up(self, place: tuple[str, int]) -> None:
        self._found.append((place, self._lookup(*place)))
        self._wake()

    def deliver(self) -> None:
        """Tell those who wait what was found."""
        while self._found:
            place, addresses = self._found.popleft()
            if addresses:
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[place] = (addresses, time.monotonic())
            for found in self._waiting.pop(place, []):
                found(addresses)
