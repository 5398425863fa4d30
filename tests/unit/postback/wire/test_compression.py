"""Compressed bodies are inflated up to a bound."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from kombu.compression import compress

from postback._events.payload import MAX_MESSAGE_BYTES
from postback.wire.compression import gunzip, inflate

KINDS: dict[str, Callable[[bytes], bytes]] = {"gzip": zlib.compress, "bzip2": bz2.compress, "lzma": lzma.compress}


@pytest.mark.parametrize(
    "name",
    ["application/x-gzip", "gzip", "zlib", "application/x-bz2", "bzip2", "bzip", "application/x-lzma", "lzma", "xz"],
)
def test_what_kombu_compressed(name: str) -> None:
    """Every name that is taken is kombu's, and its data are read."""
    data, _ = compress(b"[[], {}, {}]", name)
    assert inflate(data, name, MAX_MESSAGE_BYTES) == b"[[], {}, {}]"


@pytest.mark.parametrize("name", KINDS)
def test_bound(name: str) -> None:
    """Content of just the bound is read; one byte more is refused in a sentence."""
    assert inflate(KINDS[name](b"a" * 1000), name, 1000) == b"a" * 1000
    with pytest.raises(ValueError, match="has more than 1000 bytes when it is decompressed"):
        inflate(KINDS[name](b"a" * 1001), name, 1000)


@pytest.mark.parametrize("name", KINDS)
def test_bomb_takes_no_memory(name: str) -> None:
    """A hundred megabytes in a hundred kilobytes are not inflated."""
    data = KINDS[name](bytes(100_000_000))
    tracemalloc.start()
    with pytest.raises(ValueError, match="has more than"):
        inflate(data, name, MAX_MESSAGE_BYTES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "trailing"])
def test_damaged(name: str, damage: str) -> None:
    """What is damaged is refused in a sentence, whatever its decoder raises."""
    whole = KINDS[name](b"[[], {}, {}]" * 100)
    data = {"empty": b"", "cut": whole[:-1], "garbage": b"garbage", "trailing": whole + b"x"}[damage]
    with pytest.raises(ValueError, match="is compressed and damaged"):
        inflate(data, name, MAX_MESSAGE_BYTES)


def test_decoder_that_wants_much_memory() -> None:
    """An lzma stream whose dictionary would take more than the bound of memory is refused."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 27}]
    with pytest.raises(ValueError, match="is compressed and damaged"):
        inflate(lzma.compress(b"x", filters=filters), "lzma", 10)


@pytest.mark.parametrize("name", ["zstd", "application/zstd", "brotli", "rot13", ""])
def test_others(name: str) -> None:
    """Any other compression is refused in a sentence."""
    with pytest.raises(ValueError, match="in a way that Postback does not read"):
        inflate(b"", name, 10)


def test_http_bound() -> None:
    """An HTTP body of just the bound is read; one byte more is refused in a sentence."""
    assert gunzip(gzip.compress(b"a" * 1000), 1000) == b"a" * 1000
    with pytest.raises(ValueError, match="has more than 1000 bytes when it is decompressed"):
        gunzip(gzip.compress(b"a" * 1001), 1000)


def test_http_bomb_takes_no_memory() -> None:
    """A hundred megabytes in an HTTP body of a hundred kilobytes are not inflated."""
    data = gzip.compress(bytes(100_000_000))
    tracemalloc.start()
    with pytest.raises(ValueError, match="has more than"):
        gunzip(data, 1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("damage", ["empty", "plain", "cut", "trailing", "zlib"])
def test_http_damaged(damage: str) -> None:
    """An HTTP body that is not one whole gzip stream is refused in a sentence."""
    whole, zlibs = gzip.compress(b"[{}]" * 100), zlib.compress(b"[{}]")
    data = {"empty": b"", "plain": b"[{}]", "cut": whole[:-1], "trailing": whole + b"x", "zlib": zlibs}[damage]
    with pytest.raises(ValueError, match="is compressed and damaged"):
        gunzip(data, 1000)
