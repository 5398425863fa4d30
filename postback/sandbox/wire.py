"""Just enough HTTP/1.1 for a busy local server: requests in, answers out, keep-alive.

``http.server`` parses headers with the email package and formats a date for every answer; at
thousands of requests a second on a small machine that is most of the work, and the benchmarks share
their processors with this server.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import BinaryIO, Final

from postback.wire.compression import gunzip

from .exchange import Answer, Request

#: bytes of one header line, and of a body, also of a decompressed one
MAX_LINE: Final = 65536
MAX_BODY: Final = 8 * 1024 * 1024
MAX_HEADERS: Final = 100

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


class BadRequest(Exception):
    """What came is not an HTTP/1.1 request, or its body is not what its headers say."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def read_request(
    stream: BinaryIO, connection: socket.socket, clock: Callable[[], float]
) -> tuple[Request, bool] | None:
    """Read one request.

    Returns it and whether the client keeps the connection, None at the end of the connection.

    Raises:
        BadRequest: it is not HTTP, or larger than allowed.
    """
    line = stream.readline(MAX_LINE + 1)
    while line in (b"\r\n", b"\n"):  # RFC 9112, 2.2: ignore an empty line before the request
        line = stream.readline(MAX_LINE + 1)
    if not line:
        return None
    words = line.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(400, "not an HTTP/1.1 request line")
    headers = _read_headers(stream)
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = _read_body(stream, headers)
    path, _, query = words[1].partition("?")
    if path.startswith("http://"):  # absolute form
        path = "/" + path.split("/", 3)[3] if path.count("/") >= 3 else "/"
    connection_header = headers.get("connection", "").lower()
    keep = "close" not in connection_header and (words[2] != "HTTP/1.0" or "keep-alive" in connection_header)
    return Request(words[0], path, query, headers, body, time.time(), clock()), keep


def _read_headers(stream: BinaryIO) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS + 1):
        line = stream.readline(MAX_LINE + 1)
        if line in (b"\r\n", b"\n"):
            return headers
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or not line.endswith(b"\n"):
            raise BadRequest(400, "a malformed header")
        headers[name.lower()] = value.strip()
    raise BadRequest(431, "too many headers")


def _read_body(stream: BinaryIO, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return _read_chunks(stream)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise BadRequest(400, "a malformed Content-Length")
    if int(length) > MAX_BODY:
        raise BadRequest(413, "the body is too large")
    body = stream.read(int(length))
    if len(body) < int(length):
        raise BadRequest(400, "the body ended early")
    return body


def _read_chunks(stream: BinaryIO) -> bytes:
    body = bytearray()
    while True:
        try:
            size = int(stream.readline(MAX_LINE).split(b";")[0], 16)
        except ValueError as error:
            raise BadRequest(400, "a malformed chunk") from error
        if size < 0 or len(body) + size > MAX_BODY:
            raise BadRequest(413, "the body is too large")
        if size == 0:
            while stream.readline(MAX_LINE) not in (b"\r\n", b"\n", b""):
                pass
            return bytes(body)
        body += stream.read(size)
        stream.readline(MAX_LINE)


def decoded(request: Request) -> bytes:
    """The body without its ``Content-Encoding``. Only gzip is read, as pages in a browser send it.

    Raises:
        BadRequest: it is no gzip, or larger than `MAX_BODY`.
    """
    if request.headers.get("content-encoding", "").lower() != "gzip":
        return request.body
    try:
        return gunzip(request.body, MAX_BODY)
    except ValueError as unreadable:
        raise BadRequest(400, f"Content-Encoding is gzip, but the body {unreadable}") from unreadable


def head(answer: Answer, keep: bool) -> bytes:
    """Status line and headers of an answer, up to the empty line."""
    lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Unknown')}"]
    if answer.body or answer.content_type != "application/json":
        lines.append(f"Content-Type: {answer.content_type}")
    lines.append(f"Content-Length: {len(answer.body)}")
    lines.extend(f"{name}: {value}" for name, value in answer.headers.items())
    if not keep:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
