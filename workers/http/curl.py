"""The curl engine: all requests of a process on one curl multi handle (ADR 28).

A request has three stages: it waits for its host's addresses, it is on the wire, it is over.

libcurl sends a request again by itself if a reused connection turns out to be closed. So a callback
counts the starts and stops the second: one grant, at most one request. Before the first start the
callback checks the connection. libcurl does not check one that was used within the last second. If
the server has closed it, nobody would know whether the request arrived.
"""

from __future__ import annotations

import contextlib
import heapq
import resource
import select
import socket
import time
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from io import BytesIO
from itertools import count
from typing import Any, Final
from urllib.parse import urlsplit

import pycurl

from config.accounts import Account
from tasks.request import Answer, HttpRequest, NotSent, Unanswered
from workers.http.engine import Done, Exchange
from workers.http.environment import Environment
from workers.http.resolver import Lookup, Resolver, addresses_of
from workers.http.sockets import Sockets

#: Most bytes of an answer, decompressed. TonAPI's largest events have some hundred kilobytes.
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
#: Most bytes of an answer's heads, those of interim answers included.
MAX_HEAD_BYTES: Final = 256 * 1024
#: Open files of the process that are not connections of the engine: Redis, logs, modules.
OTHER_FILES: Final = 128

_TLS_ERRORS: Final = frozenset(
    {
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_PEER_FAILED_VERIFICATION,
        pycurl.E_SSL_CERTPROBLEM,
        pycurl.E_SSL_CIPHER,
        pycurl.E_SSL_CACERT_BADFILE,
    }
)
_WORDS: Final[Mapping[int, str]] = {
    pycurl.E_COULDNT_CONNECT: "connection refused",
    pycurl.E_COULDNT_RESOLVE_HOST: "name not found",
    pycurl.E_COULDNT_RESOLVE_PROXY: "the proxy refused",
    pycurl.E_URL_MALFORMAT: "the request cannot be built",
    pycurl.E_UNSUPPORTED_PROTOCOL: "the request cannot be built",
    pycurl.E_OPERATION_TIMEDOUT: "connect timeout",
    **dict.fromkeys(_TLS_ERRORS, "TLS failed"),
}


def ignore(exchange: Exchange) -> None:
    """The ``done`` of a handle without a request."""


