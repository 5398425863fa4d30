"""The sockets that libcurl waits for, in epoll."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterator
from typing import Final

import pycurl

_MASKS: Final = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}


class Sockets:
    """Sockets, and the events that are awaited on each.

    libcurl leaves a connection after each request and returns with the next one. epoll is not told
    of either, which saves two system calls. A socket that was left is removed when it has an event.
    """

    def __init__(self) -> None:
        """It has no sockets yet."""
        self._epoll = select.epoll()
        #: Sockets in epoll, with their masks.
        self._masks: dict[int, int] = {}
        #: Sockets that libcurl has left.
        self._left: set[int] = set()

    def watch(self, fd: int, event: int) -> None:
        """Wait on a socket for this event, one of ``pycurl.POLL_*``."""
        mask = _MASKS[event]
        if fd in self._left:
            self._left.discard(fd)
            try:
                # Another socket may have the same number. Then it is not in epoll.
                self._epoll.modify(fd, mask)
            except FileNotFoundError:
                self._epoll.register(fd, mask)
        elif fd in self._masks:
            if self._masks[fd] == mask:
                return
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._masks[fd] = mask

    def leave(self, fd: int) -> None:
        """Stop waiting on a socket until it is watched again."""
        if fd in self._masks:
            self._left.add(fd)

    def wait(self, timeout_s: float) -> Iterator[tuple[int, int]]:
        """Sockets with events, each with its events as ``pycurl.CSELECT_*``."""
        for fd, mask in self._epoll.poll(timeout_s):
            if fd in self._left:
                self._left.discard(fd)
                self._masks.pop(fd, None)
                with contextlib.suppress(OSError):  # closed a moment ago
                    self._epoll.unregister(fd)
                continue
            action = pycurl.CSELECT_IN if mask & ~select.EPOLLOUT else 0
            yield fd, action | (pycurl.CSELECT_OUT if mask & select.EPOLLOUT else 0)

    def close(self) -> None:
        """Close epoll."""
        self._epoll.close()
