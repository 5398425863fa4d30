"""Stands in for nginx where that is not installed.

It is the least HTTP server that answers every POST and logs it.

``python -m benchmarks.sink PORT DELAY_S LOG``. The log has nginx's format of
:mod:`benchmarks.provider`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import BinaryIO, Final

from benchmarks.provider import ANSWER

REPLY: Final = (
    f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(ANSWER)}\r\n\r\n{ANSWER}"
).encode()


class Sink(asyncio.Protocol):
    """One connection."""

    def __init__(self, delay_s: float, log: BinaryIO) -> None:
        """Answer after ``delay_s``; write each request into ``log``."""
        self._delay_s = delay_s
        self._log = log
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request in the buffer."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            total = end + 4 + (int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0)
            if len(self._buffer) < total:
                return
            body, self._buffer = self._buffer[end + 4 : total], self._buffer[total:]
            self._log.write(b"%.3f 0.000 %s\n" % (time.time(), body))
            if self._delay_s:
                asyncio.get_running_loop().call_later(self._delay_s, self._transport.write, REPLY)
            else:
                self._transport.write(REPLY)


async def serve(port: int, delay_s: float, path: str) -> None:
    """Serve until the process ends."""
    with open(path, "ab", buffering=0) as log:
        server = await asyncio.get_running_loop().create_server(
            lambda: Sink(delay_s, log), "127.0.0.1", port, backlog=4096
        )
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))
