"""How requests go out: one ``requests.Session`` per thread, with connect, read and total time limits.

``requests`` has no total limit: a server that sends a byte now and then holds a thread, and with it a lease, for ever. A watchdog shuts such a
connection down.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from config.accounts import Account
from tasks.exchange import Answer, HttpRequest, NotSent, Unanswered

#: Bytes of an answer that are read; TonAPI's largest events are some hundred kilobytes.
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
#: Seconds between two looks of the watchdog, so the total limit is met to this precision.
WATCH_S: Final = 0.1
#: Idle connections kept by each thread; more than the accounts that a worker serves at one time is waste.
POOL_SIZE: Final = 4

#: Prepared requests kept by each thread; look-ups have a URL each.
MAX_TEMPLATES: Final = 64

_local = threading.local()


class Watchdog:
    """Shuts the connection of any request that is out of time."""

    def __init__(self) -> None:
        """No thread runs until the first request."""
        self._deadlines: dict[int, tuple[float, HTTPConnection]] = {}
        self._lock = threading.Lock()
        self._started = False
        self._busy = threading.Event()

    def begin(self, connection: HTTPConnection) -> None:
        """The current thread's request goes over ``connection``."""
        deadline = getattr(_local, "deadline", None)
        if deadline is None:
            return
        with self._lock:
            self._deadlines[threading.get_ident()] = (deadline, connection)
            if not self._started:
                self._started = True
                threading.Thread(target=self._watch, name="postback-watchdog", daemon=True).start()
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


def _shut(connection: HTTPConnection) -> None:
    sock = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(2)


_watchdog = Watchdog()


class _WatchedHTTP(HTTPConnection):
    def request(self, *args: Any, **kwargs: Any) -> None:
        _watchdog.begin(self)
        super().request(*args, **kwargs)


class _WatchedHTTPS(HTTPSConnection):
    def request(self, *args: Any, **kwargs: Any) -> None:
        _watchdog.begin(self)
        super().request(*args, **kwargs)


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPS


class _WatchedAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


class RequestsSender:
    """Sends with ``requests``. Safe to use from many threads; each keeps its own session and its connections."""

    def send(self, request: HttpRequest, account: Account) -> Answer:
        """See :class:`tasks.exchange.Sender`. No exception names the URL, which may hold a key."""
        session = self._session(account.base_url)
        deadline = time.monotonic() + account.timeout_s
        _local.deadline = deadline
        try:
            prepared = self._prepared(request)
            # The session's adapter, and not its `send`, which keeps cookies and works out redirects: neither is wanted of a provider.
            response = session.get_adapter(request.url).send(
                prepared,
                timeout=(min(account.connect_timeout_s, account.timeout_s), account.timeout_s),
                stream=True,
                verify=True if session.verify is None else session.verify,
                proxies=_local.proxies.get(account.base_url),
            )
            try:
                body = response.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
            finally:
                # With the body read to its end this gives the connection back; otherwise it closes it.
                response.close()
        except Exception as error:
            raise _fact(error, deadline) from None
        finally:
            _watchdog.end()
            _local.deadline = None
        if len(body) > MAX_ANSWER_BYTES:
            raise Unanswered("the answer is too large")
        return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)

    def _prepared(self, request: HttpRequest) -> requests.PreparedRequest:
        """``requests``' own preparation, done once for each URL of a thread: an account posts to a handful of them."""
        templates: dict[tuple[str, str], tuple[Any, requests.PreparedRequest]] = _local.templates
        known = templates.get((request.method, request.url))
        if known is None or known[0] != request.headers:
            template = requests.Request(request.method, request.url, headers=dict(request.headers)).prepare()
            if len(templates) >= MAX_TEMPLATES:
                templates.clear()
            known = templates[request.method, request.url] = (request.headers, template)
        prepared = known[1].copy()
        if request.body is not None:
            prepared.prepare_body(request.body, None)
        return prepared

    def _session(self, base_url: str) -> requests.Session:
        session: requests.Session | None = getattr(_local, "session", None)
        if session is None:
            session = _local.session = requests.Session()
            session.headers.clear()
            adapter = _WatchedAdapter(pool_connections=POOL_SIZE, pool_maxsize=1, max_retries=0)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            _local.proxies = {}
            _local.templates = {}
        if base_url not in _local.proxies:
            # Proxies and CA bundles of the environment, looked up once and not per request.
            settings = session.merge_environment_settings(base_url, {}, None, None, None)
            _local.proxies[base_url] = settings["proxies"]
            session.verify = settings["verify"]
        return session


def _fact(error: BaseException, deadline: float) -> NotSent | Unanswered:
    """Whether the request may have arrived, from what went wrong."""
    cause = error.args[0] if error.args else None
    reason = getattr(cause, "reason", cause)
    late = time.monotonic() >= deadline - WATCH_S / 2
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return NotSent("connect timeout")
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        return NotSent("name not found")
    if isinstance(reason, urllib3.exceptions.NewConnectionError):
        return NotSent("connection refused")
    if isinstance(error, requests.exceptions.ProxyError):
        return NotSent("the proxy refused")
    if isinstance(error, requests.exceptions.SSLError):
        return NotSent("TLS failed")
    if isinstance(
        error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema | requests.exceptions.InvalidHeader
    ):
        return NotSent("the request cannot be built")
    if late or isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.ReadTimeoutError | TimeoutError):
        return Unanswered("no answer in time")
    return Unanswered("connection lost")
