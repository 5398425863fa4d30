"""The ledger.

Every request that reached a provider, what was answered and what the provider has recorded.

It is the ground truth of a test ("which events did the provider really record, and how often?") and
the page a bot developer reads. No key is ever in it: a key is named by its fingerprint.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final

from postback.wire.time import iso

#: request headers worth keeping; those that carry credentials are not among them
HEADERS: Final = (
    "accept",
    "accept-encoding",
    "accept-language",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
)


@dataclass(slots=True)
class Record:
    """One request."""

    #: 1, 2, 3 …, in the order in which the provider decided
    seq: int
    #: arrival: seconds since the epoch, and seconds of the sandbox's monotonic clock
    at: float
    mono: float
    provider: str
    #: fingerprint of the credential, ``-`` without one
    key: str
    #: account name given with the key, else the provider's own (``idApp``), else ``""``
    account: str
    method: str
    http_method: str
    #: without the key
    path: str
    #: HTTP status answered; None if the connection ended without an answer
    status: int | None
    #: the provider's code: differs from `status` where an error travels inside HTTP 200
    code: int
    #: ``recorded``, ``answered``, or why not; names fields, never their values
    reason: str
    #: kind of the fault that was played, ``""`` if none
    fault: str
    #: True if the provider has kept the events of this request
    recorded: bool
    #: number of events in an accepted request
    count: int
    #: body as received, decompressed; None once dropped to bound memory
    body: bytes | None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def events(self) -> list[Any]:
        """The events recorded by this request, parsed.

        Empty if none were recorded or the body was dropped.
        """
        if not self.recorded or self.body is None:
            return []
        parsed = json.loads(self.body)
        return parsed if isinstance(parsed, list) else [parsed]

    def to_json(self) -> dict[str, Any]:
        """The record as the control API and the ledger file show it (body in base64)."""
        return {
            "seq": self.seq,
            "at": iso(self.at * 1000),
            "monotonic": self.mono,
            "provider": self.provider,
            "key": self.key,
            "account": self.account,
            "method": self.method,
            "http_method": self.http_method,
            "path": self.path,
            "status": self.status,
            "code": self.code,
            "reason": self.reason,
            "fault": self.fault,
            "recorded": self.recorded,
            "count": self.count,
            "events": self.events,
            "body": None if self.body is None else base64.b64encode(self.body).decode(),
            "headers": self.headers,
        }


class Ledger:
    """All records, exact counts, and a condition to wait on.

    Args:
        keep_records: records kept (the latest); None keeps all. Counts stay exact.
        keep_bodies: records that keep their raw body (the latest); None keeps all.
        file: JSON lines are appended to it, one a request, so that the ledger survives the process.
        listener: called with each new record, outside the lock.
    """

    def __init__(
        self,
        *,
        keep_records: int | None = None,
        keep_bodies: int | None = None,
        file: Path | str | None = None,
        listener: Callable[[Record], None] | None = None,
    ) -> None:
        self._changed = threading.Condition()
        self._records: deque[Record] = deque(maxlen=keep_records)
        self._with_body: deque[Record] = deque()
        self._keep_bodies = keep_bodies
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self._seq = 0
        self._file: TextIOWrapper | None = None
        if file:
            self._file = open(file, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - open as long as the ledger
        self._listener = listener

    def append(self, record: Record) -> None:
        """Number a record, count it, keep it, wake whoever waits."""
        with self._changed:
            self._seq += 1
            record.seq = self._seq
            self._count(record)
            self._records.append(record)
            if self._keep_bodies is not None:
                self._with_body.append(record)
                if len(self._with_body) > self._keep_bodies:
                    self._with_body.popleft().body = None
            if self._file:
                self._file.write(json.dumps(record.to_json(), ensure_ascii=False) + "\n")
            self._changed.notify_all()
        if self._listener:
            self._listener(record)

    def _count(self, record: Record) -> None:
        counts = self._counts.setdefault((record.provider, record.key), Counter())
        counts["requests"] += 1
        counts["accepted"] += record.count > 0
        counts["recorded"] += record.recorded
        counts["events"] += record.count if record.recorded else 0
        counts["429"] += record.code == 429
        counts["unanswered"] += record.status is None

    @property
    def seq(self) -> int:
        """Number of the latest record."""
        return self._seq

    def wait_beyond(self, seq: int, timeout_s: float) -> bool:
        """Wait until a record later than `seq` exists; False if there was none in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._seq != seq, timeout_s)

    def records(
        self,
        *,
        provider: str | None = None,
        recorded: bool | None = None,
        since: int = 0,
        key: str | None = None,
        method: str | None = None,
        last: int | None = None,
    ) -> list[Record]:
        """Kept records with ``seq > since`` that match, oldest first.

        `key` is a fingerprint; `last` keeps only the latest so many.
        """
        with self._changed:
            kept = list(self._records)
        records = [
            record
            for record in kept
            if record.seq > since
            and (provider is None or record.provider == provider)
            and (recorded is None or record.recorded is recorded)
            and (key is None or record.key == key)
            and (method is None or record.method == method)
        ]
        return records if last is None else records[-last:] if last > 0 else []

    def stats(self) -> dict[str, Any]:
        """Exact counts since the start or the last `clear`.

        In all, per provider, and there per key fingerprint.
        """
        with self._changed:
            counts = {pair: Counter(counter) for pair, counter in self._counts.items()}
        total: Counter[str] = Counter()
        providers: dict[str, Any] = {}
        for (provider, key), counter in sorted(counts.items()):
            total.update(counter)
            entry = providers.setdefault(provider, {"sum": Counter(), "keys": {}})
            entry["sum"].update(counter)
            entry["keys"][key] = _plain(counter)
        return _plain(total) | {
            "providers": {name: _plain(entry["sum"]) | {"keys": entry["keys"]} for name, entry in providers.items()}
        }

    def clear(self) -> None:
        """Forget all records and counts.

        Numbering goes on, so that a reader's ``since`` stays good.
        """
        with self._changed:
            self._records.clear()
            self._with_body.clear()
            self._counts.clear()

    def close(self) -> None:
        """Close the ledger file."""
        with self._changed:
            if self._file:
                self._file.close()
                self._file = None


def _plain(counter: Counter[str]) -> dict[str, Any]:
    return {name: counter[name] for name in ("requests", "accepted", "recorded", "events", "429", "unanswered")}
