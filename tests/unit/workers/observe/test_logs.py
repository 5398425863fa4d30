"""Log lines: one per outcome, no credential, no person, whoever writes them."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest
import urllib3

from config.accounts import Accounts, build_account
from config.settings import load_settings
from tasks.delivery import Report
from tasks.grants import Settlement
from tasks.rulings import Again, Dead, Delivered, Ruling
from tests.unit.tasks.fakes import grant_of, message, ruled
from workers.observe import logs
from workers.observe.masking import Masker
from workers.observe.outcome_log import log_outcomes

KEY = "tgtrack-Secret:1~2"
PASSWORD = "redis-Secret%1"
URL = f"https://bot-api.tgtrack.ru/v1/{KEY}/add_event"


class Written:
    """Logging as a worker has it."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.masker = Masker()

    def configure(self, **env: str) -> Written:
        broker = "redis://ops:redis-Secret%251@h:6379/0"
        settings = load_settings({"POSTBACK_BROKER_URL": broker, "POSTBACK_LOG_LEVEL": "DEBUG", **env})
        self.masker.learn(Accounts([build_account("tgtrack", "main", {"api_key": KEY})]))
        self.masker.learn_broker(settings)
        logs.configure(settings, self.masker)
        (handler,) = logging.getLogger().handlers
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(self.stream)
        return self

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    level, handlers = root.level, root.handlers[:]
    levels = {name: logging.getLogger(name).level for name in logs.QUIET}
    for name in ("excepthook",):
        monkeypatch.setattr(sys, name, getattr(sys, name))
        monkeypatch.setattr(threading, name, getattr(threading, name))
    yield Written()
    logging.captureWarnings(False)
    logging.setLogRecordFactory(factory)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, one in levels.items():
        logging.getLogger(name).setLevel(one)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("secret", [KEY, PASSWORD, "tgtrack-Secret%3A1~2", "redis-Secret%251"])
