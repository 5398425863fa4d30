"""Faults on demand.

What may go wrong between a client and a provider, played for the requests that match.

A fault ends a request either *before* the provider has recorded its events or *after*; for a client
the two often look the same, which is why a test needs to choose.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from .exchange import Answer, Call, fingerprint


class Delivery(Enum):
    """How an answer travels."""

    WHOLE = auto()
    #: the connection is reset (RST), nothing is answered
    RESET = auto()
    #: the connection is closed (FIN), nothing is answered
    CLOSE = auto()
    #: nothing is answered for a while
    HOLD = auto()
    #: the body comes byte by byte
    DRIP = auto()
    #: half the body, then the end
    TRUNCATE = auto()


_HTML_502: Final = (
    b"<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>\n"
)
_HTML_203: Final = (
    b"<html><head><title>One moment</title></head><body>Checking your browser before you proceed.</body></html>\n"
)
_GARBAGE: Final = b'\x1f\x8b<!-- \xff\xfe {"status": "O'


@dataclass(frozen=True, slots=True)
class _Kind:
    delivery: Delivery
    #: whether the provider records before it happens, unless the fault says otherwise
    recorded: bool
    #: None leaves the provider's own answer
    answer: Answer | None = None


_KINDS: Final[dict[str, _Kind]] = {
    "reset_before": _Kind(Delivery.RESET, False),
    "reset_after": _Kind(Delivery.RESET, True),
    "close_before": _Kind(Delivery.CLOSE, False),
    "close_after": _Kind(Delivery.CLOSE, True),
    "timeout_before": _Kind(Delivery.HOLD, False),
    "timeout_after": _Kind(Delivery.HOLD, True),
    "slow_drip": _Kind(Delivery.DRIP, True),
    "truncated": _Kind(Delivery.TRUNCATE, True),
    "garbage": _Kind(Delivery.WHOLE, True, Answer(200, _GARBAGE, "application/json")),
    "empty": _Kind(Delivery.WHOLE, True, Answer(200, b"")),
    "html_502": _Kind(Delivery.WHOLE, False, Answer(502, _HTML_502, "text/html")),
    "203": _Kind(Delivery.WHOLE, False, Answer(203, _HTML_203, "text/html")),
    "redirect": _Kind(Delivery.WHOLE, False, Answer(302, b"", "text/html", {"Location": "/_sandbox/redirected"})),
    "failed_to_record": _Kind(Delivery.WHOLE, False, Answer(400, b'{"message": "Failed to record"}')),
    "status": _Kind(Delivery.WHOLE, False),
}
_ALIASES: Final = {"reset": "reset_before", "timeout": "timeout_before", "302": "redirect", "502": "html_502"}
#: fields of a fault's description and their JSON types
_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "kind": (str, int),
    "provider": (str,),
    "key": (str,),
    "fingerprint": (str,),
    "account": (str,),
    "method": (str,),
    "count": (int,),
    "skip": (int,),
    "probability": (int, float),
    "contains": (str, bytes),
    "seconds": (int, float),
    "retry_after": (int, str),
    "status": (int,),
    "body": (str, bytes),
    "content_type": (str,),
    "headers": (dict,),
    "recorded": (bool,),
}
#: kinds, and any HTTP status as the provider words it (``"500"``, ``"429"`` …)
KINDS: Final = (*_KINDS, "100…599")


@dataclass(slots=True)
class Fault:
    """One rule: which requests it hits, how often, and what happens.

    Attributes:
        kind: one of `KINDS`.
        count: requests it hits before it ends; None until it is removed.
        skip: matching requests it lets pass first.
        probability: chance to hit a matching request, 0…1.
        key: fingerprint; `account` is an account name given with the key, or myTracker's ``idApp``.
        contains: bytes that the body must contain.
        seconds: for timeouts how long the connection is held (None: until the fault is removed),
            for ``slow_drip`` how long the body takes.
        recorded: whether the provider records the events all the same; each kind has a default.
    """

    kind: str
    provider: str | None = None
    key: str | None = None
    account: str | None = None
    method: str | None = None
    count: int | None = None
    skip: int = 0
    probability: float = 1.0
    contains: bytes | None = None
    seconds: float | None = None
    retry_after: int | str | None = None
    status: int | None = None
    body: bytes | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    recorded: bool | None = None
    id: int = 0
    hits: int = 0
    #: set when the fault is removed, so that held connections end
    removed: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> Fault:
        """Read a fault as the control API and `Sandbox.fault` give it (`key` is the key itself).

        Raises:
            ValueError: an unknown kind or field, or a value of the wrong kind.
        """
        values = {name: value for name, value in spec.items() if value is not None}
        for name, value in values.items():
            if name not in _FIELDS:
                raise ValueError(f"a fault has no field {name!r}; it has {', '.join(_FIELDS)}")
            if not isinstance(value, _FIELDS[name]) or (isinstance(value, bool) and bool not in _FIELDS[name]):
                raise ValueError(f"fault field {name!r} must be {' or '.join(kind.__name__ for kind in _FIELDS[name])}")
        kind = str(values.pop("kind", ""))
        kind = _ALIASES.get(kind, kind)
        if kind not in _KINDS and not (kind.isascii() and kind.isdigit() and 100 <= int(kind) <= 599):
            raise ValueError(f"fault kind {kind!r} is none of {', '.join(KINDS)}")
        if kind == "status" and "status" not in values:
            raise ValueError("fault kind 'status' needs the field 'status'")
        key = values.pop("key", None)
        print_of_key = values.pop("fingerprint", fingerprint(key) if key else None)
        for name in ("contains", "body"):
            if isinstance(values.get(name), str):
                values[name] = values[name].encode()
        return cls(kind=kind, key=print_of_key, **values)

    @property
    def delivery(self) -> Delivery:
        """How the answer travels."""
        known = _KINDS.get(self.kind)
        return known.delivery if known else Delivery.WHOLE

    @property
    def records(self) -> bool:
        """True if the provider handles the request before the fault shows."""
        if self.recorded is not None:
            return self.recorded
        known = _KINDS.get(self.kind)
        return known.recorded if known else False

    def answer(self, wording: Answer | None) -> Answer | None:
        """The answer to give, None to leave the provider's own.

        Args:
            wording: what the provider says for a plain status.
        """
        known = _KINDS.get(self.kind)
        base = known.answer if known else wording
        if self.kind == "status":
            base = Answer(self.status or 200, b"")
        if base is None:
            return None
        headers = {**base.headers, **self.headers}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return Answer(
            self.status or base.status,
            base.body if self.body is None else self.body,
            self.content_type or base.content_type,
            headers,
            code=0 if self.status else base.code,
        )

    @property
    def code(self) -> int | None:
        """The status to ask the provider's wording for, None if the kind has its own answer."""
        return None if self.kind in _KINDS else int(self.kind)

    def matches(self, call: Call, account: str, body: bytes) -> bool:
        """True if the request is one that this fault may hit."""
        return (
            (self.provider is None or self.provider == call.provider)
            and (self.key is None or self.key == call.key)
            and (self.account is None or self.account in (account, call.account))
            and (self.method is None or self.method == call.method)
            and (self.contains is None or self.contains in body)
        )

    def to_json(self) -> dict[str, Any]:
        """The rule as the control API shows it."""
        shown = (
            "id",
            "kind",
            "provider",
            "key",
            "account",
            "method",
            "count",
            "skip",
            "probability",
            "seconds",
            "retry_after",
            "status",
        )
        return {name: getattr(self, name) for name in shown} | {"recorded": self.records, "hits": self.hits}


class Faults:
    """The faults in force, tried in the order in which they were set."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._next_id = 1

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force."""
        with self._lock:
            fault.id, self._next_id = self._next_id, self._next_id + 1
            self._faults.append(fault)
        return fault

    def clear(self, fault_id: int | None = None) -> int:
        """Remove one fault, or all; connections that they hold are let go.

        Returns how many were removed.
        """
        with self._lock:
            gone = [fault for fault in self._faults if fault_id in (None, fault.id)]
            self._faults = [fault for fault in self._faults if fault_id not in (None, fault.id)]
        for fault in gone:
            fault.removed.set()
        return len(gone)

    def listed(self) -> list[Fault]:
        """The faults set, also those that have used up their count."""
        with self._lock:
            return list(self._faults)

    def hit(self, call: Call, account: str, body: bytes) -> Fault | None:
        """The fault that this request meets, None if it meets none. Charges its count."""
        if not self._faults:
            return None
        with self._lock:
            for fault in self._faults:
                if (fault.count is not None and fault.hits >= fault.count) or not fault.matches(call, account, body):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                if fault.probability < 1 and self._rng.random() >= fault.probability:
                    continue
                fault.hits += 1
                return fault
        return None
