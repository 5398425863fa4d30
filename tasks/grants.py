"""What TAKE hands over and what SETTLE takes back: messages with their delivery state, grants, settlements.

The governor (``workers.governor``) fills and empties :data:`REGISTRY`; a Celery task finds its grant there by delivery tag.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson
from kombu.compression import decompress

#: First characters of every grant id, so that kombu's own delivery tags (UUIDs) are never taken for one.
GRANT_PREFIX: Final = "postback:"

#: Milliseconds of the epoch in the year 5138: whatever is later is no time.
LATEST_MS: Final = 10**14
#: Longest delivery state, in characters, and most digits of a number in it: microseconds of that year have as many.
MAX_STATE: Final = 400
MAX_DIGITS: Final = 17
#: Largest number of requests, crashes, polls of one event; longest age in ms. See ``state_of`` in ``workers/lua/common.lua``.
MAX_COUNTED: Final = 100_000
MAX_AGE_MS: Final = 400 * 86_400_000
#: A first grant lies at most so far in the future, in microseconds: clocks differ.
MAX_AHEAD_US: Final = 86_400_000_000

#: So many digits in a row, found after :data:`ANY_DIGIT`, may be an integer beyond 64 bits. A regular expression takes seven times as long.
LONG_NUMBER: Final = b"0" * 19
#: Every digit as a 0.
ANY_DIGIT: Final = bytes.maketrans(b"123456789", b"000000000")

#: What an answer says of the provider. ``unknown``: there may have been one, it says nothing. ``none``: nothing was sent.
Health = Literal["ok", "fail", "quota", "refused", "unknown", "none"]


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """What earlier deliveries of a message left in its header ``postback`` (written by the scripts, read here)."""

    #: Attempts used up so far.
    attempts: int = 0
    #: Failures in the current run of failures; given back if it turns out to be an outage.
    tries: int = 0
    #: Time of the first grant, microseconds of the Redis clock; 0 before it.
    first_us: int = 0
    #: An earlier attempt may have been recorded.
    duplicate: bool = False
    #: Workers that died, or were cut off, with this message.
    crashes: int = 0
    #: Looks at an answer that was not final.
    polls: int = 0
    #: Answers that are worth few attempts.
    odd: int = 0
    #: Milliseconds of back-off so far.
    age_ms: int = 0

    @classmethod
    def parse(cls, text: object) -> DeliveryState:
        """Read ``attempts=2 first=1732240000000000 duplicate=1``; anything else counts as no state, as the scripts have it.

        Anybody may write it: a number outside its range is dropped.
        """
        if not isinstance(text, str) or not text or len(text) > MAX_STATE:
            return UNTOUCHED
        words = dict(word.partition("=")[::2] for word in text.split())

        def number(name: str, most: int = MAX_COUNTED) -> int:
            digits = words.get(name, "0")
            value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS else 0
            return value if value <= most else 0

        return cls(
            number("attempts"),
            number("tries"),
            number("first", time.time_ns() // 1000 + MAX_AHEAD_US),
            number("duplicate", 1) > 0,
            number("crashes"),
            number("polls"),
            number("odd"),
            number("age", MAX_AGE_MS),
        )


#: The state of a message that was never delivered.
UNTOUCHED: Final = DeliveryState()


def _moment(text: object) -> float | None:
    """An ISO 8601 header in seconds of the epoch; None if it is none. A time without a zone is UTC, as Celery sends it."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


@dataclass(slots=True)
class Envelope:
    """One message as it left its queue.

    ``defect`` says in a few words why it is no event message; then only ``raw`` and what could be read of ``id`` and ``task`` count.
    """

    raw: bytes
    id: str = ""
    task: str = ""
    kwargs: dict[str, Any] = field(default_factory=dict)
    embed: dict[str, Any] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)
    state: DeliveryState = UNTOUCHED
    #: Id of the event that owns this one's idempotency key; then this one is dropped.
    duplicate_of: str = ""
    #: Somebody has revoked it.
    revoked: bool = False
    defect: str = ""

    @property
    def headers(self) -> dict[str, Any]:
        """The message's Celery headers."""
        headers = self.document.get("headers")
        return headers if isinstance(headers, dict) else {}

    @property
    def enqueued_ms(self) -> int:
        """When the producer enqueued it (ms of the epoch), else its first grant, else 0.

        Anybody may write the header: a time that is none (microseconds, say) does not count.
        """
        at = self.headers.get("postback_at")
        if isinstance(at, int) and not isinstance(at, bool) and 0 < at < LATEST_MS:
            return at
        return self.state.first_us // 1000

    @property
    def wanted_ms(self) -> int:
        """When it was last wanted: enqueued, due (``eta``) or replayed, whichever is latest (ms of the epoch); 0 if unknown."""
        eta = _moment(self.headers.get("eta"))
        replayed = self.headers.get("postback_replayed_at")
        return max(
            self.enqueued_ms,
            0 if eta is None else int(eta * 1000),
            replayed if isinstance(replayed, int) and 0 < replayed < LATEST_MS else 0,
        )

    @property
    def expires(self) -> float | None:
        """Celery's ``expires`` header in seconds of the epoch."""
        return _moment(self.headers.get("expires"))

    @property
    def has_followers(self) -> bool:
        """Whether ``link``, ``link_error``, a chain or a chord hangs on it."""
        return any(map(self.embed.get, ("callbacks", "errbacks", "chain", "chord")))


