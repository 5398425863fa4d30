"""Logging of a worker: one line per outcome, ids but no personal data, every known credential masked at the one place where lines are made."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from config.accounts import Account
from config.secret import MASK
from config.settings import Settings
from tasks.delivery import Report
from tasks.grants import Grant

outcomes = logging.getLogger("postback.outcome")

#: Shorter credentials are not searched for in texts: they would mask half of it. The provider would not call them keys either.
SHORTEST_SECRET: Final = 4

_secrets: tuple[str, ...] = ()


def learn(accounts: Mapping[str, Account]) -> None:
    """Mask the credentials of these accounts from now on, besides those known before (a removed key is still a key)."""
    global _secrets
    found = set(_secrets)
    for account in accounts.values():
        for credential in account.policy.credentials:
            secret = account.credentials.get(credential.name)
            if secret is not None and credential.place in ("path", "header"):
                found |= _spellings(secret.reveal())
    _secrets = tuple(sorted(found, key=len, reverse=True))


def _spellings(value: str) -> set[str]:
    return {
        text
        for text in (value, quote(value, safe=""), quote(value), json.dumps(value)[1:-1])
        if len(text) >= SHORTEST_SECRET
    }


def scrub(text: str) -> str:
    """The text with every known credential masked."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


class TextFormatter(logging.Formatter):
    """For people. Scrubs the finished line, tracebacks included, so that no library's message can leak a URL."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        """UTC times."""
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        return scrub(super().format(record))


class JsonFormatter(logging.Formatter):
    """For a log store: one object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON."""
        line: dict[str, Any] = {
            "at": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "postback", {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return scrub(json.dumps(line, default=str, ensure_ascii=False))


def configure(settings: Settings, accounts: Mapping[str, Account]) -> None:
    """Set up the process's logging."""
    learn(accounts)
    learn_broker(settings)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # One line per outcome is ours; Celery's "received" and "succeeded" would make it three.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level) if root.level > logging.DEBUG else root.level)


def learn_broker(settings: Settings) -> None:
    """Mask the brokers' passwords too."""
    global _secrets
    found = set(_secrets)
    for urls in settings.broker_urls_in_use():
        for url in urls.split(";"):
            password = urlsplit(url).password
            if password:
                found |= _spellings(password) | _spellings(unquote(password))
    _secrets = tuple(sorted(found, key=len, reverse=True))


def observe(grant: Grant, report: Report) -> None:
    """One line for each event's outcome."""
    if not outcomes.isEnabledFor(logging.INFO):
        return
    batch = len(grant.envelopes)
    for envelope, fate in zip(grant.envelopes, report.fates, strict=True):
        level = logging.WARNING if fate.kind == "dead" else logging.INFO
        fields = {
            "outcome": fate.kind,
            "account": grant.queue,
            "task": envelope.task or None,
            "id": envelope.id or None,
            "reason": fate.text,
            "attempts": envelope.state.attempts,
            "batch": batch,
            "elapsed_ms": round(report.elapsed_s * 1000, 1),
            "possible_duplicate": envelope.state.duplicate,
        }
        text = fate.text if fate.text != fate.kind else ""
        outcomes.log(
            level, "%s %s %s %s%s", fate.kind, envelope.task or "?", envelope.id or "?", grant.queue, f": {text}" if text else "",
            extra={"postback": fields},
        )  # fmt: skip
