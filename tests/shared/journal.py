"""Records of the journal as scripts write them, and entries of the database."""

from __future__ import annotations

import json
from typing import Any, Final

from postback.journal.records import Entry, Record, key_hash

#: A time, ms.
AT_MS: Final = 1_733_011_200_000
#: A database's password, which nothing may show.
PASSWORD: Final = "s3cret/W0rd@"


def record(number: int, at_ms: int = AT_MS, **event: Any) -> str:
    """A request of one event, ``e<number>``, as it stands in a stream."""
    document = {
        "grant": f"g{number}",
        "at": at_ms,
        "queue": "tgtrack.main",
        "outcome": "delivered",
        "status": 200,
        "events": [{"id": f"e{number}", "task": "tgtrack.add_event", "user": "7000100", "end": "delivered", **event}],
    }
    return json.dumps(document)


def entry(id: str, at_ms: int = AT_MS, place: int = 0, *, key: str = "", **values: Any) -> Entry:
    """An entry with a grant of its own."""
    names: dict[str, Any] = {"queue": "tgtrack.main", "task": "tgtrack.add_event", "outcome": "delivered", **values}
    hashed = key_hash(key) if key else ""
    return Entry(**{"grant": f"g-{id}-{at_ms}", **names}, place=place, at_ms=at_ms, id=id, key=key, key_hash=hashed)


def records(*entries: Entry) -> list[Record]:
    """Each entry as a record of its own."""
    return [Record([one]) for one in entries]
