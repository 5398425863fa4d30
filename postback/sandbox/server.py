"""The listening socket, its connections, and how an answer (or a fault) travels."""

from __future__ import annotations

import contextlib
import random
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from typing import Any, BinaryIO, Final, cast

from . import wire
from .control import Control
from .engine import Engine
from .exchange import Answer, Request, json_answer
from .faults import Delivery, Fault

#: SO_LINGER on, 0 s: close() then sends RST instead of FIN
_ABORT: Final = struct.pack("ii", 1, 0)
#: seconds a dripping body takes if the fault does not say
_DRIP_S: Final = 5.0
#: answers to HEAD, 1xx, 204 and 304 have no body
_BODILESS: Final = frozenset((204, 304))


@dataclass(frozen=True, slots=True)
class Latency:
    """How long an answer takes.

    A random part of `range_ms` before the request counts, the rest after it was recorded.

    Attributes:
        range_ms: least and most, milliseconds.
        slow_probability: share of requests in the slow tail.
        slow_ms: what the slow tail takes in addition.
    """

    range_ms: tuple[float, float] = (0, 0)
    slow_probability: float = 0.0
    slow_ms: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.range_ms
        if not 0 <= low <= high or not 0 <= self.slow_probability <= 1 or self.slow_ms < 0:
            raise ValueError("latency is a range 0 <= low <= high in ms, and a slow tail a share 0…1 and ms")

    def draw(self, rng: random.Random) -> tuple[float, float]:
        """Seconds before and after the decision."""
        if not self.range_ms[1] and not self.slow_probability:
            return 0.0, 0.0
        total_s = rng.uniform(*self.range_ms) / 1000
        if self.slow_probability and rng.random() < self.slow_probability:
            total_s += self.slow_ms / 1000
        before_s = rng.random() * total_s
        return before_s, total_s - before_s


class Server(ThreadingHTTPServer):
    """One thread per connection.

    The listening socket can be closed and opened again on the same port.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(
        self, address: tuple[str, int], engine: Engine, latency: Latency, wait: Callable[[float], None] | None = None
    ) -> None:
        self.engine = engine
        self.control = Control(engine)
        self.latency = latency
        self.closing = threading.Event()
        self.wait = wait or self.closing.wait
        self._connections_lock = threading.Lock()
        self._connections: set[Connection] = set()
        self.paused = False
        self._thread: threading.Thread | None = None
        super().__init__(address, cast(Any, Connection), bind_and_activate=False)
        try:
            self.server_bind()
        except BaseException:
            self.socket.close()
            raise

    def server_bind(self) -> None:
        """Bind without the reverse look-up of http.server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[0], self.server_address[1]  # type: ignore[assignment]

    def start(self) -> None:
        """Listen, and serve in a thread."""
        self.server_activate()
        self.paused = False
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="postback-sandbox", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Refuse connections, but keep the port.

        The listening socket and idle connections close now, busy connections after their answer.
        """
        if self.paused:
            return
        self.paused = True
        self._stop_serving()
        # A bound socket that does not listen refuses connections, and nobody else gets the port
        # meanwhile.
        self.socket.close()
        self.socket = socket.socket(self.address_family, self.socket_type)
        socketserver.TCPServer.server_bind(self)
        self._drop_connections(idle_only=True)

    def resume(self) -> None:
        """Listen again on the same port."""
        if self.paused:
            self.start()

    def stop(self) -> None:
        """Close everything."""
        self.closing.set()
        self.engine.faults.clear()
        self._stop_serving()
        self.server_close()
        self._drop_connections(idle_only=False)
        self.engine.ledger.close()

    def enter(self, connection: Connection) -> None:
        """A connection begins."""
        with self._connections_lock:
            self._connections.add(connection)

    def leave(self, connection: Connection) -> None:
        """A connection ends."""
        with self._connections_lock:
            self._connections.discard(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news; anything else is a bug and shows itself."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def _stop_serving(self) -> None:
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
            self._thread = None

    def _drop_connections(self, *, idle_only: bool) -> None:
        with self._connections_lock:
            connections = list(self._connections)
        for connection in connections:
            if not (idle_only and connection.busy):
                # Reading only: a request that was read just now still gets its answer.
                with contextlib.suppress(OSError):
                    connection.connection.shutdown(socket.SHUT_RD if idle_only else socket.SHUT_RDWR)


class Connection(socketserver.StreamRequestHandler):
    """One client connection, serving one request after the other."""

    server: Server
    disable_nagle_algorithm = True
    rbufsize = 65536
    wbufsize = 0
    busy = False

    def handle(self) -> None:
        """Serve until either side has had enough."""
        self.server.enter(self)
        try:
            while not self.server.paused and not self.server.closing.is_set():
                if not self._serve_one():
                    return
        except OSError:
            pass  # the client went away
        finally:
            self.server.leave(self)

    def _serve_one(self) -> bool:
        try:
            read = wire.read_request(cast(BinaryIO, self.rfile), self.connection, self.server.engine.clock)
        except wire.BadRequest as bad:
            self._send(json_answer(bad.status, {"error": str(bad)}), keep=False)
            return False
        if read is None:
            return False
        request, keep = read
        self.busy = True
        try:
            if request.path.startswith("/_sandbox") or request.path.startswith("/last_events"):
                self._send(self.server.control.answer(request), keep, request)
                return keep
            return self._play(request, keep)
        finally:
            self.busy = False

    def _play(self, request: Request, keep: bool) -> bool:
        server = self.server
        before_s, after_s = server.latency.draw(server.engine.rng)
        if before_s:
            server.wait(before_s)
        decision = server.engine.decide(request)
        if after_s:
            server.wait(after_s)
        keep = keep and not server.paused
        if decision.fault is None or decision.delivery is Delivery.WHOLE:
            self._send(decision.answer, keep, request)
            return keep
        return self._misdeliver(decision.delivery, decision.fault, decision.answer, keep)

    def _misdeliver(self, delivery: Delivery, fault: Fault, answer: Answer, keep: bool) -> bool:
        """Play a fault; returns whether the connection is still good."""
        if delivery is Delivery.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            # The socket closes with its last file object; socketserver's own way would send FIN
            # first.
            self.rfile.close()
            self.connection.close()
            return False
        if delivery is Delivery.CLOSE:
            return False
        if delivery is Delivery.HOLD:
            fault.removed.wait(fault.seconds)
            if fault.records and not self.server.closing.is_set():
                self._send(answer, keep)  # late, but an answer: a client that is still there may have it
                return keep
            return False
        if delivery is Delivery.TRUNCATE:
            self.connection.sendall(wire.head(answer, keep) + answer.body[: len(answer.body) // 2])
            return False
        self.connection.sendall(wire.head(answer, keep))
        pause_s = (_DRIP_S if fault.seconds is None else fault.seconds) / max(1, len(answer.body))
        for index in range(len(answer.body)):
            fault.removed.wait(pause_s)
            self.connection.sendall(answer.body[index : index + 1])
        return keep

    def _send(self, answer: Answer, keep: bool, request: Request | None = None) -> None:
        head = wire.head(answer, keep)
        bodiless = answer.status in _BODILESS or (request is not None and request.http_method == "HEAD")
        self.connection.sendall(head if bodiless else head + answer.body)
