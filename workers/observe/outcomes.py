"""The line that the log has of each event's outcome: ids, but no personal data."""

from __future__ import annotations

import logging

from tasks.delivery import Report
from workers.observe.logs import one_line, word

outcomes = logging.getLogger("postback.outcome")


def log_outcomes(report: Report) -> None:
    """One line for each event's outcome."""
    if not outcomes.isEnabledFor(logging.INFO):
        return
    grant = report.grant
    for envelope in grant.envelopes:
        ruling = envelope.ruling
        level = logging.WARNING if ruling.kind == "dead" else logging.INFO
        reason = one_line(ruling.text)
        fields = {
            "outcome": ruling.kind,
            "account": grant.queue,
            "task": word(envelope.task) or None,
            "id": word(envelope.id) or None,
            "reason": reason,
            "attempts": envelope.state.attempts,
            "batch": len(grant.envelopes),
            "elapsed_ms": round(report.elapsed_s * 1000, 1),
            "possible_duplicate": envelope.state.duplicate,
        }
        parts = [ruling.kind, word(envelope.task) or "?", word(envelope.id) or "?", grant.queue]
        text = " ".join(parts) + (f": {reason}" if ruling.text != ruling.kind and reason else "")
        outcomes.log(level, text, extra={"postback": fields})
