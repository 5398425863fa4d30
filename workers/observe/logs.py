"""Logging of a worker: a line per outcome, ids but no personal data, known credentials masked.

A record masks itself when it is made. So a library's own handler or formatter cannot get around it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from functools import lru_cache, partial
from typing import Any, Final

import redis

from config.settings import Settings
from workers.observe.masking import Masker

#: Loggers that are kept at WARNING. Celery's "received" and "succeeded" would add two lines per
#: outcome, with a look-up's answer in them. At DEBUG its pool and kombu write whole messages, with
#: a person's data. Alembic lists its own plugins.
QUIET: Final = ("celery.worker.strategy", "celery.app.trace", "celery.pool", "kombu.channel", "alembic")

#: Attribute of a record with several lines: a function that makes the JSON fields of each line.
LINES: Final = "postback_fields"

#: Celery's logger of the error that ends a worker.
LAST_WORDS: Final = "celery.worker"

#: Longest id or name that is shown. Anybody may write one into a message.
MAX_WORD: Final = 100

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class ScrubbedRecord(logging.LogRecord):
    """A record that masks its message, its arguments and its traceback."""

    def __init__(self, masker: Masker, *args: Any, **kwargs: Any) -> None:
        """Make a standard record, and put its arguments into the message at once."""
        super().__init__(*args, **kwargs)
        try:
            message = super().getMessage()
        except Exception:
            # The standard library would print the arguments to stderr.
            message = f"{self.msg} (its arguments do not fit)"
        self.msg, self.args = masker.scrub(message), None
        if self.exc_info and self.exc_info[0]:
            self.exc_text = masker.scrub(logging.Formatter().formatException(self.exc_info))


@lru_cache(maxsize=2)
def _second(time_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_s))


def record_time(record: logging.LogRecord) -> str:
    """When a record was made, in UTC."""
    return f"{_second(int(record.created))}.{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """For people."""

    def __init__(self, masker: Masker) -> None:
        """Mask the credentials that ``masker`` knows."""
        self._masker = masker
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        head = f"{record_time(record)} {record.levelname:7} {record.name}: "
        text = head + super().format(record)
        if hasattr(record, LINES):
            text = text.replace("\n", f"\n{head}")
        return text if isinstance(record, ScrubbedRecord) else self._masker.scrub(text)


class JsonFormatter(logging.Formatter):
    """For a log store: one object a line."""

    def __init__(self, masker: Masker) -> None:
        """Mask the credentials that ``masker`` knows."""
        super().__init__()
        self._masker = masker

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON."""
        head: dict[str, Any] = {"at": record_time(record), "level": record.levelname.lower(), "logger": record.name}
        fields_of_lines = getattr(record, LINES, None)
        if fields_of_lines:
            each = zip(record.getMessage().split("\n"), fields_of_lines(), strict=True)
            lines = [{**head, "message": message, **fields} for message, fields in each]
        else:
            lines = [{**head, "message": record.getMessage()}]
        if record.exc_text or record.exc_info:
            lines[-1]["traceback"] = record.exc_text or self.formatException(record.exc_info)  # type: ignore[arg-type]
        return self._masker.scrub("\n".join(json.dumps(line, default=str, ensure_ascii=False) for line in lines))


def configure(settings: Settings, masker: Masker) -> None:
    """Set up the process's logging."""
    # No line shows caller, thread and process, so they are not looked up (the library's switch).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.setLogRecordFactory(partial(ScrubbedRecord, masker))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(masker) if settings.log_format == "json" else TextFormatter(masker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger(LAST_WORDS).addFilter(partial(_redis_error_on_one_line, masker))
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _redis_error_on_one_line(masker: Masker, record: logging.LogRecord) -> bool:
    """Drop the traceback of a Redis error: its forty lines through three libraries say nothing."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, redis.RedisError):
        # redis-py quotes the whole command where a pipeline failed.
        words = str(error).rpartition("caused error: ")[2]
        record.msg = masker.scrub(one_line(f"{record.msg}: {words}"))
        record.exc_info = record.exc_text = None
    return True


def _uncaught(kind: type[BaseException], error: BaseException | None, traceback: Any) -> None:
    """Log an uncaught error. Python would write it to stderr, unmasked."""
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("postback").critical("uncaught %s", kind.__name__, exc_info=(kind, error or kind(), traceback))


def one_line(text: str) -> str:
    """A text on one line: the author of a message must not be able to write lines of the log."""
    return text if text.isprintable() else _CONTROL.sub(" ", text)


def word(text: str) -> str:
    """An id or a name from a message for the log: one line, at most :data:`MAX_WORD` characters."""
    return one_line(text)[:MAX_WORD]
