"""The journal of one Redis: what waits there for the database, and when it was last written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from postback.wire import keys
from postback.wire.time import iso

__all__ = ["JournalStatus", "Stream", "journal_status"]

#: Replies for each provider in the pipeline.
_OF_PROVIDER: Final = 3


@dataclass(frozen=True, slots=True)
class Stream:
    """A provider's records in Redis.

    Attributes:
        entries: Records that wait.
        lag_s: Age of the oldest; 0: none waits.
        lost: Records that a full stream has lost, and that are not in the database's table of gaps
            yet.
    """

    entries: int = 0
    lag_s: float = 0.0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """The journal of one Redis.

    Attributes:
        url: The Redis, without user and password.
        id: Its name in the journal's database; empty: no journal process has ever run for it.
        written_ms: When such a process last wrote to the database; None: never.
        silent_s: Time since then; infinite: never.
        streams: Provider -> its records.
    """

    url: str
    id: str
    written_ms: float | None
    silent_s: float
    streams: Mapping[str, Stream]

    @property
    def entries(self) -> int:
        """Records that wait, of all providers."""
        return sum(stream.entries for stream in self.streams.values())

    @property
    def lag_s(self) -> float:
        """Age of the oldest of them; 0: none waits."""
        return max((stream.lag_s for stream in self.streams.values()), default=0.0)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "redis": self.url,
            "id": self.id or None,
            "last_written": None if self.written_ms is None else iso(self.written_ms),
            "streams": {
                name: {"entries": stream.entries, "lag_s": round(stream.lag_s, 3), "lost": stream.lost}
                for name, stream in self.streams.items()
            },
        }


def journal_status(client: redis.Redis, providers: Iterable[str], now_ms: float, *, url: str = "") -> JournalStatus:
    """Look at the journal in one Redis.

    Args:
        client: Replies as bytes.
        providers: Whose streams.
        now_ms: Redis' clock.
        url: What to call this Redis, without a password.

    Raises:
        redis.RedisError: As the client does.
    """
    names = tuple(providers)
    pipeline = client.pipeline(transaction=False)
    pipeline.hgetall(keys.JOURNAL)
    for name in names:
        pipeline.xlen(keys.journal(name))
        pipeline.xrange(keys.journal(name), count=1)
        pipeline.hgetall(keys.journal_gap(name))
    about, *replies = pipeline.execute()
    each = [replies[at : at + _OF_PROVIDER] for at in range(0, len(replies), _OF_PROVIDER)]
    written_ms = _whole(about.get(b"at"))
    return JournalStatus(
        url,
        about.get(b"id", b"").decode("utf-8", "replace"),
        written_ms or None,
        max(0.0, now_ms - written_ms) / 1000 if written_ms else math.inf,
        {
            name: Stream(entries, _age_s(first, now_ms), _whole(gap.get(b"lost")))
            for name, (entries, first, gap) in zip(names, each, strict=True)
        },
    )


def _age_s(first: list[tuple[bytes, Any]], now_ms: float) -> float:
    """The age of a stream's first entry. Its id begins with its time in ms."""
    return max(0.0, now_ms - int(first[0][0].partition(b"-")[0])) / 1000 if first else 0.0


def _whole(text: bytes | None) -> int:
    """A number in Redis. Anybody may have written it."""
    return int(text) if text is not None and text.isdigit() and len(text) < 16 else 0