class TestScrubbing:
    """A credential, as it is or as a URL spells it."""

    def test_message(self, written: Written, form: str, secret: str) -> None:
        """In the message, in an argument, in a mapping of arguments."""
        written.configure(POSTBACK_LOG_FORMAT=form)
        logging.getLogger("a").warning(f"text {secret}")
        logging.getLogger("a").warning("text %s %r", secret, {"key": [secret]})
        logging.getLogger("a").warning("text %(key)s", {"key": secret})
        assert len(written.lines) == 3
        assert secret not in written.text
        assert "***" in written.text

    def test_traceback(self, written: Written, form: str, secret: str) -> None:
        """In an exception, its cause, and an uncaught one."""
        written.configure(POSTBACK_LOG_FORMAT=form)
        try:
            try:
                raise ValueError(secret)
            except ValueError as error:
                raise RuntimeError(f"GET {secret}") from error
        except RuntimeError as error:
            logging.getLogger("a").exception("failed")
            sys.excepthook(RuntimeError, error, error.__traceback__)
        assert secret not in written.text
        assert "ValueError: ***" in written.text

    def test_wrong_arguments(
        self, written: Written, form: str, secret: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Arguments that do not fit are not printed by the standard library either."""
        written.configure(POSTBACK_LOG_FORMAT=form)
        logging.getLogger("a").warning("one %s two %s", secret)
        assert secret not in written.text + "".join(capsys.readouterr())
        assert "its arguments do not fit" in written.text

    def test_own_handler(self, written: Written, form: str, secret: str) -> None:
        """A library's own handler and formatter get the masked record, even if it does not
        propagate.
        """
        written.configure(POSTBACK_LOG_FORMAT=form)
        own = io.StringIO()
        logger = logging.getLogger("library.with.handler")
        logger.propagate, logger.handlers = False, [logging.StreamHandler(own)]
        try:
            raise ValueError(secret)
        except ValueError:
            logger.exception("it failed: %s", secret)
        finally:
            logger.propagate, logger.handlers = True, []
        assert "it failed: ***" in own.getvalue()
        assert secret not in own.getvalue()

    def test_warning(self, written: Written, form: str, secret: str) -> None:
        """Python's warnings go the same way."""
        written.configure(POSTBACK_LOG_FORMAT=form)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(True)
            warnings.warn(secret, stacklevel=1)
        assert secret not in written.text
        assert "***" in written.text


def test_many(written: Written) -> None:
    """Among the credentials of a thousand accounts each is found, and a longer one is masked
    whole.
    """
    accounts = [build_account("tgtrack", f"a{n}", {"api_key": f"Secret-{n}"}) for n in range(1000)]
    written.configure()
    written.masker.learn(Accounts(accounts))
    assert written.masker.scrub(f"x Secret-1 Secret-10 Secret-100 Secret-999 {KEY} y") == "x *** *** *** *** *** y"
    assert written.masker.scrub("") == ""
    assert written.masker.scrub("Secret-") == "Secret-"


def test_urllib3(written: Written) -> None:
    """urllib3 at DEBUG writes the path of each request, which holds TGTrack's key."""
    written.configure()
    pool = urllib3.HTTPConnectionPool("127.0.0.1", port=1, timeout=1, retries=1)
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        pool.urlopen("POST", "/v1/tgtrack-Secret%3A1~2/add_event")
    assert "/v1/***/add_event" in written.text
    assert "Secret" not in written.text


def test_thread(written: Written) -> None:
    """What a thread does not catch is a masked line, not Python's own."""
    written.configure()

    def fail() -> None:
        raise ValueError(URL)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert "ValueError: https://bot-api.tgtrack.ru/v1/***/add_event" in written.text


@pytest.mark.parametrize("name", logs.QUIET)
def test_bodies(written: Written, name: str) -> None:
    """Loggers that write whole messages stay quiet at DEBUG too."""
    written.configure(POSTBACK_LOG_LEVEL="DEBUG")
    assert not logging.getLogger(name).isEnabledFor(logging.INFO)
    assert logging.getLogger("urllib3").isEnabledFor(logging.DEBUG)


def observe(*rulings: Ruling, ids: tuple[str, ...] = ("event-1",), task: str = "tgtrack.add_event") -> None:
    grant = ruled(grant_of(*(message(task, id=one) for one in ids)), *rulings)
    log_outcomes(Report(grant, Settlement(), elapsed_s=0.1234))


def test_one_line_each(written: Written) -> None:
    """Each event of a batch has one line; a dead letter is a warning, with its reason."""
    written.configure()
    observe(Delivered(), Dead("rejected 422 no", "{}"), ids=("a", "b"))
    delivered, dead = written.lines
    assert delivered.endswith("INFO    postback.outcome: delivered tgtrack.add_event a tgtrack.main")
    assert dead.endswith("WARNING postback.outcome: dead tgtrack.add_event b tgtrack.main: rejected 422 no")
    assert "987654321" not in written.text


def test_json(written: Written) -> None:
    """As JSON a line has what a query needs."""
    written.configure(POSTBACK_LOG_FORMAT="json")
    observe(Again(1, "retry 503 busy"))
    line = json.loads(written.text)
    assert {name: line[name] for name in ("outcome", "account", "task", "id", "reason", "attempts", "batch", "level")} == {
        "outcome": "retry", "account": "tgtrack.main", "task": "tgtrack.add_event", "id": "event-1",
        "reason": "retry 503 busy", "attempts": 0, "batch": 1, "level": "info",
    }  # fmt: skip
    assert line["elapsed_ms"] == 123.4


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_lines_of_others(written: Written, form: str) -> None:
    """Whoever can write into a queue cannot write lines of the log, nor a line as long as a
    book.
    """
    written.configure(POSTBACK_LOG_FORMAT=form)
    forged = "x\n2026-11-22T00:00:00Z INFO postback.outcome: delivered\x1b[2J\u2028y"
    observe(Dead(f"malformed {forged}", "{}"), ids=(forged + "z" * 5000,), task=forged)
    assert len(written.lines) == 1
    assert "\x1b" not in written.text
    assert len(written.text) < 1500


def test_quiet_level(written: Written) -> None:
    """At WARNING deliveries are silent and dead letters are not."""
    written.configure(POSTBACK_LOG_LEVEL="WARNING")
    observe(Delivered())
    assert written.text == ""
