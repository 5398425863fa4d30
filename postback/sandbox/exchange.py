"""What passes between the HTTP server, the providers and the ledger: request, call, answer.

A credential lives only in `Call.credential`, for as long as its request is being served. Everything
that outlives the request (ledger, counters, rules) knows it by `fingerprint`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

JSON_TYPE: Final = "application/json"


def fingerprint(key: str) -> str:
    """The first 8 hex digits of the key's SHA-256.

    Enough to tell keys apart, useless to call a provider with.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:8]


@dataclass(slots=True)
class Request:
    """One HTTP request, fully read. Header names are lower case."""

    http_method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    #: seconds since the epoch, when the last byte of the request was read
    arrived_at: float
    #: seconds of the sandbox's monotonic clock at the same moment
    arrived_mono: float
    segments: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.segments = self.path.split("/")[1:]


@dataclass(slots=True)
class Call:
    """What a provider understood of a request's address, before it looks at the body."""

    provider: str
    method: str
    #: the path as it may be shown: a key in it is replaced by ``<key>``
    path: str
    #: the key or token itself, None if the request carries none
    credential: str | None
    #: the provider's own name of the account, where the address has one (myTracker's ``idApp``);
    #: a key's limits count for each of them by itself
    account: str = ""
    #: what a look-up asks for (TonAPI's event id)
    target: str = ""
    #: `fingerprint` of the credential, ``-`` without one
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.key = fingerprint(self.credential) if self.credential else "-"


@dataclass(slots=True)
class Answer:
    """An HTTP answer, and the code it means.

    `code` differs from `status` where an error travels inside HTTP 200.
    """

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)
    code: int = 0

    def __post_init__(self) -> None:
        self.code = self.code or self.status


@dataclass(slots=True)
class Accepted:
    """A provider took the request: the events in it, and its answer."""

    answer: Answer
    #: All events of the body, since the ledger shows the body as what was recorded.
    events: list[Any]
    #: True if the provider keeps the events; False for a look-up
    records: bool = True
    #: what a developer should know although the provider said yes
    note: str = ""


class Refused(Exception):
    """A provider refuses the request.

    Carries the answer and a reason that names fields, never their values.
    """

    def __init__(self, answer: Answer, reason: str) -> None:
        super().__init__(reason)
        self.answer = answer
        self.reason = reason


class BadJSON(ValueError):
    """The body is not JSON in UTF-8."""


def _constant(name: str) -> Any:
    # Python's parser takes NaN and Infinity, no provider's does.
    raise BadJSON(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_constant)


def parse_json(body: bytes) -> Any:
    """Parse a body.

    Raises:
        BadJSON: not UTF-8, not JSON, or nested beyond reason.
    """
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadJSON("the body is not JSON in UTF-8") from error


def json_answer(status: int, body: Any, *, code: int = 0, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON body, non-ASCII letters as they are."""
    return Answer(status, json.dumps(body, ensure_ascii=False).encode(), code=code, headers=headers or {})
