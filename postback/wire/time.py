"""Times in Redis: Redis' own clock, which is the only one that counts, and times as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

__all__ = ["iso", "moment", "redis_now_ms"]

if TYPE_CHECKING:
    import redis

#: Longest text of a time, in characters.
MAX_CHARS: Final = 255
#: The first and the last second of Python's dates.
FIRST_S: Final = -62_135_596_800
LAST_S: Final = 253_402_300_799


def redis_now_ms(client: redis.Redis) -> float:
    """Milliseconds since the epoch by Redis' clock. No other clock decides anything.

    Raises:
        redis.RedisError: As the client does.
    """
    seconds, micros = client.time()
    return float(seconds * 1000 + micros / 1000)


def iso(epoch_ms: float) -> str:
    """A time as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: object) -> float | None:
    """An ISO 8601 time in seconds since the epoch; None if the text is none.

    A time without a zone is UTC, as Celery sends it.
    """
    if not isinstance(text, str) or len(text) > MAX_CHARS:
        return None
    try:
        read = datetime.fromisoformat(text)
        seconds = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if FIRST_S <= seconds <= LAST_S else None
