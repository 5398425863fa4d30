"""A provider that answers at once: the least HTTP server that ``requests`` is content with, so that the client's cost is what is measured.

``python -m benchmarks.sink PORT``. ``GET /count`` tells how many POSTs and items (of JSON arrays) came since the last ``GET /reset``.
"""

from __future__ import annotations

import asyncio
import sys
from typing import ClassVar, Final

OK: Final = b'{"status":"OK","mode":"production","message":"ok"}'
HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "


class Sink(asyncio.Protocol):
    """One connection."""

    posts: ClassVar[int] = 0
    items: ClassVar[int] = 0

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request in the buffer."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            at = head.lower().find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            total = end + 4 + length
            if len(self._buffer) < total:
                return
            body, self._buffer = self._buffer[end + 4 : total], self._buffer[total:]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        answer = OK
        if head.startswith(b"POST"):
            Sink.posts += 1
            Sink.items += body.count(b'"customUserId"') or 1
        elif head.startswith(b"GET /count"):
            answer = b"%d %d" % (Sink.posts, Sink.items)
        elif head.startswith(b"GET /reset"):
            Sink.posts = Sink.items = 0
        assert self._transport is not None
        self._transport.write(HEAD + str(len(answer)).encode() + b"\r\n\r\n" + answer)


async def serve(port: int) -> None:
    """Serve until the process ends."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port, backlog=256)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
