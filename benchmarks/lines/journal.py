"""The line of the journal: what a million entries take to write, and to search."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Final

from benchmarks.lines.waiting import WAITING
from benchmarks.table import Goal, Line, Quantity, Sample
from postback.journal.location import VARIABLE, journal_url
from postback.journal.query import Query
from postback.journal.records import Entry, Record, key_hash
from postback.journal.store import Store
from tests.shared.postgres import PostgresServer

WRITTEN: Final = Quantity("entries/s written by one process", True)
SIZE: Final = Quantity("MB of the SQLite file", False)
#: Searches of each kind; their median counts.
SEARCHES: Final = 50
#: Entries of a transaction, as the process writes them.
PART: Final = 1000
#: People and accounts that the events are of.
PEOPLE: Final = WAITING // 10
ACCOUNTS: Final = 200
KINDS: Final = ("user", "id", "idempotency key")


def found_in(kind: str) -> Quantity:
    """How long a search takes."""
    return Quantity(f"ms to find the events of one {kind} among {WAITING:,} entries", False)


def part(first: int) -> list[Record]:
    """Records of single events, a third of which have a key."""
    entries = []
    for number in range(first, first + PART):
        key = f"order-{number}" if number % 3 == 0 else ""
        entries.append(
            Entry(
                f"postback:{number % 7:012x}.{number}.1", 0, 1_733_011_200_000 + number, f"tgtrack.a{number % ACCOUNTS}",
                id=event_id(number), task="tgtrack.add_event", user=str(7_000_000 + number % PEOPLE), key=key,
                key_hash=key_hash(key) if key else "", outcome="delivered", status=200, ms=12.3, worker="tgtrack-71@host", batch=1,
                end="delivered", enqueued_ms=1_733_011_200_000 + number, first_ms=1_733_011_200_000 + number,
            )
        )  # fmt: skip
    return [Record([entry]) for entry in entries]


def event_id(number: int) -> str:
    """The id of the event of that number: as random as real ones."""
    return str(uuid.UUID(int=random.Random(number).getrandbits(128)))


def query(kind: str, number: int) -> Query:
    """A search that finds something."""
    if kind == "user":
        return Query(user=str(7_000_000 + number % PEOPLE))
    if kind == "id":
        return Query(ids=frozenset({event_id(number)}))
    return Query(key=f"order-{number - number % 3}")


def journal(scale: float) -> Iterator[Sample]:
    """Write, then search, in both databases."""
    count = int(WAITING * scale / PART) * PART
    with tempfile.TemporaryDirectory(prefix="postback-bench-") as folder:
        file = Path(folder, "journal.sqlite3")
        for who in ("Postback, SQLite", "Postback, PostgreSQL"):
            with PostgresServer() if who.endswith("PostgreSQL") else nullcontext() as server:
                url = journal_url({VARIABLE: server.url if server is not None else f"sqlite:///{file}"})
                with closing(Store.writing(url)) as store:
                    spent_s = 0.0
                    for first in range(0, count, PART):
                        records = part(first)
                        begun = time.perf_counter()
                        store.add("bench", "tgtrack", records, None, 0)
                        spent_s += time.perf_counter() - begun
                yield Sample(WRITTEN, who, count / spent_s)
                if server is None:
                    yield Sample(SIZE, who, file.stat().st_size / 1e6)
                with closing(Store.reading(url)) as store:
                    for kind in KINDS:
                        yield Sample(found_in(kind), who, statistics.median(_searches(store, kind, count)))


def _searches(store: Store, kind: str, count: int) -> Iterator[float]:
    for number in random.Random(1).sample(range(count), SEARCHES):
        begun = time.perf_counter()
        entries = store.entries(query(kind, number))
        yield (time.perf_counter() - begun) * 1000
        if not entries:
            raise AssertionError(f"nothing found by {kind}")


LINES: Final = (
    Line(
        "journal",
        f"the journal's database with {WAITING:,} entries",
        journal,
        [Goal(found_in("user"), 50, who) for who in ("Postback, SQLite", "Postback, PostgreSQL")],
    ),
)
