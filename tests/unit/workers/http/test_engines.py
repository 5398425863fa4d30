"""The wire's contract over both engines, with real sockets: many at once, each at most once, none
in another's way.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from config.accounts import Account
from tasks.request import Answer, HttpRequest, NotSent, Unanswered
from tests.unit.tasks.fakes import account
from tests.unit.workers.http.test_http import OK, Provider, provider
from workers.http.curl import MAX_HEAD_BYTES, CurlEngine
from workers.http.engine import Engine, Exchange
from workers.http.resolver import addresses_of
from workers.http.threads import ThreadEngine

ENGINES: dict[str, Callable[[int], Engine]] = {"curl": CurlEngine, "requests": ThreadEngine}


@pytest.fixture(params=ENGINES)
def wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    wire = ENGINES[str(request.param)](64)
    yield wire
    wire.close()


@pytest.fixture
def curl(monkeypatch: pytest.MonkeyPatch) -> Iterator[CurlEngine]:
    wire = CurlEngine(2000)
    yield wire
    wire.close()


@pytest.fixture
def server() -> Iterator[Provider]:
    with provider() as server:
        yield server


def to(url: str, name: str = "main", **changes: Any) -> Account:
    return account(base_url=url, **changes)


def ask(url: str, **headers: str) -> HttpRequest:
    return HttpRequest("POST", f"{url}/x", headers, b'{"a": 1}')


def run(wire: Engine, over: list[Exchange], count: int, seconds: float = 20) -> list[Exchange]:
    """Step until so many are over."""
    end = time.monotonic() + seconds
    while len(over) < count:
        assert time.monotonic() < end, f"{len(over)} of {count} after {seconds} s"
        wire.step(0.5)
    return over


def serve_all(server: Provider, script: Callable[[socket.socket], None], count: int) -> None:
    """Each connection in a thread of its own."""

    def accept() -> None:
        for _ in range(count):
            try:
                connection, _ = server._listener.accept()
            except OSError:
                return
            threading.Thread(target=_quietly, args=(script, connection), daemon=True).start()

    server._listener.listen(2048)
    threading.Thread(target=accept, daemon=True).start()


def _quietly(script: Callable[[socket.socket], None], connection: socket.socket) -> None:
    try:
        script(connection)
    except OSError:
        connection.close()


class TestContract:
    def test_many_at_once(self, wire: Engine, server: Provider) -> None:
        """Fifty requests are on their way together, and each is told of its own answer."""
        all_there = threading.Barrier(50, timeout=20)

        def together(connection: socket.socket) -> None:
            server.read(connection)
            all_there.wait()
            connection.sendall(OK)
            connection.close()

        serve_all(server, together, 50)
        over: list[Exchange] = []
        for _ in range(50):
            wire.start(ask(server.url), to(server.url), over.append)
        run(wire, over, 50)
        assert all(isinstance(one.answer, Answer) and one.answer.status == 200 for one in over)

    def test_a_wake_ends_a_wait(self, wire: Engine) -> None:
        """Any thread can end a step that waits for nothing."""
        threading.Timer(0.05, wire.wake).start()
        begun = time.monotonic()
        wire.step(20)
        assert time.monotonic() - begun < 10

    def test_a_wake_before_the_wait_counts(self, wire: Engine) -> None:
        """A wake is not lost between two steps."""
        wire.wake()
        begun = time.monotonic()
        wire.step(20)
        assert time.monotonic() - begun < 10

    def test_nothing_to_do(self, wire: Engine) -> None:
        """A step returns when its time is up."""
        begun = time.monotonic()
        wire.step(0.05)
        assert 0.04 < time.monotonic() - begun < 5

    def test_one_grant_at_most_one_request(self, wire: Engine, server: Provider) -> None:
        """A server that reads a request on a kept connection and closes sees one copy of it: the
        rest is ambiguous.
        """
        closed = threading.Event()

        def keeps_and_closes(connection: socket.socket) -> None:
            server.read(connection)
            connection.sendall(OK)
            server.read(connection)
            connection.close()
            closed.set()

        server.serve(keeps_and_closes, server.answers(OK, OK))
        over: list[Exchange] = []
        target = to(server.url)
        wire.start(ask(server.url), target, over.append)
        run(wire, over, 1)
        wire.start(ask(server.url), target, over.append)
        run(wire, over, 2)
        if isinstance(wire, CurlEngine) or len(server.heard) == 2:
            assert isinstance(over[1].answer, Unanswered)
        assert closed.wait(5) or len(server.heard) == 2
        assert len(server.heard) == 2

    def test_closed_with_requests_on_the_wire(self, wire: Engine, server: Provider) -> None:
        """Closing tells nobody of anything and raises nothing."""
        gone = threading.Event()
        server.serve(server.then(lambda connection: gone.wait(10)))
        over: list[Exchange] = []
        wire.start(ask(server.url), to(server.url, timeout_s=0.5), over.append)
        wire.step(0.1)
        wire.close()
        gone.set()
        assert over == []


class TestCurl:
    def test_a_thousand_at_once(self, curl: CurlEngine, server: Provider) -> None:
        """One thread holds a thousand requests."""
        seen: list[int] = []
        all_there = threading.Event()

        def together(connection: socket.socket) -> None:
            server.read(connection)
            seen.append(1)
            if len(seen) == 1000:
                all_there.set()
            all_there.wait(30)
            connection.sendall(OK)
            connection.close()

        serve_all(server, together, 1000)
        over: list[Exchange] = []
        for _ in range(1000):
            curl.start(ask(server.url), to(server.url, timeout_s=20), over.append)
        run(curl, over, 1000, 60)
        assert {type(one.answer) for one in over} == {Answer}

    def test_every_wake_is_heard(self, curl: CurlEngine) -> None:
        """Wakes from another thread, at any moment of a step: none keeps a later one from being
        heard.
        """
        ended = threading.Event()

        def wakes() -> None:
            while not ended.is_set():
                curl.wake()

        thread, interval = threading.Thread(target=wakes), sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            thread.start()
            for _ in range(20_000):
                curl.step(0.0)
            ended.set()
            thread.join()
        finally:
            sys.setswitchinterval(interval)
        curl.step(0.0)
        curl.wake()
        begun = time.monotonic()
        curl.step(5.0)
        assert time.monotonic() - begun < 1

    def test_in_one_piece(self, curl: CurlEngine, server: Provider) -> None:
        """Head and body leave together: one packet, one TLS record."""
        packets: list[bytes] = []

        def first_packet(connection: socket.socket) -> None:
            packets.append(connection.recv(1 << 20))
            connection.sendall(OK)
            connection.close()

        server.serve(first_packet)
        over: list[Exchange] = []
        request = ask(server.url)
        assert request.body
        curl.start(request, to(server.url), over.append)
        run(curl, over, 1, 10)
        assert packets[0].endswith(b"\r\n\r\n" + request.body)

    def test_nothing_of_one_account_reaches_another(self, curl: CurlEngine, server: Provider) -> None:
        """Headers, keys and cookies of one account's requests are not in another's, also over one
        connection.
        """
        cookie = OK.replace(b"Content-Type", b"Set-Cookie: session=first\r\nContent-Type")
        server.serve(server.answers(cookie, OK, OK))
        over: list[Exchange] = []
        first, second = to(server.url), account("tonapi", base_url=server.url)
        for number, (target, headers) in enumerate(
            [(first, {"Authorization": "key-of-first"}), (second, {}), (first, {"Authorization": "key-of-first"})], 1
        ):
            curl.start(ask(server.url, **headers), target, over.append)
            run(curl, over, number)
        assert b"key-of-first" in server.heard[0]
        assert b"key-of-first" not in server.heard[1]
        assert not any(b"ookie" in heard for heard in server.heard)

    @pytest.mark.parametrize(
        "flood", [b"HTTP/1.1 102 Processing\r\n\r\n" * 50_000, b"X-Endless: " + b"x" * 2 * MAX_HEAD_BYTES + b"\r\n"]
    )
    def test_endless_heads(self, curl: CurlEngine, server: Provider, flood: bytes) -> None:
        """A head that does not end is no answer, and no reason to hold it in memory."""
        start = b"" if flood.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n"
        server.serve(server.then(lambda connection: connection.sendall(start + flood)))
        over: list[Exchange] = []
        curl.start(ask(server.url), to(server.url, timeout_s=5), over.append)
        run(curl, over, 1)
        assert isinstance(over[0].answer, Unanswered)

    def test_a_stale_answer_is_nobody_s(self, curl: CurlEngine, server: Provider) -> None:
        """What a server sends unasked after an answer is not the next request's answer."""
        said = threading.Event()

        def twice(connection: socket.socket) -> None:
            server.read(connection)
            connection.sendall(OK)
            time.sleep(0.05)
            connection.sendall(b"HTTP/1.1 400 Stale\r\nContent-Length: 0\r\n\r\n")
            said.set()

        server.serve(twice, server.answers(OK))
        over: list[Exchange] = []
        target = to(server.url)
        curl.start(ask(server.url), target, over.append)
        run(curl, over, 1)
        assert said.wait(5)
        curl.start(ask(server.url), target, over.append)
        run(curl, over, 2)
        assert isinstance(over[1].answer, Answer)
        assert over[1].answer.status == 200

    @pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "nonsense", "gopher://h/x"])
    def test_only_http(self, curl: CurlEngine, url: str) -> None:
        """Nothing but http and https leaves the process."""
        over: list[Exchange] = []
        curl.start(HttpRequest("POST", url, {}, b"x"), to("http://127.0.0.1:1"), over.append)
        run(curl, over, 1)
        assert isinstance(over[0].answer, NotSent)
        assert str(over[0].answer) == "the request cannot be built"

    def test_socks(self, curl: CurlEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        """A SOCKS proxy of the environment is asked for the name."""
        heard: list[bytes] = []
        listener = socket.create_server(("127.0.0.1", 0))

        def proxy() -> None:
            connection, _ = listener.accept()
            heard.append(connection.recv(100))
            connection.sendall(b"\x05\x00")
            heard.append(connection.recv(100))
            connection.close()

        threading.Thread(target=proxy, daemon=True).start()
        monkeypatch.setenv("http_proxy", f"socks5h://127.0.0.1:{listener.getsockname()[1]}")
        wire = CurlEngine(16)
        over: list[Exchange] = []
        wire.start(ask("http://provider.invalid"), to("http://provider.invalid"), over.append)
        run(wire, over, 1)
        wire.close()
        assert b"provider.invalid" in heard[1]
        assert str(over[0].answer) == "the proxy refused"


class TestNames:
    """A look-up that hangs delays the requests to its own host only."""

    def test_thirty_hosts_hang(self, server: Provider) -> None:
        """With thirty look-ups that hang, the thirty-first host is served as if it were alone."""
        hang = threading.Event()

        def lookup(host: str, port: int) -> list[str]:
            if host.startswith("hangs"):
                hang.wait(30)
                return []
            return addresses_of(host, port)

        wire = CurlEngine(64, lookup)
        server.serve(server.answers(OK))
        stuck: list[Exchange] = []
        over: list[Exchange] = []
        for number in range(30):
            url = f"http://hangs{number}.invalid"
            wire.start(ask(url), to(url, connect_timeout_s=1, timeout_s=2), stuck.append)
        begun = time.monotonic()
        good = f"http://localhost:{server.port}"
        wire.start(ask(good), to(good), over.append)
        run(wire, over, 1)
        assert time.monotonic() - begun < 0.5
        assert isinstance(over[0].answer, Answer)
        run(wire, stuck, 30)
        assert {str(one.answer) for one in stuck} == {"connect timeout"}
        assert all(isinstance(one.answer, NotSent) for one in stuck)
        hang.set()
        wire.close()

    def test_asked_once(self, server: Provider) -> None:
        """One look-up serves all requests that wait for it, and those that follow."""
        asked: list[str] = []

        def lookup(host: str, port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"]

        wire = CurlEngine(16, lookup)
        serve_all(server, server.answers(OK, OK, OK, OK), 4)
        over: list[Exchange] = []
        url = f"http://provider.test:{server.port}"
        target = to(url)
        for _ in range(3):
            wire.start(ask(url), target, over.append)
        run(wire, over, 3)
        wire.start(ask(url), target, over.append)
        run(wire, over, 4)
        assert asked == ["provider.test"]
        assert {type(one.answer) for one in over} == {Answer}
        wire.close()


def test_too_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that allows too few open files is told by the setting's name."""
    monkeypatch.setattr("resource.getrlimit", lambda what: (64, 64))
    with pytest.raises(OSError, match="POSTBACK_CONCURRENCY: it needs 10128 open files, and the limit is 64"):
        CurlEngine(10_000)
