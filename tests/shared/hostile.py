"""Celery messages of which one part is anything at all, as somebody who can write into a queue may
write them.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

#: Text that stands for JSON which Python's writer does not write.
DIGITS: Final = "@digits@"
DEEP: Final = "@deep@"
NAN: Final = "@nan@"
INFINITY: Final = "@infinity@"
_SPELLED: Final[Mapping[str, str]] = {
    f'"{DIGITS}"': "9" * 5000,
    f'"{DEEP}"': "[" * 1000 + "]" * 1000,
    f'"{NAN}"': "NaN",
    f'"{INFINITY}"': "-Infinity",
}

#: A link as Celery writes it.
LINK: Final[dict[str, Any]] = {
    "task": "shop.follow", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False,
}  # fmt: skip

#: What may stand anywhere in a message.
VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, 5, -1, 1.5, 10**30, "", "a", "5", "\ud800", "\x00", "9" * 5000, "x" * 100_000,
    {}, [], [1], [[]], {"a": {}}, {"headers": {}}, "2020-01-01T00:00:00", "9999-12-31T23:59:59-14:00",
    {"__type__": "uuid", "__value__": 5}, {"__type__": "datetime", "__value__": "2020-01-01"},
    LINK, [LINK], {**LINK, "options": {"queue": "anything"}}, [{**LINK, "options": {"serializer": "pickle"}}],
    [{**LINK, "task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": [LINK, LINK]}}],
    [{**LINK, "task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": [LINK]}}],
    [{**LINK, "options": {"link": [{**LINK, "options": {"expires": "soon"}}]}}],
    {"tasks": [LINK]}, DIGITS, DEEP, NAN, INFINITY,
)  # fmt: skip

HEADERS: Final = (
    "id", "task", "lang", "root_id", "parent_id", "group", "group_index", "shadow", "eta", "expires", "retries", "timelimit",
    "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers", "stamps", "compression",
    "utc", "headers", "properties", "delivery_info", "reply_to", "callbacks", "args", "kwargs", "anything",
    "postback", "postback_at", "postback_key", "postback_key_text", "postback_size", "postback_dead", "postback_replayed_at",
    "postback_format",
)  # fmt: skip
PROPERTIES: Final = (
    "correlation_id", "reply_to", "delivery_tag", "delivery_mode", "delivery_info", "priority", "body_encoding", "type",
    "expiration", "anything",
)  # fmt: skip
EMBED: Final = (
    "callbacks",
    "errbacks",
    "chain",
    "chord",
    "id",
    "properties",
    "delivery_info",
    "kwargs",
    "postback_fate",
)
#: Where a value may be put: (holder, name).
PLACES: Final = (
    *(("document", name) for name in ("body", "headers", "properties", "content-type", "content-encoding", "anything")),
    *(("headers", name) for name in HEADERS),
    *(("properties", name) for name in PROPERTIES),
    *(("delivery_info", name) for name in ("exchange", "routing_key", "redelivered", "consumer_tag")),
    *(("parts", name) for name in (0, 1, 2)),
    *(("kwargs", name) for name in ("account", "event", "anything")),
    *(("event", name) for name in ("user_id", "event_type", "date", "anything")),
    *(("embed", name) for name in EMBED),
)


def build(changes: list[tuple[tuple[str, Any], Any]], *, task: str, account: str, event: Any, id: str) -> bytes:
    """An event's message with some of its parts replaced.

    Args:
        changes: ``((holder, name), value)``, see :data:`PLACES`.
        task: Its task.
        account: Its account.
        event: Its event.
        id: Its id.
    """
    holders: dict[str, Any] = {
        "event": dict(event),
        "embed": dict.fromkeys(("callbacks", "errbacks", "chain", "chord")),
    }
    holders["kwargs"] = {"account": account, "event": holders["event"]}
    holders["parts"] = [[], holders["kwargs"], holders["embed"]]
    holders["headers"] = {"lang": "py", "task": task, "id": id, "argsrepr": "()", "kwargsrepr": "", "stamps": {}}
    holders["delivery_info"] = {"exchange": "", "routing_key": f"{task.partition('.')[0]}.{account}"}
    holders["properties"] = {
        "body_encoding": "base64", "priority": 0, "delivery_tag": id, "delivery_info": holders["delivery_info"],
    }  # fmt: skip
    document = holders["document"] = {
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": holders["headers"],
        "properties": holders["properties"],
    }
    body_changed = ("document", "body") in [place for place, _ in changes]
    for (holder, name), value in changes:
        holders[holder][name] = value
    if not body_changed:
        body = _spelled(holders["parts"]).encode()
        if isinstance(holders["headers"].get("compression"), str) and holders["headers"]["compression"]:
            body = zlib.compress(body)
        document["body"] = base64.b64encode(body).decode()
    return _spelled(document).encode()


def each_part(**options: Any) -> Iterator[bytes]:
    """Every value at every place, one at a time."""
    for number, (place, value) in enumerate((place, value) for place in PLACES for value in VALUES):
        yield build([(place, value)], id=f"hostile-{number}", **options)


def not_messages(whole: bytes) -> list[bytes]:
    """Entries that are no messages, or only just."""
    return [
        b"", b"0", b"null", b"{}", b"[]", b"hello", b"\xff\xfe", b"[" * 50_000, b"9" * 5000, b'{"headers": {}, "properties": {}}',
        whole[:-1], whole + b" ", whole + b"x", b" \n" + whole, whole.replace(b"lang", b"\xff\xff", 1), b"\x00" + whole,
        whole.decode().encode("utf-16"), whole.decode().encode("utf-8-sig"),
        b'{"headers": {"id": "twice"}, ' + whole[1:], whole[:-1] + b', "headers": {}}', whole[:-1] + b', "properties": 5}',
        whole.replace(b'"headers": {', b'"headers": {"postback": "attempts=9", "postback": "", ', 1),
        whole.replace(b'"task"', b'"t\\u0061sk"', 1), whole.replace(b'"id"', b'"\\u0069d"', 1),
        whole.replace(b'"lang": "py"', b'"lang": NaN', 1), whole.replace(b'"lang": "py"', b'"lang": Infinity', 1),
        b'{"body": "' + b"x" * 600_000 + b'", ' + whole[1:], b"x" * 600_000,
        b'{"headers": ' * 2000, whole.replace(b'"stamps": {}', b'"stamps": {}, "x": ' + b"[" * 3000 + b"]" * 3000, 1),
    ]  # fmt: skip


def _spelled(value: Any) -> str:
    text = json.dumps(value)
    for placeholder, spelling in _SPELLED.items():
        text = text.replace(placeholder, spelling)
    return text