def _parsed(raw: bytes) -> Any:
    """A queue entry as JSON. orjson takes a third of the standard library's time, and this is a fifth of a busy worker's."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        # It is stricter: a lone surrogate, NaN. What Celery can read is a message, but only in UTF-8: the scripts read no other.
        return json.loads(raw.decode())


def _parsed_body(body: Any) -> Any:
    """A message's body as JSON: orjson where it reads just what the standard library reads, which is not so for integers beyond 64 bits."""
    text = body.encode() if isinstance(body, str) else body
    if LONG_NUMBER in text.translate(ANY_DIGIT):
        return json.loads(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def open_envelope(raw: bytes, owner: str = "") -> Envelope:
    """Read a raw queue entry; never raises, see :attr:`Envelope.defect`."""
    envelope = Envelope(raw=raw, duplicate_of=owner)
    try:
        document = _parsed(raw)
    except (ValueError, RecursionError):
        envelope.defect = "not JSON"
        return envelope
    if (
        not isinstance(document, dict)
        or not isinstance(document.get("headers"), dict)
        or not isinstance(document.get("properties"), dict)
    ):
        envelope.defect = "not a Celery message"
        return envelope
    envelope.document = document
    headers: dict[str, Any] = document["headers"]
    task_id, task = headers.get("id"), headers.get("task")
    envelope.id = task_id if isinstance(task_id, str) else ""
    envelope.task = task if isinstance(task, str) else ""
    if not envelope.id or not envelope.task:
        envelope.defect = "without a task name or an id"
        return envelope
    envelope.state = DeliveryState.parse(headers.get("postback"))
    try:
        _open_body(envelope, document)
    except Exception:  # every decompressor has errors of its own, and what is raised here would stop the feeder
        envelope.defect = "its body cannot be read"
    return envelope


def _open_body(envelope: Envelope, document: dict[str, Any]) -> None:
    content_type = document.get("content-type")
    if content_type != "application/json":
        envelope.defect = "its content type is not application/json"
        return
    properties = document["properties"]
    if not isinstance(properties.get("delivery_info", {}), dict | None):
        envelope.defect = "its delivery_info is no object"
        return
    encoding = properties.get("body_encoding")
    if encoding not in (None, "", "utf-8", "base64"):
        envelope.defect = "its body's encoding is unknown"
        return
    body: Any = document.get("body")
    if encoding == "base64":
        body = base64.b64decode(body, validate=True)
    compression = envelope.headers.get("compression")
    if compression:
        body = decompress(body if isinstance(body, bytes) else body.encode(), compression)
    parts = _parsed_body(body)
    if not isinstance(parts, list) or len(parts) != 3 or not isinstance(parts[1], dict):
        envelope.defect = "its body is not [args, kwargs, embed]"
        return
    if parts[0]:
        envelope.defect = "it has positional arguments"
        return
    envelope.kwargs = parts[1]
    envelope.embed = parts[2] if isinstance(parts[2], dict) else {}


@dataclass(slots=True)
class Settlement:
    """What SETTLE is to do with a grant: see ``workers/lua/settle.lua`` for the verbs."""

    health: Health = "ok"
    #: A few words for operators.
    detail: str = ""
    delivered: int = 0
    #: ``[index from 1, verb, argument, duplicate 0|1, letter]``.
    messages: list[list[Any]] = field(default_factory=list)
    groups: list[list[list[int]]] = field(default_factory=list)
    #: Seconds that a 429 asked for, or None.
    retry_after_s: float | None = None

    def encode(self) -> str:
        """The script's JSON argument; empty for the most common settlement, one healthy answer for all."""
        if self.health == "ok" and not self.messages and not self.groups:
            return "" if self.delivered else '{"health":"ok"}'
        spec: dict[str, Any] = {
            "health": self.health,
            "detail": self.detail,
            "delivered": self.delivered,
            "messages": self.messages,
        }
        if self.groups:
            spec["groups"] = self.groups
        return json.dumps(spec, separators=(",", ":"))

    @property
    def leaves_something(self) -> bool:
        """Whether any of its messages waits for a later time or a later request."""
        return bool(self.groups) or any(line[1] in ("retry", "poll", "later") for line in self.messages)

    @classmethod
    def nothing_sent(cls, indices: Iterable[int]) -> Settlement:
        """Put messages back to the front as they were, uncharged."""
        return cls(health="none", messages=[[index, "back"] for index in indices])


@dataclass(slots=True)
class Grant:
    """Leave to send one HTTP request, with the messages that it carries."""

    id: str
    queue: str
    envelopes: list[Envelope]
    #: Messages of the other half of a refused batch; they wait for what becomes of this half.
    siblings: list[Envelope] = field(default_factory=list)
    #: This is a half of a refused batch and stays together.
    group: bool = False
    #: The account is in outage and this request is its probe.
    outage: bool = False
    #: Time of the grant, microseconds of the Redis clock.
    granted_us: int = 0
    #: ``time.monotonic()`` at which the lease has surely run out.
    lease_end: float = 0.0
    #: Its request is on the wire, or was: it can no longer be put back as if nothing had been sent.
    sent: bool = False
    settlement: Settlement | None = None

    @property
    def everything(self) -> Sequence[int]:
        """Indices of all its messages, siblings included, as SETTLE counts them."""
        return range(1, len(self.envelopes) + len(self.siblings) + 1)

    def put_back(self) -> Settlement:
        """The settlement of a grant whose request was not sent."""
        if not self.group:
            return Settlement.nothing_sent(self.everything)
        own = list(range(1, len(self.envelopes) + 1))
        return Settlement(
            health="none", groups=[[own, [index + len(own) for index in range(1, len(self.siblings) + 1)]]]
        )

    def lease_left_s(self) -> float:
        """Seconds until the lease runs out."""
        return self.lease_end - time.monotonic()


#: Grants in this process, by id.
REGISTRY: Final[dict[str, Grant]] = {}
