"""The second engine: ``requests`` in threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from config.accounts import Account
from tasks.request import Answer, HttpRequest, NotSent, Sender, Unanswered
from workers.http.engine import Done, Exchange
from workers.http.requests import RequestsSender


class ThreadEngine:
    """A thread for each request on its way; see :class:`workers.http.engine.Engine`."""

    def __init__(self, at_once: int, sender: Sender | None = None) -> None:
        """No thread runs yet.

        Args:
            at_once: Requests that may be on the wire at once.
            sender: Sends in each thread; None for ``requests``.
        """
        self._sender = sender or RequestsSender()
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="postback-wire")
        self._over: deque[tuple[Done, Exchange]] = deque()
        self._woken = threading.Event()

    def start(self, request: HttpRequest, account: Account, done: Done) -> None:
        """See :class:`workers.http.engine.Engine`."""
        self._threads.submit(self._send, request, account, done)

    def _send(self, request: HttpRequest, account: Account, done: Done) -> None:
        begun = time.monotonic()
        try:
            answer: Answer | NotSent | Unanswered = self._sender.send(request, account)
        except (NotSent, Unanswered) as error:
            answer = error
        except Exception as error:
            # A bug of ours or of the library: the request may have been sent.
            answer = Unanswered(f"Postback's own code failed ({type(error).__name__})")
        self._over.append((done, Exchange(answer, time.monotonic() - begun)))
        self._woken.set()

    def step(self, timeout_s: float) -> None:
        """See :class:`workers.http.engine.Engine`."""
        if not self._over:
            self._woken.wait(timeout_s)
        self._woken.clear()
        while self._over:
            done, exchange = self._over.popleft()
            done(exchange)

    def wake(self) -> None:
        """See :class:`workers.http.engine.Engine`."""
        self._woken.set()

    def close(self) -> None:
        """See :class:`workers.http.engine.Engine`."""
        self._threads.shutdown(wait=False, cancel_futures=True)
