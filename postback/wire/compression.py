"""Message bodies that a Celery client has compressed.

They are read up to a bound, because a compressed megabyte can hold gigabytes.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final

__all__ = ["inflate"]

#: Memory that LZMA may use while it reads, in bytes. Celery's clients need 9 MiB.
LZMA_BYTES: Final = 16 * 1024 * 1024

#: kombu's name of a compression -> what makes a decompressor. kombu's other compressions cannot be
#: stopped at a bound.
_DECOMPRESSORS: Final[dict[str, Callable[[], Any]]] = {
    **dict.fromkeys(("application/x-gzip", "gzip", "zlib"), zlib.decompressobj),
    **dict.fromkeys(("application/x-bz2", "bzip2", "bzip"), bz2.BZ2Decompressor),
    **dict.fromkeys(("application/x-lzma", "lzma", "xz"), lambda: lzma.LZMADecompressor(memlimit=LZMA_BYTES)),
}


def inflate(data: bytes, compression: object, most: int) -> bytes:
    """Decompress a body.

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