class _Headers(Mapping[str, str]):
    """An answer's headers by lower-case name, parsed on the first look-up: most are never read."""

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines

    @cached_property
    def _read(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for line in self._lines:
            if line[:5] == b"HTTP/":
                # An interim answer's head comes before the answer's.
                headers.clear()
                continue
            name, colon, value = line.partition(b":")
            if colon:
                headers[name.decode("latin-1").strip().lower()] = value.decode("latin-1").strip()
        return headers

    def __getitem__(self, name: str) -> str:
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


class _Request:
    """A curl handle and its current request. It is kept for the account's next requests."""

    def __init__(self, account: Account, environment: Environment, connections: dict[int, int]) -> None:
        """Set everything that is the same for all requests of the account."""
        self.account, self._connections = account, connections
        self.curl = curl = pycurl.Curl()
        self.starts = 0
        self.head_bytes = 0
        self.head: list[bytes] = []
        self.body = BytesIO()
        self.begun_s = 0.0
        self.done: Done = ignore
        #: It is on the wire: it has its addresses.
        self.flying = False
        #: The server had closed the connection before anything was sent.
        self.stale = False
        #: It must open a new connection.
        self.fresh = False
        self._headers: Mapping[str, str] | None = None
        self._resolved: list[str] = []
        setopt = curl.setopt
        setopt(pycurl.NOSIGNAL, 1)
        setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        setopt(pycurl.FOLLOWLOCATION, 0)
        setopt(pycurl.ACCEPT_ENCODING, "gzip, deflate")
        setopt(pycurl.CONNECTTIMEOUT_MS, round(1000 * min(account.connect_timeout_s, account.timeout_s)))
        setopt(pycurl.HEADERFUNCTION, self._receive_head)
        setopt(pycurl.WRITEFUNCTION, self._receive_body)
        setopt(pycurl.PREREQFUNCTION, self._about_to_send)
        setopt(pycurl.USERAGENT, "postback")
        # Each handle has its own buffer, by default of 64 KB.
        setopt(pycurl.UPLOAD_BUFFERSIZE, 16_384)
        self.proxied = environment.apply(curl, account.base_url)
        curl.request = self

    def prepare(self, request: HttpRequest, done: Done) -> None:
        """Set the options of one request.

        Raises:
            ValueError: curl cannot send such a request.
        """
        curl = self.curl
        self.starts = self.head_bytes = 0
        self.stale = False
        if self.fresh:
            self.fresh = False
            curl.setopt(pycurl.FRESH_CONNECT, 0)
        self.head, self.body, self.done, self.begun_s = [], BytesIO(), done, time.monotonic()
        try:
            curl.setopt(pycurl.URL, request.url)
            if request.headers != self._headers:
                lines = [f"{name}: {value}" for name, value in request.headers.items()]
                if any("\n" in line or "\r" in line for line in lines):
                    raise ValueError("a header has a line break")
                curl.setopt(pycurl.HTTPHEADER, ["Expect:", *lines])
                self._headers = request.headers
            if request.body is None:
                curl.setopt(pycurl.HTTPGET, 1)
                curl.setopt(pycurl.CUSTOMREQUEST, request.method)
            else:
                curl.setopt(pycurl.POST, 1)
                curl.setopt(pycurl.CUSTOMREQUEST, request.method)
                curl.setopt(pycurl.POSTFIELDS, request.body)
        except (pycurl.error, UnicodeError, TypeError) as error:
            raise ValueError(str(error)) from None

    def resolve(self, addresses: list[str]) -> None:
        """Use these addresses for its host."""
        if addresses != self._resolved:
            self.curl.setopt(pycurl.RESOLVE, addresses)
            self._resolved = addresses

    def _about_to_send(self, ip: str, local_ip: str, port: int, local_port: int) -> int:
        """Libcurl is about to write the request; a second time if the connection was closed."""
        fd = self._connections.get(local_port)
        if fd is not None and not self.starts and _has_something(fd):
            self.stale = True
            return int(pycurl.PREREQFUNC_ABORT)
        self.starts += 1
        return int(pycurl.PREREQFUNC_OK if self.starts == 1 else pycurl.PREREQFUNC_ABORT)

    def _receive_head(self, line: bytes) -> int | None:
        self.head_bytes += len(line)
        if self.head_bytes > MAX_HEAD_BYTES:
            return 0
        self.head.append(line)
        return None

    def _receive_body(self, piece: bytes) -> int | None:
        if self.body.tell() + len(piece) > MAX_ANSWER_BYTES:
            return 0
        self.body.write(piece)
        return None

    def answer(self) -> Answer:
        """The answer that came back."""
        return Answer(self.curl.getinfo(pycurl.RESPONSE_CODE), _Headers(self.head), self.body.getvalue())

    def failure(self, code: int) -> NotSent | Unanswered:
        """Why libcurl gave the request up, and whether it may have arrived."""
        if self.starts:
            if code == pycurl.E_WRITE_ERROR:
                return Unanswered("the answer is too large")
            return Unanswered("no answer in time" if code == pycurl.E_OPERATION_TIMEDOUT else "connection lost")
        if self.proxied and code not in _TLS_ERRORS and code != pycurl.E_OPERATION_TIMEDOUT:
            return NotSent("the proxy refused")
        return NotSent(_WORDS.get(code, "no connection"))


class CurlEngine:
    """The default engine; see :class:`workers.http.engine.Engine`."""

    def __init__(self, at_once: int, lookup: Lookup = addresses_of) -> None:
        """Nothing is connected yet.

        Args:
            at_once: Requests that may be on the wire at once.
            lookup: Looks up a host's addresses; may block.
        """
        _allow_files(at_once + OTHER_FILES)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._watch_time)
        self._multi.setopt(pycurl.M_MAXCONNECTS, at_once)
        self._sockets = Sockets()
        self._listen, self._wake = socket.socketpair()
        self._listen.setblocking(False)
        self._wake.setblocking(False)
        self._sockets.watch(self._listen.fileno(), pycurl.POLL_IN)
        self._woken = False
        self._timer_s: float | None = None
        self._environment = Environment()
        self._resolver = Resolver(self.wake, lookup)
        #: Account's queue -> unused handles. With those in use they are at most ``at_once``.
        self._idle: dict[str, list[_Request]] = {}
        #: Heap of requests that wait for addresses, by deadline (monotonic).
        self._resolving: list[tuple[float, int, _Request, Done]] = []
        self._numbers = count()
        self._requests: set[_Request] = set()
        #: Local port of a used connection -> its file descriptor.
        self._connections: dict[int, int] = {}
        self._at_once, self._kept = at_once, 0

    def start(self, request: HttpRequest, account: Account, done: Done) -> None:
        """See :class:`workers.http.engine.Engine`."""
        flight = self._handle_of(account)
        try:
            flight.prepare(request, done)
            host, port, needs_lookup = _place_of(request.url)
        except ValueError:
            done(Exchange(NotSent("the request cannot be built"), 0.0))
            return
        self._requests.add(flight)
        if flight.proxied or not needs_lookup:
            self._fly(flight)
            return
        deadline_s = flight.begun_s + min(account.connect_timeout_s, account.timeout_s)
        heapq.heappush(self._resolving, (deadline_s, next(self._numbers), flight, done))
        self._resolver.ask(host, port, lambda addresses: self._resolved(flight, done, host, port, addresses))

    def _handle_of(self, account: Account) -> _Request:
        """A handle that no other account has used: nothing of one account reaches another."""
        while account.queue in self._idle:
            flight = self._unused(account.queue)
            if flight.account is account:
                return flight
            flight.curl.close()  # the accounts file has changed
        if self._kept + len(self._requests) >= self._at_once and self._idle:
            self._unused(next(iter(self._idle))).curl.close()
        return _Request(account, self._environment, self._connections)

    def _unused(self, queue: str) -> _Request:
        """Remove one of an account's unused handles and return it."""
        idle = self._idle[queue]
        flight = idle.pop()
        if not idle:
            del self._idle[queue]
        self._kept -= 1
        return flight

    def _resolved(self, flight: _Request, done: Done, host: str, port: int, addresses: list[str]) -> None:
        if flight.done is not done:
            return  # its time was up meanwhile
        if not addresses:
            self._over(flight, NotSent("name not found"))
            return
        texts = (f"[{address}]" if ":" in address else address for address in addresses)
        flight.resolve([f"{host}:{port}:{','.join(texts)}"])
        self._fly(flight)

    def _fly(self, flight: _Request) -> None:
        left_s = flight.begun_s + flight.account.timeout_s - time.monotonic()
        flight.curl.setopt(pycurl.TIMEOUT_MS, max(1, round(1000 * left_s)))
        flight.flying = True
        self._multi.add_handle(flight.curl)

    def step(self, timeout_s: float) -> None:
        """See :class:`workers.http.engine.Engine`."""
        now = time.monotonic()
        ends = [now + timeout_s]
        if self._timer_s is not None:
            ends.append(self._timer_s)
        if self._resolving:
            ends.append(self._resolving[0][0])
        for fd, action in self._sockets.wait(max(0.0, min(ends) - now)):
            if fd == self._listen.fileno():
                with contextlib.suppress(BlockingIOError):
                    self._listen.recv(4096)
                # Cleared after the read. Else a byte sent between the two would be read, and the
                # flag would stop all later ones.
                self._woken = False
                self._resolver.deliver()
            else:
                self._multi.socket_action(fd, action)
        now = time.monotonic()
        if self._timer_s is not None and self._timer_s <= now:
            self._timer_s = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        while self._resolving and self._resolving[0][0] <= now:
            _, _, flight, done = heapq.heappop(self._resolving)
            if flight.done is done and not flight.flying:
                self._over(flight, NotSent("connect timeout"))
        self._collect()

    def _collect(self) -> None:
        more = 1
        while more:
            more, finished, failed = self._multi.info_read()
            for curl in finished:
                self._landed(curl.request, None)
            for curl, code, _ in failed:
                self._landed(curl.request, code)

    def _landed(self, flight: _Request, code: int | None) -> None:
        curl = flight.curl
        fd = curl.getinfo(pycurl.ACTIVESOCKET)
        if fd >= 0:
            if len(self._connections) > 2 * self._at_once:
                self._connections.clear()
            self._connections[curl.getinfo(pycurl.LOCAL_PORT)] = fd
        self._multi.remove_handle(curl)
        if flight.stale and not flight.starts:
            # Nothing was sent: try once more, on a new connection.
            flight.stale = False
            curl.setopt(pycurl.FRESH_CONNECT, 1)
            flight.fresh = True
            self._fly(flight)
            return
        self._over(flight, flight.answer() if code is None else flight.failure(code))

    def _over(self, flight: _Request, answer: Answer | NotSent | Unanswered) -> None:
        self._requests.discard(flight)
        exchange, done = Exchange(answer, time.monotonic() - flight.begun_s), flight.done
        flight.done, flight.flying = ignore, False
        self._kept += 1
        self._idle.setdefault(flight.account.queue, []).append(flight)
        done(exchange)

    def wake(self) -> None:
        """See :class:`workers.http.engine.Engine`."""
        if not self._woken:
            self._woken = True
            with contextlib.suppress(OSError):
                self._wake.send(b"\0")

    def close(self) -> None:
        """See :class:`workers.http.engine.Engine`."""
        for flight in self._requests:
            if flight.flying:
                self._multi.remove_handle(flight.curl)
        self._requests.clear()
        self._multi.close()
        self._sockets.close()
        self._listen.close()
        self._wake.close()

    def _watch_socket(self, event: int, fd: int, multi: Any, data: Any) -> None:
        """Libcurl begins or ends to wait for a socket."""
        if event == pycurl.POLL_REMOVE:
            self._sockets.leave(fd)
        else:
            self._sockets.watch(fd, event)

    def _watch_time(self, timeout_ms: int) -> None:
        """Libcurl wants a call after so many milliseconds."""
        self._timer_s = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000


def _has_something(fd: int) -> bool:
    """Whether an idle connection has something to read: its end, or an answer to no request."""
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLRDHUP)
    return bool(poll.poll(0))


@lru_cache(maxsize=1024)
def _place_of(url: str) -> tuple[str, int, bool]:
    """Host and port of a URL, and whether the host is a name.

    Raises:
        ValueError: It has no host, or is neither http nor https.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("no address")
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), not _is_address(parts.hostname)


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return True
    return False


def _allow_files(wanted: int) -> None:
    """Raise the process's limit of open files.

    Raises:
        OSError: The machine does not allow so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise OSError(f"POSTBACK_CONCURRENCY: it needs {wanted} open files, and the limit is {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
