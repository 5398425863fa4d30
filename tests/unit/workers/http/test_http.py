"""How requests go out and what is known when they fail, over real sockets: a server that does just
what a test tells it.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import trustme
from urllib3 import HTTPConnectionPool, PoolManager

from config.accounts import Account
from tasks.request import Answer, HttpRequest, NotSent, Unanswered
from tests.unit.tasks.fakes import account
from workers.devkit import free_port
from workers.http import requests as http
from workers.http.curl import CurlEngine
from workers.http.engine import Exchange
from workers.http.requests import MAX_ANSWER_BYTES, RequestsSender
from workers.http.resolver import Lookup, addresses_of

KEY = "bot-key-1"
BODY = '[{"name":"Жанна"}]'.encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}"


class Authority:
    """A certificate of 127.0.0.1, and who signed it."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self.context)
        self.path = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.path)


#: What a connection does: it gets the socket and reads and writes as it likes.
Script = Callable[[socket.socket], None]


class Provider:
    """Serves each connection by the next of its scripts."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        #: Every request, whole.
        self.heard: list[bytes] = []
        self.connections = 0
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def serve(self, *scripts: Script) -> None:
        """Serve so many connections, the first by the first script."""
        threading.Thread(target=self._serve, args=scripts, daemon=True).start()

    def _serve(self, *scripts: Script) -> None:
        for script in scripts:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                script(self._tls.wrap_socket(connection, server_side=True) if self._tls else connection)
            except OSError:
                connection.close()

    def close(self) -> None:
        self._listener.close()

    def read(self, connection: socket.socket) -> None:
        """One whole request."""
        heard = b""
        while True:
            heard += (piece := connection.recv(1 << 20))
            head, end, body = heard.partition(b"\r\n\r\n")
            lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            if not piece or (end and len(body) >= sum(lengths)):
                break
        if not heard:
            raise ConnectionResetError
        self.heard.append(heard)

    def answers(self, *answers: bytes) -> Script:
        """Answer so many requests, then close."""

        def script(connection: socket.socket) -> None:
            for answer in answers:
                self.read(connection)
                connection.sendall(answer)
            connection.close()

        return script

    def then(self, script: Script) -> Script:
        """Read one request, then do that."""

        def both(connection: socket.socket) -> None:
            self.read(connection)
            script(connection)

        return both


def _hold(gone: threading.Event) -> None:
    """Keep a connection open and say nothing, until the test has seen enough."""
    gone.wait(10)


@contextmanager
def provider(*, tls: ssl.SSLContext | None = None) -> Iterator[Provider]:
    server = Provider(tls)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def server() -> Iterator[Provider]:
    with provider() as server:
        yield server


@pytest.fixture
def thread(engine: str) -> Iterator[ThreadPoolExecutor]:
    """A thread of a worker: sessions and connections are a thread's own."""
    with ThreadPoolExecutor(1) as pool:
        pool.engine = OnWire if engine == "curl" else RequestsSender  # type: ignore[attr-defined]
        yield pool


def post(url: str, body: bytes | None = BODY, **headers: str) -> HttpRequest:
    return HttpRequest("POST", url, {"Content-Type": "application/json", **headers}, body)


class OnWire:
    """A wire that sends one request after the other, in the thread that made it."""

    def __init__(self, lookup: Lookup = addresses_of) -> None:
        self.wire = CurlEngine(16, lookup)
        self.accounts: dict[str, Account] = {}

    def send(self, request: HttpRequest, to: Account) -> Answer:
        # The same account stays the same object, as in a worker.
        to = self.accounts.setdefault(repr((to.base_url, to.timeout_s)), to)
        over: list[Exchange] = []
        self.wire.start(request, to, over.append)
        while not over:
            self.wire.step(1.0)
        if not isinstance(over[0].answer, Answer):
            raise over[0].answer
        return over[0].answer


@pytest.fixture(params=["curl", "requests"])
def engine(request: pytest.FixtureRequest) -> str:
    """Which engine sends."""
    return str(request.param)


_here = threading.local()


