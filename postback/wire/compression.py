"""Message bodies that a Celery client has compressed, read up to a bound: a megabyte can hold gigabytes."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final

__all__ = ["inflate"]

#: What LZMA may take of memory while it reads, in bytes: Celery's clients need 9 MiB.
LZMA_BYTES: Final = 16 * 1024 * 1024

#: kombu's names of compressions -> what makes a decompressor. Others of kombu's cannot be stopped at a bound.
_DECOMPRESSORS: Final[dict[str, Callable[[], Any]]] = {
    **dict.fromkeys(("application/x-gzip", "gzip", "zlib"), zlib.decompressobj),
    **dict.fromkeys(("application/x-bz2", "bzip2", "bzip"), bz2.BZ2Decompressor),
    **dict.fromkeys(("application/x-lzma", "lzma", "xz"), lambda: lzma.LZMADecompressor(memlimit=LZMA_BYTES)),
}


def inflate(data: bytes, compression: object, most: int) -> bytes:
    """What was compressed.

    Args:
        data: The compressed body.
        compression: kombu's name of how.
        most: Bytes that it may have at most.

    Raises:
        ValueError: It is larger, damaged, or compressed in another way; the text ends a sentence about the body.
    """
    make = _DECOMPRESSORS.get(compression) if isinstance(compression, str) else None
    if make is None:
        raise ValueError("is compressed in a way that Postback does not read")
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
