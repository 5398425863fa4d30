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
    """Sockets and what is waited for on each.

    libcurl leaves a connection after each request and comes back with the next: the kernel is told of neither. A socket
    that it has left and that has something to say is taken out.
    """

    def __init__(self) -> None:
        """None yet."""
        self._epoll = select.epoll()
        #: Those that the kernel was told of, with their masks.
        self._known: dict[int, int] = {}
        #: Those that libcurl has left.
        self._left: set[int] = set()

    def watch(self, fd: int, event: int) -> None:
        """Wait for this event, one of ``pycurl.POLL_*``, on a socket from now on."""
        mask = _MASKS[event]
        if fd in self._left:
            self._left.discard(fd)
            try:
                # It may be another socket under the same number: then the kernel knows nothing of it.
                self._epoll.modify(fd, mask)
            except FileNotFoundError:
                self._epoll.register(fd, mask)
        elif fd in self._known:
            if self._known[fd] == mask:
                return
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._known[fd] = mask

    def leave(self, fd: int) -> None:
        """Wait for nothing on a socket, until it is watched again."""
        if fd in self._known:
            self._left.add(fd)

    def wait(self, timeout_s: float) -> Iterator[tuple[int, int]]:
        """Sockets on which something has happened, each with what, as ``pycurl.CSELECT_*``."""
        for fd, mask in self._epoll.poll(timeout_s):
            if fd in self._left:
                self._left.discard(fd)
                self._known.pop(fd, None)
                with contextlib.suppress(OSError):  # closed a moment ago
                    self._epoll.unregister(fd)
                continue
            action = pycurl.CSELECT_IN if mask & ~select.EPOLLOUT else 0
            yield fd, action | (pycurl.CSELECT_OUT if mask & select.EPOLLOUT else 0)

    def close(self) -> None:
        """Wait for nothing more."""
        self._epoll.close()
