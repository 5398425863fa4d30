"""Logging of a worker: one line per outcome, ids but no personal data, every known credential masked where records are made.

Not where they are written: a library may attach a handler of its own, with a formatter of its own, and must not get around it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import redis

from config.accounts import Account
from config.secret import MASK
from config.settings import Settings
from tasks.delivery import Report
from tasks.grants import Grant

outcomes = logging.getLogger("postback.outcome")

#: Shorter credentials are not searched for in texts: they would mask half of it. The provider would not call them keys either.
SHORTEST_SECRET: Final = 4

#: Loggers that are kept at WARNING whatever the level. One line per outcome is ours; Celery's "received" and "succeeded" would make it three, with a
#: look-up's answer in it. At DEBUG its pool, and kombu if asked to, write whole messages: a person's data.
QUIET: Final = ("celery.worker.strategy", "celery.app.trace", "celery.pool", "kombu.channel")

#: Celery's logger of the error that ends a worker.
LAST_WORDS: Final = "celery.worker"

#: Longest id or name of a message that is shown; anybody may write one.
MAX_WORD: Final = 100

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

#: Up to so many spellings of credentials are searched for one by one.
FEW: Final = 48

#: Spellings of credentials, the longest first, and the same by their first characters.
_secrets: tuple[str, ...] = ()
_by_start: Mapping[str, list[str]] = {}


def learn(accounts: Mapping[str, Account]) -> None:
    """Mask the credentials of these accounts from now on, besides those known before (a removed key is still a key)."""
    found: set[str] = set()
    for account in accounts.values():
        for credential in account.policy.credentials:
            secret = account.credentials.get(credential.name)
            if secret is not None and credential.place in ("path", "header"):
                found |= _spellings(secret.reveal())
    _mask(found)


def _mask(spellings: set[str]) -> None:
    global _secrets, _by_start
    every = sorted({*_secrets, *spellings}, key=len, reverse=True)
    by_start: dict[str, list[str]] = {}
    for secret in every:
        by_start.setdefault(secret[:SHORTEST_SECRET], []).append(secret)
    _by_start, _secrets = by_start, tuple(every)


def _spellings(value: str) -> set[str]:
    return {
        text
        for text in (value, quote(value, safe=""), quote(value), json.dumps(value)[1:-1])
        if len(text) >= SHORTEST_SECRET
    }


def scrub(text: str) -> str:
    """The text with every known credential masked."""
    # Each line is searched: of many credentials only those whose first characters are in it.
    found = _secrets if len(_secrets) <= FEW else _possible(text)
    for secret in found:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def _possible(text: str) -> list[str]:
    starts = _by_start
    found = {
        secret
        for at in range(len(text) - SHORTEST_SECRET + 1)
        for secret in starts.get(text[at : at + SHORTEST_SECRET], ())
    }
    return sorted(found, key=len, reverse=True)


class ScrubbedRecord(logging.LogRecord):
    """A record that has masked itself: its message, its arguments and its traceback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As the standard one; the arguments are put into the message at once."""
        super().__init__(*args, **kwargs)
        try:
            message = super().getMessage()
        except Exception:
            # The standard library would print the arguments to stderr.
            message = f"{self.msg} (its arguments do not fit)"
        self.msg, self.args = scrub(message), None
        if self.exc_info and self.exc_info[0]:
            self.exc_text = scrub(logging.Formatter().formatException(self.exc_info))


class TextFormatter(logging.Formatter):
    """For people."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        """UTC times."""
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        text = super().format(record)
        return text if isinstance(record, ScrubbedRecord) else scrub(text)


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
        if record.exc_text or record.exc_info:
            line["traceback"] = record.exc_text or self.formatException(record.exc_info)  # type: ignore[arg-type]
        return scrub(json.dumps(line, default=str, ensure_ascii=False))


def configure(settings: Settings, accounts: Mapping[str, Account]) -> None:
    """Set up the process's logging."""
    learn(accounts)
    learn_broker(settings)
    logging.setLogRecordFactory(ScrubbedRecord)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger(LAST_WORDS).addFilter(_redis_error_on_one_line)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _redis_error_on_one_line(record: logging.LogRecord) -> bool:
    """What Redis said says all. The way through three libraries adds forty lines and no reason."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, redis.RedisError):
        # redis-py quotes the whole command where a pipeline failed.
        said = str(error).rpartition("caused error: ")[2]
        record.msg = scrub(_line(f"{record.msg}: {said}"))
        record.exc_info = record.exc_text = None
    return True


def _uncaught(kind: type[BaseException], error: BaseException | None, traceback: Any) -> None:
    """Python would write it to stderr as it is."""
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("postback").critical("uncaught %s", kind.__name__, exc_info=(kind, error or kind(), traceback))


def learn_broker(settings: Settings) -> None:
    """Mask the brokers' passwords too."""
    found: set[str] = set()
    for urls in settings.broker_urls_in_use():
        for url in urls.split(";"):
            parts = urlsplit(url)
            given = [parts.password, *(value for name, value in parse_qsl(parts.query) if "password" in name)]
            for password in filter(None, given):
                found |= _spellings(password) | _spellings(unquote(password))
    _mask(found)


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
            "task": word(envelope.task) or None,
            "id": word(envelope.id) or None,
            "reason": _line(fate.text),
            "attempts": envelope.state.attempts,
            "batch": batch,
            "elapsed_ms": round(report.elapsed_s * 1000, 1),
            "possible_duplicate": envelope.state.duplicate,
        }
        text = _line(fate.text) if fate.text != fate.kind else ""
        outcomes.log(
            level, "%s %s %s %s%s", fate.kind, word(envelope.task) or "?", word(envelope.id) or "?", grant.queue, f": {text}" if text else "",
            extra={"postback": fields},
        )  # fmt: skip


def _line(text: str) -> str:
    """On one line: whoever writes a message into a queue must not write lines of the log."""
    return _CONTROL.sub(" ", text)


def word(text: str) -> str:
    """An id or a name from a message, fit for a line of the log: on one line, at most :data:`MAX_WORD` characters."""
    return _line(text)[:MAX_WORD]
