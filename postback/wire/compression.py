"""Bodies that arrive compressed: of messages, by a Celery client, and of HTTP requests.

They are read up to a bound, because a compressed megabyte can hold gigabytes.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final

__all__ = ["gunzip", "inflate"]

#: Memory that LZMA may use while it reads, in bytes. Celery's clients need 9 MiB.
LZMA_BYTES: Final = 16 * 1024 * 1024

#: zlib's ``wbits`` for gzip with its header and trailer; kombu's "gzip" is zlib's own format.
_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS

#: kombu's name of a compression -> what makes a decompressor. kombu's other compressions cannot be
#: stopped at a bound.
_DECOMPRESSORS: Final[dict[str, Callable[[], Any]]] = {
    **dict.fromkeys(("application/x-gzip", "gzip", "zlib"), zlib.decompressobj),
    **dict.fromkeys(("application/x-bz2", "bzip2", "bzip"), bz2.BZ2Decompressor),
    **dict.fromkeys(("application/x-lzma", "lzma", "xz"), lambda: lzma.LZMADecompressor(memlimit=LZMA_BYTES)),
}


def inflate(data: bytes, compression: object, most: int) -> bytes:
    """Decompress a message's body.

    Args:
        data: The compressed body.
        compression: kombu's name of the compression.
        most: Most bytes of the decompressed body.

    Raises:
        ValueError: It is larger, damaged, or compressed in another way. The text ends a sentence
            about the body.
    """
    make = _DECOMPRESSORS.get(compression) if isinstance(compression, str) else None
    if make is None:
        raise ValueError("is compressed in a way that Postback does not read")
    return _read(make, data, most)


def gunzip(data: bytes, most: int) -> bytes:
    """Decompress an HTTP body with ``Content-Encoding: gzip``.

    Args:
        data: The compressed body.
        most: Most bytes of the decompressed body.

    Raises:
        ValueError: It is larger or damaged. The text ends a sentence about the body.
    """
    return _read(lambda: zlib.decompressobj(_GZIP_WBITS), data, most)


def _read(make: Callable[[], Any], data: bytes, most: int) -> bytes:
    try:
        decoder = make()
        # One byte more than the bound tells "too large" from "just fits".
        inflated: bytes = decoder.decompress(data, most + 1)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, MemoryError) as damaged:
        raise ValueError("is compressed and damaged") from damaged
    if len(inflated) > most:
        raise ValueError(f"has more than {most} bytes when it is decompressed")
    if not decoder.eof or decoder.unused_data:
        raise ValueError("is compressed and damaged")
    return inflated
