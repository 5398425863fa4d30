"""How requests go out: one ``requests.Session`` per thread, with a time limit to connect and one in all.

``requests`` works out how to reach a URL (its form, proxies and certificates of the environment, the pool of connections) anew for each request. Here
it does so once for each URL of a thread, and the request itself is urllib3's: a third of the processor time (ADR 14).

``requests`` has no limit in all: a server that sends a byte now and then holds a thread, and with it a lease, for ever. A watchdog shuts such a
connection down, and a silent one.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, PoolManager

from config.accounts import Account
from tasks.request import Answer, HttpRequest, NotSent, Unanswered

#: Bytes of an answer that are read; TonAPI's largest events are some hundred kilobytes.
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
#: Seconds between two looks of the watchdog, so the total limit is met to this precision.
WATCH_S: Final = 0.1
#: Hosts for which a thread's session keeps a pool; one that a route goes to is kept with the route.
POOL_SIZE: Final = 4

#: URLs of which each thread knows the way; look-ups have a URL each.
MAX_ROUTES: Final = 64
#: A request is sent once: repeating it is the delivery's business. Errors come as they are.
ONCE: Final = urllib3.Retry(False)

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
    """Mixed into urllib3's connections: watched, and a request leaves as one piece.

    http.client sends the head first and then the body: two system calls, two packets, two TLS records.
    """

    sock: Any
    _pieces: list[bytes] | None = None

    def connect(self) -> None:
        _watchdog.begin(self)
        super().connect()  # type: ignore[misc]

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
            if time.monotonic() >= _local.deadline:
                # No time-out holds for a resolver, and the lease may be over by now.
                raise urllib3.exceptions.ConnectTimeoutError(self, "out of time")
        _watchdog.begin(self)
        self._pieces = []
        try:
            super().request(*args, **kwargs)  # type: ignore[misc]
            whole = b"".join(self._pieces)
        finally:
            self._pieces = None
        # The connection stands, its handshake is over: whatever fails from here on, the request may have arrived.
        _local.begun = True
        self.send(whole)

    def send(self, data: Any) -> None:
        if self._pieces is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._pieces.append(data)


@cache
def _watched(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """The same kind of pool, whether it is urllib3's own or that of a SOCKS proxy, over watched connections."""
    if issubclass(pool.ConnectionCls, _Watched):
        return pool
    connection = type(f"Watched{pool.ConnectionCls.__name__}", (_Watched, pool.ConnectionCls), {})
    return type(f"Watched{pool.__name__}", (pool,), {"ConnectionCls": connection})


def _watch_all(manager: PoolManager) -> None:
    classes = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _watched(pool) for scheme, pool in classes.items()}


#: What keeps a request from being sent, the special before the general.
_NOT_SENT: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...]] = (
    (urllib3.exceptions.ProxyError, "the proxy refused"),
    (urllib3.exceptions.SSLError, "TLS failed"),
    (urllib3.exceptions.NameResolutionError, "name not found"),
    (urllib3.exceptions.NewConnectionError, "connection refused"),
    (urllib3.exceptions.TimeoutError, "connect timeout"),
    ((requests.RequestException, urllib3.exceptions.LocationValueError), "the request cannot be built"),
)


@dataclass(frozen=True, slots=True)
class _Route:
    """Where the requests of one URL go.

    Attributes:
        asked: The headers that it was made for.
        pool: Its connections.
        target: Path and query; for a proxy that does not tunnel, the whole URL.
        headers: As they are sent.
    """

    asked: Mapping[str, str]
    pool: HTTPConnectionPool
    target: str
    headers: dict[str, str]


class _Adapter(HTTPAdapter):
    """``requests``' adapter, over watched connections."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _watch_all(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        _watch_all(manager)
        return manager

    def route(self, request: HttpRequest, settings: Mapping[str, Any]) -> _Route:
        """All that is the same for each request to this URL.

        Args:
            request: The request.
            settings: Proxies and certificates of the environment.

        Raises:
            requests.RequestException, urllib3.exceptions.HTTPError: No request can be made of it.
        """
        prepared = requests.Request(request.method, request.url, headers=dict(request.headers)).prepare()
        # It is each body's own; urllib3 counts it.
        prepared.headers.pop("Content-Length", None)
        verify = True if settings["verify"] is None else settings["verify"]
        pool: Any = self.get_connection_with_tls_context(prepared, verify, settings["proxies"])
        self.cert_verify(pool, request.url, verify, None)  # type: ignore[no-untyped-call]
        target = self.request_url(prepared, settings["proxies"])
        return _Route(request.headers, pool, target, dict(prepared.headers.items()))


class _Routes:
    """One thread's session and the ways that it knows."""

    def __init__(self) -> None:
        self._session = requests.Session()
        self._adapter = _Adapter(pool_connections=POOL_SIZE, pool_maxsize=1, max_retries=0)
        #: By an account's address: proxies and CA bundles of the environment.
        self._settings: dict[str, Mapping[str, Any]] = {}
        self._known: dict[tuple[str, str], _Route] = {}

    def of(self, request: HttpRequest, account: Account) -> _Route:
        """The way of a request."""
        route = self._known.get((request.method, request.url))
        if route is None or route.asked != request.headers:
            settings = self._settings.get(account.base_url)
            if settings is None:
                settings = self._session.merge_environment_settings(account.base_url, {}, None, None, None)
                self._settings[account.base_url] = settings
            if len(self._known) >= MAX_ROUTES:
                self._known.clear()
            route = self._known[request.method, request.url] = self._adapter.route(request, settings)
        return route


class RequestsSender:
    """Sends what ``requests`` has prepared. Safe to use from many threads; each keeps its own session and its connections."""

    def send(self, request: HttpRequest, account: Account) -> Answer:
        """See :class:`tasks.request.Sender`. No exception names the URL, which may hold a key."""
        deadline = time.monotonic() + account.timeout_s
        _local.deadline = deadline
        _local.begun = False
        try:
            route = self._routes().of(request, account)
            response = route.pool.urlopen(
                request.method,
                route.target,
                body=request.body,
                headers=route.headers,
                # The watchdog ends a silence too; a time-out of the socket's own would cost a system call for each of ours.
                timeout=urllib3.Timeout(connect=min(account.connect_timeout_s, account.timeout_s), read=None),
                retries=ONCE,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                body = response.read(MAX_ANSWER_BYTES + 1, decode_content=True)
            finally:
                # With the body read to its end the connection has gone back to its pool; otherwise this ends it.
                response.close()
        except Exception as error:
            raise _fact(error, deadline) from None
        finally:
            _watchdog.end()
            _local.deadline = None
        if len(body) > MAX_ANSWER_BYTES:
            raise Unanswered("the answer is too large")
        return Answer(response.status, response.headers, body)

    def _routes(self) -> _Routes:
        routes: _Routes | None = getattr(_local, "routes", None)
        if routes is None:
            routes = _local.routes = _Routes()
        return routes


def _fact(error: BaseException, deadline: float) -> NotSent | Unanswered:
    """Whether the request may have arrived, and what went wrong."""
    late = time.monotonic() >= deadline - WATCH_S / 2
    if _local.begun:
        return Unanswered("no answer in time" if late else "connection lost")
    known = (words for kinds, words in _NOT_SENT if isinstance(error, kinds))
    return NotSent("connect timeout" if late else next(known, "no connection"))
