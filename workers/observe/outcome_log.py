"""The log line of each event's outcome: ids, but no personal data."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from tasks.delivery import Report
from tasks.envelopes import Envelope
from workers.observe.logs import LINES, one_line, word

logger = logging.getLogger("postback.outcome")


def log_outcomes(report: Report) -> None:
    """Log a line for each event. Lines of one level share a record, since records are costly."""
    if not logger.isEnabledFor(logging.INFO):
        return
    queue = report.grant.queue
    for level, group in groupby(report.grant.envelopes, _level):
        envelopes = list(group)
        text = "\n".join(_line(envelope, queue) for envelope in envelopes)
        logger.log(level, text, extra={LINES: lambda envelopes=envelopes: _fields(report, envelopes)})


def _level(envelope: Envelope) -> int:
    return logging.WARNING if envelope.ruling.kind == "dead" else logging.INFO


def _line(envelope: Envelope, queue: str) -> str:
    ruling = envelope.ruling
    text = f"{ruling.kind} {word(envelope.task) or '?'} {word(envelope.id) or '?'} {queue}"
    if ruling.text != ruling.kind and (reason := one_line(ruling.text)):
        return f"{text}: {reason}"
    return text


def _fields(report: Report, envelopes: list[Envelope]) -> Iterator[dict[str, Any]]:
    """The fields of each line, for a log store."""
    for envelope in envelopes:
        yield {
            "outcome": envelope.ruling.kind,
            "account": report.grant.queue,
            "task": word(envelope.task) or None,
            "id": word(envelope.id) or None,
            "reason": one_line(envelope.ruling.text),
            "attempts": envelope.state.attempts,
            "batch": len(report.grant.envelopes),
            "elapsed_ms": round(report.elapsed_s * 1000, 1),
            "possible_duplicate": envelope.state.duplicate,
        }