def sent(thread: ThreadPoolExecutor, request: HttpRequest, **changes: Any) -> Answer:
    base_url = "/".join(request.url.split("/")[:3])
    to = account(base_url=base_url, **changes)

    def send() -> Answer:
        sender: Any = _here.__dict__.setdefault("sender", None) or thread.engine()  # type: ignore[attr-defined]
        _here.sender = sender
        return sender.send(request, to)

    return thread.submit(send).result(30)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Trusted by this process."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.path))
    return authority


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class TestAnswer:
    def test_whole(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """Status, headers under lower-case names, body."""
        server.serve(server.answers(OK))
        answer = sent(thread, post(f"{server.url}/v1/x/?idApp=666"))
        assert (answer.status, answer.body, answer.headers["retry-after"]) == (200, b"{}", "7")

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_redirect(self, server: Provider, thread: ThreadPoolExecutor, status: int) -> None:
        """A redirect is an answer and is never followed."""
        server.serve(server.answers(b"HTTP/1.1 %d Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n" % status))
        assert sent(thread, post(f"{server.url}/x")).status == status
        assert len(server.heard) == 1

    def test_compressed(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """An answer that is compressed, asked or not, is read."""
        packed = gzip.compress(b'{"message":"ok"}')
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        server.serve(server.answers(head + packed))
        assert sent(thread, post(f"{server.url}/x")).body == b'{"message":"ok"}'

    def test_too_large(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """More than a worker reads is no answer; the next request has a connection of its own."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * MAX_ANSWER_BYTES)
        server.serve(server.answers(head + b"x" * (2 * MAX_ANSWER_BYTES)), server.answers(OK))
        with pytest.raises(Unanswered, match="too large"):
            sent(thread, post(f"{server.url}/x"))
        assert sent(thread, post(f"{server.url}/x")).status == 200


class TestRequest:
    def test_as_given(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """The body byte for byte under its own length, the headers as given, the URL with its
        query.
        """
        server.serve(server.answers(OK))
        sent(thread, post(f"{server.url}/v1/x/?idApp=666", Authorization="TOKEN"))
        head, _, body = server.heard[0].partition(b"\r\n\r\n")
        assert body == BODY
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /v1/x/?idApp=666 HTTP/1.1"
        assert b"Authorization: TOKEN" in lines
        assert [line for line in lines if line.lower().startswith(b"content-length")] == [
            b"Content-Length: %d" % len(BODY)
        ]
        assert not any(line.lower().startswith(b"transfer-encoding") for line in lines)

    def test_each_body_has_its_length(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """What is remembered of a URL is nothing of a body."""
        server.serve(server.answers(OK, OK, OK))
        for body in (b"1", b"22222", b"333"):
            sent(thread, post(f"{server.url}/x", body))
        assert [request.partition(b"\r\n\r\n")[2] for request in server.heard] == [b"1", b"22222", b"333"]

    def test_without_a_body(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """A GET has none and says nothing of one."""
        server.serve(server.answers(OK))
        sent(thread, HttpRequest("GET", f"{server.url}/v2/events/ab", {"Accept-Language": "ru"}))
        assert server.heard[0].startswith(b"GET /v2/events/ab HTTP/1.1\r\n")
        assert b"content-length" not in server.heard[0].lower()

    def test_changed_headers(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """A token that was replaced in the accounts file is sent from then on, over the same
        connection.
        """
        server.serve(server.answers(OK, OK))
        for token in ("OLD", "NEW"):
            sent(thread, post(f"{server.url}/x", Authorization=token))
        assert b"Authorization: OLD" in server.heard[0]
        assert b"Authorization: NEW" in server.heard[1]
        assert server.connections == 1

    def test_many_urls(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """Look-ups have a URL each: the connection is kept all the same."""
        many = 70
        server.serve(server.answers(*[OK] * many))
        for number in range(many):
            sent(thread, HttpRequest("GET", f"{server.url}/v2/events/{number}", {}))
        assert (len(server.heard), server.connections) == (many, 1)

    def test_many_hosts(self, thread: ThreadPoolExecutor) -> None:
        """Each is reached over the connection that it has."""
        with ExitStack() as stack:
            servers = [stack.enter_context(provider()) for _ in range(8)]
            for server in servers:
                server.serve(server.answers(OK, OK))
            for server in servers * 2:
                assert sent(thread, post(f"{server.url}/x")).status == 200
            assert [server.connections for server in servers] == [1] * len(servers)

    def test_a_connection_that_the_server_closed(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """One that was closed at rest is noticed before anything is sent: a new one, and nothing is
        ambiguous.
        """
        closed = threading.Event()

        def answer_and_close(connection: socket.socket) -> None:
            server.answers(OK)(connection)
            closed.set()

        server.serve(answer_and_close, server.answers(OK))
        sent(thread, post(f"{server.url}/x"))
        assert closed.wait(5)
        assert sent(thread, post(f"{server.url}/x")).status == 200
        assert server.connections == 2

    def test_proxy(self, server: Provider, thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
        """The environment's proxy gets the whole URL."""
        monkeypatch.setenv("http_proxy", server.url)
        server.serve(server.answers(OK))
        assert sent(thread, post("http://provider.invalid/v1/x")).status == 200
        assert server.heard[0].startswith(b"POST http://provider.invalid/v1/x HTTP/1.1\r\n")


class TestNotSent:
    """What certainly did not arrive is tried again without a flag."""

    def test_refused(self, thread: ThreadPoolExecutor) -> None:
        """Nobody listens."""
        with pytest.raises(NotSent, match="connection refused"):
            sent(thread, post(f"http://127.0.0.1:{free_port()}/x"))

    def test_no_such_name(self, thread: ThreadPoolExecutor) -> None:
        """The name is not known."""
        with pytest.raises(NotSent, match="name not found"):
            sent(thread, post("http://provider.invalid/x"))

    def test_proxy_away(self, thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
        """The proxy is not there."""
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
        with pytest.raises(NotSent, match="the proxy refused"):
            sent(thread, post("http://provider.invalid/x"))

    def test_cannot_be_built(self, thread: ThreadPoolExecutor) -> None:
        """A token with a line break would be a header of its own."""
        with pytest.raises(NotSent, match="the request cannot be built"):
            sent(thread, post(f"http://127.0.0.1:{free_port()}/x", Authorization="TOKEN\r\nX: 1"))

    def test_no_tls(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """The server does not speak TLS."""
        server.serve(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        with pytest.raises(NotSent, match="TLS failed"):
            sent(thread, post(f"https://127.0.0.1:{server.port}/x"))

    def test_unknown_certificate(self, thread: ThreadPoolExecutor, authority: Authority) -> None:
        """The server's certificate is of nobody that we trust."""
        with provider(tls=authority.context) as server:
            server.serve(server.answers(OK))
            with pytest.raises(NotSent, match="TLS failed"):
                sent(thread, post(f"{server.url}/x"))
            assert server.heard == []

    def test_silent_handshake(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """A server that accepts and says nothing is given up within the time to connect, and
        nothing was sent.
        """
        gone = threading.Event()
        server.serve(lambda connection: _hold(gone))
        begun = time.monotonic()
        with pytest.raises(NotSent, match="connect timeout"):
            sent(thread, post(f"https://127.0.0.1:{server.port}/x"), timeout_s=10, connect_timeout_s=0.3)
        assert time.monotonic() - begun < 3
        gone.set()

    def test_slow_resolver(self, server: Provider, thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
        """A resolver may take longer than any time-out, and a lease: nothing is sent then."""
        resolve = socket.getaddrinfo

        def slowly(*args: Any, **options: Any) -> Any:
            time.sleep(0.4)
            return resolve(*args, **options)

        server.serve(server.answers(OK), server.answers(OK))
        monkeypatch.setattr(socket, "getaddrinfo", slowly)
        with pytest.raises(NotSent, match="connect timeout"):
            sent(thread, post(f"http://localhost:{server.port}/x"), timeout_s=0.3, connect_timeout_s=0.3)
        assert server.heard == []
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        assert sent(thread, post(f"http://localhost:{server.port}/x")).status == 200


class TestUnanswered:
    """What may have arrived is flagged from then on."""

    def test_closed(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """Closed after the request was read."""
        server.serve(server.then(lambda connection: connection.close()))
        with pytest.raises(Unanswered, match="connection lost"):
            sent(thread, post(f"{server.url}/x"))

    def test_reset(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """Reset after the request was read."""

        def reset(connection: socket.socket) -> None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            connection.close()

        server.serve(server.then(reset))
        with pytest.raises(Unanswered, match="connection lost"):
            sent(thread, post(f"{server.url}/x"))

    def test_half_an_answer(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """An answer that breaks off."""
        server.serve(server.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"))
        with pytest.raises(Unanswered, match="connection lost"):
            sent(thread, post(f"{server.url}/x"))

    def test_no_http(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """Something answers that is no HTTP."""
        server.serve(server.answers(b"SSH-2.0-OpenSSH_9.2\r\n"))
        with pytest.raises(Unanswered, match="connection lost"):
            sent(thread, post(f"{server.url}/x"))

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"], ids=["silent", "drip"])
    def test_total_time(self, thread: ThreadPoolExecutor, trusted: Authority, scheme: str, drip: bytes) -> None:
        """A server that says nothing, or a byte now and then, is given up when the account's time
        is over.
        """
        gone = threading.Event()

        def slowly(connection: socket.socket) -> None:
            connection.sendall(drip)
            while not gone.wait(0.05):
                connection.sendall(drip and b"x")

        with provider(tls=trusted.context if scheme == "https" else None) as server:
            server.serve(server.then(slowly))
            begun = time.monotonic()
            with pytest.raises(Unanswered, match="no answer in time"):
                sent(thread, post(f"{server.url}/x"), timeout_s=0.5)
            took_s = time.monotonic() - begun
            gone.set()
        assert 0.4 < took_s < 3
        assert len(server.heard) == 1

    def test_tls_breaks_after_the_request(self, thread: ThreadPoolExecutor, trusted: Authority) -> None:
        """TLS that fails when the request was read: the provider may have it, so it is not taken
        for unsent.
        """

        def garbage(connection: socket.socket) -> None:
            raw = socket.socket(fileno=connection.detach())
            raw.sendall(b"this is no TLS record at all")
            raw.close()

        with provider(tls=trusted.context) as server:
            server.serve(server.then(garbage))
            with pytest.raises(Unanswered, match="connection lost"):
                sent(thread, post(f"{server.url}/x"))
            assert len(server.heard) == 1

    def test_through_a_proxy(
        self, server: Provider, thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The total time holds there too."""
        monkeypatch.setenv("http_proxy", server.url)
        gone = threading.Event()
        server.serve(server.then(lambda connection: _hold(gone)))
        with pytest.raises(Unanswered, match="no answer in time"):
            sent(thread, post("http://provider.invalid/v1/x"), timeout_s=0.5)
        gone.set()

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_connections_of_any_kind(self, scheme: str) -> None:
        """A manager with pools of its own, as for a SOCKS proxy, makes connections of its own kind,
        and they are watched.
        """

        class Connection(HTTPConnection):
            """As urllib3's for SOCKS."""

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection  # type: ignore[assignment]

        manager = PoolManager()
        manager.pool_classes_by_scheme = {"http": Pool, "https": Pool}
        http._watch_all(manager)
        http._watch_all(manager)
        kind = manager.connection_from_host("provider.invalid", scheme=scheme).ConnectionCls
        assert kind.__mro__[1:3] == (http._Watched, Connection)

    def test_one_request_after_another(self, server: Provider, thread: ThreadPoolExecutor) -> None:
        """A request that was given up leaves the next one a connection of its own and its own
        time.
        """
        gone = threading.Event()
        server.serve(server.then(lambda connection: _hold(gone)), server.answers(OK))
        with pytest.raises(Unanswered):
            sent(thread, post(f"{server.url}/x"), timeout_s=0.3)
        gone.set()
        assert sent(thread, post(f"{server.url}/x"), timeout_s=5).status == 200


def test_no_secret_in_what_is_raised(thread: ThreadPoolExecutor) -> None:
    """The URL may hold a key: neither the message nor a traceback tells it."""
    with pytest.raises(NotSent) as caught:
        sent(thread, post(f"http://127.0.0.1:{free_port()}/v1/{KEY}/add_event"))
    told = "".join(traceback.format_exception(caught.value))
    assert KEY not in told
