"""A small HTTP server for metrics: the address is explicit, nobody's slow reading holds a worker."""

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

#: Ports that a worker tries, from the one that was asked for on: so many copies may run on one host.
TRIED_PORTS: Final = 20
#: Seconds that a client may take to ask.
ASK_S: Final = 10.0

#: A page: what WSGI calls.
Page = Callable[[dict[str, Any], Any], Iterable[bytes]]


class _Handler(WSGIRequestHandler):
    timeout = ASK_S

    def log_message(self, format: str, *args: Any) -> None:
        """Every scrape a line would be all that the log shows."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The standard one asks DNS for this machine's name.
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
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        page = self._pages.get(environ.get("PATH_INFO", ""))
        if page is None or environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return plain(start_response, "404 Not Found", "there is " + ", ".join(self._pages))
        try:
            return list(page(environ, start_response))
        except Exception:
            # wsgiref would write the traceback to stderr as it is.
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
    """A server on the first free port from ``port`` on; on any free one if that is 0.

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
    """How another process reaches it, ``host:port``: by the machine's name where it listens on every address."""
    ip = ipaddress.ip_address(address)
    if ip.is_unspecified:
        return f"{socket.gethostname()}:{port}"
    return f"[{address}]:{port}" if ip.version == 6 else f"{address}:{port}"
