"""A small HTTP server for metrics: its address is explicit, a slow reader holds up no worker."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

logger = logging.getLogger(__name__)

#: Ports that a worker tries, from the wanted one on: so many copies may run on one host.
TRIED_PORTS: Final = 20
#: Seconds that a client may take to send its request.
ASK_S: Final = 10.0

#: A page: a WSGI application.
Page = Callable[[dict[str, Any], Any], Iterable[bytes]]


class _Handler(WSGIRequestHandler):
    timeout = ASK_S

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: a line for every scrape would fill the log."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The standard method asks DNS for this machine's name.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class Server:
    """Serves pages from a thread of its own."""

    def __init__(self, address: str, port: int, pages: Mapping[str, Page]) -> None:
        """Listen.

        Args:
            address: An address of this machine.
            port: 0 for any free one.
            pages: Path -> page; others are 404.

        Raises:
            OSError: It cannot listen there.
        """
        self._pages = pages
        kind = _Server6 if ipaddress.ip_address(address).version == 6 else _Server
        self._server = kind((address, port), _Handler)
        self._server.set_app(self._answer)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="postback-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        page = self._pages.get(environ.get("PATH_INFO", ""))
        if page is None or environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return plain(start_response, "404 Not Found", "there is " + ", ".join(self._pages))
        try:
            return list(page(environ, start_response))
        except Exception:
            # wsgiref would write the traceback to stderr, unmasked.
            logger.exception("a page of metrics failed")
            return plain(start_response, "500 Internal Server Error", "see the log")


def plain(start_response: Any, status: str, text: str, kind: str = "text/plain") -> list[bytes]:
    """A short answer."""
    body = f"{text}\n".encode()
    start_response(status, [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]


def metrics_page(registry: CollectorRegistry) -> Page:
    """The page of a registry."""
    page: Page = make_wsgi_app(registry)
    return page


def listen(address: str, port: int, pages: Mapping[str, Page]) -> Server:
    """A server on the first free port from ``port`` on; on any free port if that is 0.

    Raises:
        OSError: None of :data:`TRIED_PORTS` is free, or the address is not this machine's.
    """
    last = min(port + TRIED_PORTS, 65536) if port else 1
    for candidate in range(port, last):
        try:
            return Server(address, candidate, pages)
        except OSError:
            if candidate == last - 1:
                raise
    raise AssertionError("unreachable")


def reached_at(address: str, port: int) -> str:
    """Its ``host:port`` for other processes; the host's name if it listens on every address."""
    ip = ipaddress.ip_address(address)
    if ip.is_unspecified:
        return f"{socket.gethostname()}:{port}"
    return f"[{address}]:{port}" if ip.version == 6 else f"{address}:{port}"


class Endpoint:
    """Serves one process's metrics."""

    def __init__(self, registry: CollectorRegistry, address: str, port: int) -> None:
        """It does not listen yet.

        Args:
            registry: The metrics.
            address: An address of this machine.
            port: The first port that is tried; 0 for any free port.
        """
        self._registry, self._address, self._port = registry, address, port
        self._reached_at = ""

    def open(self) -> str:
        """Listen, if it does not yet.

        Returns:
            ``host:port``; empty if it cannot listen. The worker runs then without metrics.
        """
        if self._reached_at:
            return self._reached_at
        try:
            server = listen(self._address, self._port, {"/metrics": metrics_page(self._registry)})
        except OSError as error:
            logger.error(
                "no metrics: POSTBACK_METRICS_PORT: cannot listen on %s from port %d on: %s",
                self._address,
                self._port,
                error.strerror,
            )
            return ""
        self._reached_at = reached_at(self._address, server.port)
        logger.info("metrics at http://%s/metrics", self._reached_at)
        return self._reached_at
