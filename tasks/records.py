"""The journal's record of a grant; :mod:`postback.journal.records` says what stands in one."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

from postback.journal.records import about_people
from tasks.delivery import Report
from tasks.envelopes import Envelope
from tasks.grants import Grant
from tasks.outcomes import Outcome
from tasks.rulings import DELIVERED, Again, Back, Dead, Delivered, Duplicate, Halved

__all__ = ["record_of"]


def record_of(report: Report, worker: str) -> bytes:
    """The text of a grant's record; empty if it tells nothing: all events were put back.

    Args:
        report: Its outcome.
        worker: Celery's node name of this process.
    """
    grant, verdict = report.grant, report.verdict
    sent = set(report.sent)
    lines = [line for envelope in grant.envelopes if (line := _line(report, envelope, envelope in sent)) is not None]
    if not lines:
        return b""
    record: dict[str, Any] = {
        "grant": grant.id,
        "at": grant.granted_us // 1000,
        "queue": grant.queue,
        "worker": worker,
        "task": grant.envelopes[0].task,
        "batch": len(sent),
        "events": lines,
    }
    if verdict is not None:
        record["outcome"] = verdict.outcome
        record["ms"] = round(report.elapsed_s * 1000, 1)
        if verdict.status is not None:
            record["status"] = verdict.status
        if verdict.detail:
            record["detail"] = verdict.detail
    try:
        return orjson.dumps(record)
    except TypeError:  # a lone surrogate, which the reader replaces
        return json.dumps(record).encode()


#: What an event that was not sent has none of.
_NO_REQUEST: Final[dict[str, Any]] = {"outcome": None, "status": None, "detail": None, "ms": None, "batch": None}


def _line(report: Report, envelope: Envelope, sent: bool) -> dict[str, Any] | None:
    """What the record says of one event; None if it says nothing: it was put back unsent."""
    ruling = envelope.ruling
    if not sent and isinstance(ruling, Back):
        return None
    line = _about(report.grant, envelope, sent)
    if ruling is DELIVERED:  # the most common one, which is made once
        line["end"] = "delivered"
        return line
    if not sent and report.verdict is not None:
        line |= _NO_REQUEST
    duplicate = envelope.state.duplicate
    match ruling:
        case Delivered():
            line["end"] = "delivered"
        case Duplicate():
            line |= {"end": "duplicate", "reason": ruling.of}
        case Dead():
            reason, _, words = ruling.text.partition(" ")
            line |= {"end": "dead", "reason": reason}
            if not sent:
                line["detail"] = words
            duplicate = ruling.possible_duplicate
        case Again():
            duplicate = duplicate or ruling.ambiguous
            outcome, _, words = ruling.text.partition(": ")
            if not sent:  # our own code failed, perhaps after the request
                line |= {"outcome": outcome, "detail": words, "batch": 1}
            elif report.verdict is not None and report.verdict.outcome is Outcome.DELIVERED:
                line["detail"] = words  # what hangs on it was not published
        case Halved():
            line["outcome"] = "halved"
    if duplicate:
        line["duplicate"] = True
    return line


def _about(grant: Grant, envelope: Envelope, sent: bool) -> dict[str, Any]:
    """Which event it is."""
    headers, first_us = envelope.headers, envelope.state.first_us
    about: dict[str, Any] = {"id": envelope.id}
    if envelope.task != grant.envelopes[0].task:
        about["task"] = envelope.task
    about |= about_people(envelope.task, envelope.kwargs.get("event"))
    if key_hash := headers.get("postback_key"):
        about["key_hash"] = key_hash
        if key := headers.get("postback_key_text"):
            about["key"] = key
    if enqueued_ms := envelope.enqueued_ms:
        about["enqueued_at"] = enqueued_ms
    if first_us:
        about["first_at"] = first_us // 1000
    return about
