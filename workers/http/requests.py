"""Sends with ``requests``: a session per thread, with a limit to connect and a total time limit.

``requests`` has no total limit: a server that sends a byte now and then holds a thread, and with it
a lease, for ever. A watchdog shuts such a connection down, and a silent one.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, PoolManager

from config.accounts import Account
from tasks.request import Answer, HttpRequest, NotSent, Unanswered

#: Most bytes of an answer. TonAPI's largest events have some hundred kilobytes.
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
#: Seconds between two checks of the watchdog: the precision of the total limit.
WATCH_S: Final = 0.1

_local = threading.local()


class Watchdog:
    """Shuts the connection of any request that is out of time."""

    def __init__(self) -> None:
        """No thread runs until the first request."""
        self._deadlines: dict[int, tuple[float, _Watched]] = {}
        self._lock = threading.Lock()
        self._started = False
        self._busy = threading.Event()

    def begin(self, connection: _Watched) -> None:
        """The current thread's request goes over ``connection``."""
        deadline = getattr(_local, "deadline", None)
        if deadline is None:
            return
        with self._lock:
            self._deadlines[threading.get_ident()] = (deadline, connection)
            if not self._started:
                self._started = True
                threading.Thread(target=self._watch, name="postback-watchdog", daemon=True).start()
        if not self._busy.is_set():
            self._busy.set()

    def end(self) -> None:
        """The current thread's request is over."""
        with self._lock:
            self._deadlines.pop(threading.get_ident(), None)

    def _watch(self) -> None:
        while True:
            self._busy.wait()
            time.sleep(WATCH_S)
            now = time.monotonic()
            with self._lock:
                if not self._deadlines:
                    self._busy.clear()
                for ident, (deadline, connection) in list(self._deadlines.items()):
                    if deadline <= now:
                        del self._deadlines[ident]
                        _shut(connection)


def _shut(connection: _Watched) -> None:
    sock = connection.sock
    if sock is not None:
        # Closed meanwhile, or its TLS is.
        with contextlib.suppress(OSError, ValueError):
            sock.shutdown(socket.SHUT_RDWR)


_watchdog = Watchdog()


class _Watched:
    """Mixed into urllib3's connections: the watchdog sees them, and they note a request's start."""

    sock: Any

    def connect(self) -> None:
        _watchdog.begin(self)
        super().connect()  # type: ignore[misc]

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
            if time.monotonic() >= _local.deadline:
                # The resolver obeys no time-out. The lease may be over by now.
                raise urllib3.exceptions.ConnectTimeoutError(self, "out of time")
        _watchdog.begin(self)
        # The connection and its handshake are complete. If anything fails from here on, the request
        # may have arrived.
        _local.begun = True
        super().request(*args, **kwargs)  # type: ignore[misc]


@cache
def _watched(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """The same kind of pool with watched connections, of urllib3's own or for a SOCKS proxy."""
    if issubclass(pool.ConnectionCls, _Watched):
        return pool
    connection = type(f"Watched{pool.ConnectionCls.__name__}", (_Watched, pool.ConnectionCls), {})
    return type(f"Watched{pool.__name__}", (pool,), {"ConnectionCls": connection})


def _watch_all(manager: PoolManager) -> None:
    classes = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _watched(pool) for scheme, pool in classes.items()}


#: Errors before a request is sent, the special before the general.
_NOT_SENT: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...]] = (
    (urllib3.exceptions.ProxyError, "the proxy refused"),
    (urllib3.exceptions.SSLError, "TLS failed"),
    (urllib3.exceptions.NameResolutionError, "name not found"),
    (urllib3.exceptions.NewConnectionError, "connection refused"),
    (urllib3.exceptions.TimeoutError, "connect timeout"),
    ((ValueError, urllib3.exceptions.LocationValueError), "the request cannot be built"),
)


class _Adapter(HTTPAdapter):
    """``requests``' adapter, over watched connections."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _watch_all(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        _watch_all(manager)
        return manager


def _session() -> requests.Session:
    """The current thread's."""
    session: requests.Session | None = getattr(_local, "session", None)
    if session is None:
        session = _local.session = requests.Session()
        session.mount("http://", _Adapter())
        session.mount("https://", _Adapter())
        # No cookie of an answer and no file of this machine reaches another account's request.
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.auth = lambda request: request
    return session


class RequestsSender:
    """Sends with ``requests``. Any thread; each keeps its own session and connections."""

    def send(self, request: HttpRequest, account: Account) -> Answer:
        """See :class:`tasks.request.Sender`. No exception names the URL, which may hold a key."""
        deadline = time.monotonic() + account.timeout_s
        _local.deadline = deadline
        _local.begun = False
        try:
            response = _session().request(
                request.method,
                request.url,
                data=request.body,
                headers=request.headers,
                # The watchdog ends a silence.
                timeout=(min(account.connect_timeout_s, account.timeout_s), None),
                allow_redirects=False,
                stream=True,
            )
            try:
                body = response.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
            finally:
                # After the whole body the connection is back in its pool. Else this closes it.
                response.close()
        except Exception as error:
            raise _failure(error, deadline) from None
        finally:
            _watchdog.end()
            _local.deadline = None
        if len(body) > MAX_ANSWER_BYTES:
            raise Unanswered("the answer is too large")
        return Answer(response.status_code, response.headers, body)


def _failure(error: Exception, deadline: float) -> NotSent | Unanswered:
    """What went wrong, and whether the request may have arrived."""
    late = time.monotonic() >= deadline - WATCH_S / 2
    if _local.begun:
        return Unanswered("no answer in time" if late else "connection lost")
    # requests and urllib3's retries each wrap the error.
    for _ in range(2):
        inner = getattr(error, "reason", None) or next(iter(error.args), None)
        error = inner if isinstance(inner, Exception) else error
    words = (text for kinds, text in _NOT_SENT if isinstance(error, kinds))
    return NotSent("connect timeout" if late else next(words, "no connection"))
