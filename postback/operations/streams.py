"""The journal's streams in Redis: records that are not moved into the database yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from postback.journal.records import FIELD, Action, Entry, Gap, Record, Unreadable, read_gap, read_record
from postback.operations.places import PART_FIRST, fitting
from postback.operations.search import Wanted
from postback.wire import keys

__all__ = ["actions", "entries", "gap"]


def entries(client: redis.Redis, provider: str, wanted: Wanted) -> Iterator[Entry]:
    """The entries that tell of wanted events, the latest record first.

    What is no record is left out: anybody who can write to Redis may have written it.

    Args:
        client: Replies as bytes.
        provider: Whose stream.
        wanted: Recognises the events.

    Raises:
        redis.RedisError: As the client does.
    """
    for raws in _parts(client, provider):
        for raw in wanted.may_tell(raws):
            yield from (entry for entry in _read(raw).entries if wanted.takes(entry))


def actions(client: redis.Redis, provider: str) -> Iterator[Action]:
    """What operators did, the latest first.

    Raises:
        redis.RedisError: As the client does.
    """
    for raws in _parts(client, provider):
        yield from (action for raw in raws if b'"action"' in raw and (action := _read(raw).action))


def _parts(client: redis.Redis, provider: str) -> Iterator[list[bytes]]:
    """A stream's records, the latest first."""
    last, size = b"+", PART_FIRST
    while True:
        records: Any = client.xrevrange(keys.journal(provider), last, "-", count=size)
        if not records:
            return
        raws = [fields[FIELD.encode()] for _, fields in records if FIELD.encode() in fields]
        yield raws
        last, size = b"(" + records[-1][0], fitting(raws)


def _read(raw: bytes) -> Record:
    try:
        return read_record(raw)
    except Unreadable:
        return Record()


def gap(client: redis.Redis, provider: str) -> Gap | None:
    """What a full stream has lost and nobody has noted in the database yet.

    Raises:
        redis.RedisError: As the client does.
    """
    fields: Any = client.hgetall(keys.journal_gap(provider))
    return read_gap(provider, fields)
