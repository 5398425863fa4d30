"""Reads a queue entry, which anybody may have written: an event message, or why it is none."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from postback._events.payload import MAX_MESSAGE_BYTES
from postback.wire.compression import inflate
from postback.wire.formats import MESSAGE_FORMAT_HEADER
from postback.wire.state import STATE_HEADER, UNTOUCHED, DeliveryState
from postback.wire.time import moment
from tasks import json_text
from tasks.checks import (
    MAX_SHORT,
    MAX_TEXT,
    Rule,
    is_count,
    is_flag,
    is_known_format,
    is_list,
    is_moment,
    is_nested,
    is_object,
    is_pair_of_seconds,
    is_priority,
    is_short,
    is_text,
)
from tasks.links import BadLinks, LinkRules
from tasks.rulings import PUT_BACK, Ruling

#: Milliseconds of the epoch in the year 5138. A later value is no time.
LATEST_MS: Final = 10**14
#: How deep lists and objects may be nested in a message, and again in its body. An event's own
#: bound is lower.
MAX_NESTING: Final = 200

#: Names that the scripts search for in a message's text. Each must be there once and without
#: escapes: the scripts do not see an escaped name.
_READ_BY_SCRIPTS: Final = (b'"headers"', b'"id"', b'"task"')
#: The same for headers that few messages have.
_READ_IF_THERE: Final = ((STATE_HEADER, b'"postback"'), ("postback_key", b'"postback_key"'))
#: How a message begins if kombu wrote it.
_BODY_FIRST: Final = b'{"body": "'
#: How the escape of an ASCII character begins.
_ESCAPED_ASCII: Final = b"\\u00"

#: Headers that reach Celery, with a rule for each.
_HEADERS: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(("root_id", "parent_id", "group", "shadow", "lang"), is_short),
    **dict.fromkeys(("group_index", "retries", "replaced_task_nesting"), is_count),
    "origin": is_text,
    "timelimit": is_pair_of_seconds,
    "expires": is_moment,
    "ignore_result": is_flag,
    "stamped_headers": is_list,
    "stamps": is_object,
}
#: Headers that do not reach Celery, and are checked all the same.
_OTHER_HEADERS: Final[Mapping[str, Rule]] = {
    "eta": is_moment,
    "argsrepr": is_text,
    "kwargsrepr": is_text,
    "compression": is_short,
    "postback_key": is_short,
    "postback_key_text": is_text,
    MESSAGE_FORMAT_HEADER: is_known_format,
}
_PROPERTIES: Final[Mapping[str, Rule]] = {
    "correlation_id": is_short,
    "reply_to": is_short,
    "priority": is_priority,
    "delivery_info": is_object,
}
_CONTENT_ENCODINGS: Final = ("utf-8", None, "", "utf8", "us-ascii", "ascii", "binary")
_BODY_ENCODINGS: Final = ("base64", None, "", "utf-8")


def _rules(parts: Mapping[str, Rule]) -> tuple[tuple[str, int, Rule], ...]:
    """Each part's name, the length up to which ASCII text passes (-1: never), and its rule.

    Most parts are short ASCII text: they need no call.
    """
    most_chars: dict[Rule, int] = {is_short: MAX_SHORT, is_text: MAX_TEXT}
    return tuple((name, most_chars.get(rule, -1), rule) for name, rule in parts.items())


_HEADER_RULES: Final = _rules({**_HEADERS, **_OTHER_HEADERS})
_PROPERTY_RULES: Final = _rules(_PROPERTIES)
#: The third part of the body of a message without followers.
_NO_FOLLOWERS: Final = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
#: Links may lead to accounts' queues and to Celery's own.
DEFAULT_LINK_RULES: Final = LinkRules()


@dataclass(slots=True, eq=False)
class Envelope:
    """One message as it left its queue, and its ruling.

    ``defect`` says in a few words why it is no event message. Then only ``raw`` counts, and
    ``id`` and ``task`` as far as they could be read.
    """

    raw: bytes
    id: str = ""
    task: str = ""
    kwargs: dict[str, Any] = field(default_factory=dict)
    embed: dict[str, Any] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)
    #: The message's Celery headers.
    headers: dict[str, Any] = field(default_factory=dict)
    state: DeliveryState = UNTOUCHED
    #: Id of the event that owns this one's idempotency key. Then this one is dropped.
    duplicate_of: str = ""
    #: It was revoked.
    revoked: bool = False
    defect: str = ""
    #: What becomes of it. Without another ruling it goes back, so that nothing is lost.
    ruling: Ruling = PUT_BACK

    @property
    def for_celery(self) -> dict[str, Any]:
        """The headers that Celery may see: checked ones that it knows."""
        headers = self.headers
        passed = dict(zip(_HEADERS, map(headers.get, _HEADERS), strict=True))
        expires = self.expires
        if expires is not None:
            # Celery's reader knows fewer forms of a time.
            passed["expires"] = datetime.fromtimestamp(expires, UTC).isoformat()
        passed["id"], passed["task"] = self.id, self.task
        return passed

    @property
    def enqueued_ms(self) -> int:
        """When the producer enqueued it (ms of the epoch), else its first grant, else 0.

        Anybody may write the header. A value that is no time in ms is ignored.
        """
        at_ms = self.headers.get("postback_at")
        if isinstance(at_ms, int) and not isinstance(at_ms, bool) and 0 < at_ms < LATEST_MS:
            return at_ms
        return self.state.first_us // 1000

    @property
    def wanted_ms(self) -> int:
        """The latest of enqueued, due (``eta``) and replayed, in ms of the epoch; else 0."""
        eta = moment(self.headers.get("eta"))
        replayed = self.headers.get("postback_replayed_at")
        return max(
            self.enqueued_ms,
            0 if eta is None else int(eta * 1000),
            replayed if isinstance(replayed, int) and 0 < replayed < LATEST_MS else 0,
        )

    @property
    def expires(self) -> float | None:
        """Celery's ``expires`` header in seconds of the epoch."""
        return moment(self.headers.get("expires"))

    @property
    def has_followers(self) -> bool:
        """Whether it has a ``link``, a ``link_error``, a chain or a chord."""
        return any(map(self.embed.get, _NO_FOLLOWERS))


