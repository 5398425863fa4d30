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
from functools import lru_cache, partial
from typing import Any, Final

import redis

from config.settings import Settings
from workers.observe.masking import Masker

#: Loggers that are kept at WARNING whatever the level. One line per outcome is ours; Celery's "received" and "succeeded" would make it three, with a
#: look-up's answer in it. At DEBUG its pool, and kombu if asked to, write whole messages: a person's data.
QUIET: Final = ("celery.worker.strategy", "celery.app.trace", "celery.pool", "kombu.channel")

#: Attribute of a record whose message is several lines of the log; a function that makes the JSON fields of each.
LINES: Final = "postback_fields"

#: Celery's logger of the error that ends a worker.
LAST_WORDS: Final = "celery.worker"

#: Longest id or name of a message that is shown; anybody may write one.
MAX_WORD: Final = 100

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class ScrubbedRecord(logging.LogRecord):
    """A record that has masked itself: its message, its arguments and its traceback."""

    def __init__(self, masker: Masker, *args: Any, **kwargs: Any) -> None:
        """As the standard one; the arguments are put into the message at once."""
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
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


def moment(record: logging.LogRecord) -> str:
    """When it was made, in UTC."""
    return f"{_second(int(record.created))}.{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """For people."""

    def __init__(self, masker: Masker) -> None:
        """Mask what ``masker`` knows."""
        self._masker = masker
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        head = f"{moment(record)} {record.levelname:7} {record.name}: "
        text = head + super().format(record)
        if hasattr(record, LINES):
            text = text.replace("\n", f"\n{head}")
        return text if isinstance(record, ScrubbedRecord) else self._masker.scrub(text)


class JsonFormatter(logging.Formatter):
    """For a log store: one object a line."""

    def __init__(self, masker: Masker) -> None:
        """Mask what ``masker`` knows."""
        super().__init__()
        self._masker = masker

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON."""
        head: dict[str, Any] = {"at": moment(record), "level": record.levelname.lower(), "logger": record.name}
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
    # What no line of ours shows is not looked up for each: caller, thread and process (the library's
    # own way to say so).
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
    """What Redis said says all. The way through three libraries adds forty lines and no reason."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, redis.RedisError):
        # redis-py quotes the whole command where a pipeline failed.
        said = str(error).rpartition("caused error: ")[2]
        record.msg = masker.scrub(one_line(f"{record.msg}: {said}"))
        record.exc_info = record.exc_text = None
    return True


def _uncaught(kind: type[BaseException], error: BaseException | None, traceback: Any) -> None:
    """Python would write it to stderr as it is."""
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("postback").critical("uncaught %s", kind.__name__, exc_info=(kind, error or kind(), traceback))


def one_line(text: str) -> str:
    """On one line: whoever writes a message into a queue must not write lines of the log."""
    return text if text.isprintable() else _CONTROL.sub(" ", text)


def word(text: str) -> str:
    """An id or a name from a message, fit for a line of the log: on one line, at most :data:`MAX_WORD` characters."""
    return one_line(text)[:MAX_WORD]