def _parsed(raw: bytes) -> Any:
    """A queue entry as JSON. orjson needs a third of the standard library's time."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        # orjson refuses a lone surrogate and NaN. Celery reads these, so we do. An entry that is
        # not UTF-8 is no message, since the scripts cannot read it.
        return json.loads(raw.decode())


class _NoEventMessage(ValueError):
    """The entry is no event message; the text is its defect."""


def open_envelope(raw: bytes, owner: str = "", link_rules: LinkRules = DEFAULT_LINK_RULES) -> Envelope:
    """Read a raw queue entry. It never raises; see :attr:`Envelope.defect`.

    Args:
        raw: The entry.
        owner: Id of the event that owns its idempotency key.
        link_rules: Check a message's links.
    """
    envelope = Envelope(raw=raw, duplicate_of=owner)
    try:
        _open(envelope, link_rules)
    except _NoEventMessage as error:
        envelope.defect = str(error)
    except (ValueError, RecursionError):
        envelope.defect = "its body cannot be read" if envelope.document else "not JSON"
    return envelope


def _open(envelope: Envelope, link_rules: LinkRules) -> None:
    if len(envelope.raw) > MAX_MESSAGE_BYTES:
        raise _NoEventMessage(f"it has {len(envelope.raw)} bytes; a message has at most {MAX_MESSAGE_BYTES}")
    document = _parsed(envelope.raw)
    if (
        not isinstance(document, dict)
        or not isinstance(document.get("headers"), dict)
        or not isinstance(document.get("properties"), dict)
    ):
        raise _NoEventMessage("not a Celery message")
    around = _around_body(envelope.raw)
    _check_nesting(around, document)
    envelope.document = document
    headers: dict[str, Any] = document["headers"]
    envelope.headers = headers
    task_id, task = headers.get("id"), headers.get("task")
    envelope.id = task_id if isinstance(task_id, str) and not is_short(task_id) else ""
    envelope.task = task if isinstance(task, str) and not is_short(task) else ""
    if not envelope.id or not envelope.task:
        raise _NoEventMessage("without a task name or an id")
    envelope.state = DeliveryState.parse(headers.get(STATE_HEADER))
    _check_names(envelope.raw, around, headers)
    _check_parts(headers, _HEADER_RULES, "header")
    _check_parts(document["properties"], _PROPERTY_RULES, "property")
    if document.get("content-type") != "application/json":
        raise _NoEventMessage("its `content-type` must be application/json")
    if document.get("content-encoding") not in _CONTENT_ENCODINGS:
        raise _NoEventMessage("its `content-encoding` must be utf-8")
    _open_body(envelope, document, link_rules)


def _check_parts(holder: dict[str, Any], rules: tuple[tuple[str, int, Rule], ...], kind: str) -> None:
    get = holder.get
    for name, most_chars, rule in rules:
        value = get(name)
        if value is None or (value.__class__ is str and len(value) <= most_chars and value.isascii()):
            continue
        if sentence := rule(value):
            raise _NoEventMessage(f"its {kind} `{name}` {sentence}")


def _around_body(raw: bytes) -> bytes:
    """The message's text without its body, if the body comes first: a search takes time.

    kombu writes it so.
    """
    if not raw.startswith(_BODY_FIRST):
        return raw
    end = raw.find(b'"', len(_BODY_FIRST))
    return raw if raw[end - 1 : end] == b"\\" else raw[end:]


def _check_nesting(text: bytes, value: Any) -> None:
    """Refuse a value nested so deep that some reader or writer fails. orjson reads 1,000 levels."""
    if len(text) <= 2 * MAX_NESTING or text.count(b"[") + text.count(b"{") <= MAX_NESTING:
        return
    if is_nested(value, MAX_NESTING):
        raise _NoEventMessage(f"it is nested deeper than {MAX_NESTING} levels")


def _check_names(raw: bytes, around: bytes, headers: dict[str, Any]) -> None:
    """Refuse a message in which the scripts read other values than we do."""
    repeated = False
    for name in _READ_BY_SCRIPTS:
        repeated = repeated or around.count(name) > 1
    for header, name in _READ_IF_THERE:
        repeated = repeated or (header in headers and around.count(name) > 1)
    if not repeated and _ESCAPED_ASCII not in around:
        return

    def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise _NoEventMessage("a name stands in it twice")
        return dict(pairs)

    document = json.loads(raw.decode(), object_pairs_hook=unique_names)
    for part in (document["headers"], document["properties"]):
        if any(f'"{name}"'.encode() not in raw for name in part if name.isascii() and name.isprintable()):
            raise _NoEventMessage("a name in it is hidden behind escapes")


def _open_body(envelope: Envelope, document: dict[str, Any], link_rules: LinkRules) -> None:
    body: Any = document.get("body")
    if not isinstance(body, str):
        raise _NoEventMessage("its body is no text")
    encoding = document["properties"].get("body_encoding")
    if encoding not in _BODY_ENCODINGS:
        raise _NoEventMessage("its property `body_encoding` must be base64 or utf-8")
    body = base64.b64decode(body, validate=True) if encoding == "base64" else body.encode()
    compression = envelope.headers.get("compression")
    if compression:
        try:
            body = inflate(body, compression, MAX_MESSAGE_BYTES)
        except ValueError as error:
            raise _NoEventMessage(f"its body {error}") from None
    parts = json_text.read(body)
    _check_nesting(body, parts)
    if not isinstance(parts, list) or len(parts) != 3 or not isinstance(parts[1], dict):
        raise _NoEventMessage("its body is not [args, kwargs, embed]")
    args, kwargs, embed = parts
    if args != [] or not isinstance(args, list):
        raise _NoEventMessage("it has positional arguments")
    if embed is not None and embed != _NO_FOLLOWERS:
        if not isinstance(embed, dict) or not embed.keys() <= _NO_FOLLOWERS.keys():
            raise _NoEventMessage("what hangs on it is not what Celery writes")
        try:
            link_rules.check(embed)
        except BadLinks as error:
            raise _NoEventMessage(f"it {error}") from None
    # Set last: the followers of an entry that is no event message must not be published.
    envelope.kwargs, envelope.embed = kwargs, embed or {}
