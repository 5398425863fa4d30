"""The application is told of dead letters, and nothing that its hook does is lost or holds up
others.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis

from config.settings import load_settings
from postback.errors import ConfigurationError
from postback.wire import keys
from workers.devkit import until
from workers.upkeep.notices import Notices, load_hook

NEW, FAILED = keys.dead_notices("tgtrack"), keys.dead_notices_failed("tgtrack")
LOCK = keys.dead_notices_lock("tgtrack")
PERSON = "987654321"
#: Every pause is short here, so that nothing has to be waited for.
FAST: dict[str, Any] = {"poll_s": 0.005, "pause_s": (0.01, 0.04), "renew_s": 0.01}


def entry(event_id: str) -> bytes:
    """A dead letter, as SETTLE pushes it."""
    kwargs = {"account": "main", "event": {"user_id": PERSON, "event_type": "sale"}}
    document = {
        "body": json.dumps([[], kwargs, {}]),
        "headers": {
            "postback_dead": {"reason": "rejected", "status": 422, "detail": "no", "attempts": 1, "possible_duplicate": False},
            "task": "tgtrack.add_event",
            "id": event_id,
        },
        "properties": {"delivery_info": {"routing_key": "tgtrack.main"}},
    }  # fmt: skip
    return json.dumps(document).encode()


class Desk:
    """A Redis with notices in it, and processes that tell of them."""

    def __init__(self) -> None:
        self.server = fakeredis.FakeServer()
        self.client = self.connect()
        self.told: list[dict[str, Any]] = []
        self.running: list[Notices] = []

    def connect(self) -> redis.Redis:
        client: redis.Redis = fakeredis.FakeStrictRedis(server=self.server)
        return client

    @property
    def ids(self) -> list[str]:
        return [letter["id"] for letter in self.told]

    @property
    def left(self) -> int:
        return int(self.client.llen(NEW)) + int(self.client.llen(FAILED))

    def push(self, *ids: str) -> None:
        for event_id in ids:
            self.client.lpush(NEW, entry(event_id))

    def start(self, hook: Callable[[dict[str, Any]], object] | None = None, **pace: Any) -> Notices:
        notices = Notices(
            "tgtrack", pace.pop("client", None) or self.connect(), hook or self.told.append, **{**FAST, **pace}
        )
        notices.start()
        self.running.append(notices)
        return notices

    def drained(self) -> None:
        until(lambda: self.left == 0, 10, "every notice told of")


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    for notices in desk.running:
        notices.stop()


def test_the_dead_letter_as_the_command_shows_it(desk: Desk) -> None:
    """The hook gets what `postback dead list --json` prints of a letter."""
    desk.push("a")
    desk.start()
    desk.drained()
    assert desk.told == [
        {
            "id": "a", "task": "tgtrack.add_event", "provider": "tgtrack", "account": "main",
            "event": {"user_id": PERSON, "event_type": "sale"},
            "reason": "rejected", "status": 422, "detail": "no", "attempts": 1, "enqueued_at": None, "failed_at": None,
            "possible_duplicate": False,
        }
    ]  # fmt: skip


def test_oldest_first(desk: Desk) -> None:
    """Notices are told of in the order in which the events died."""
    desk.push("a", "b", "c")
    desk.start()
    desk.drained()
    assert desk.ids == ["a", "b", "c"]


def test_equal_entries(desk: Desk) -> None:
    """Of two equal entries each is told of: a call removes one entry, and not what looks like
    it.
    """
    desk.push("a", "a")
    desk.start()
    desk.drained()
    assert desk.ids == ["a", "a"]


@pytest.mark.parametrize("raw", [b"\xff\x00", b"{}", b"[" * 5000, b'{"headers": {"id": 5, "postback_dead": 7}}'])
def test_what_is_no_letter(desk: Desk, raw: bytes) -> None:
    """An entry that is no dead letter is told of as it is, and stops nothing."""
    desk.client.lpush(NEW, raw)
    desk.push("a")
    desk.start()
    desk.drained()
    assert [letter["reason"] for letter in desk.told] == ["malformed", "rejected"]


# Hooks that fail


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_one_that_raises_holds_up_no_other(desk: Desk, error: type[BaseException]) -> None:
    """A letter whose call raises is tried again for ever, behind the others."""
    calls: list[str] = []

    def hook(letter: dict[str, Any]) -> None:
        calls.append(letter["id"])
        if letter["id"] == "bad" and calls.count("bad") < 4:
            raise error(PERSON)

    desk.push("bad", "b", "c")
    desk.start(hook)
    desk.drained()
    assert calls == ["bad", "b", "c", "bad", "bad", "bad"]


def test_what_is_logged_of_it(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """However often it raises there is one WARNING, with its type and the id, without its words and
    without a traceback.
    """
    tries = iter((True, True, True))

    def hook(letter: dict[str, Any]) -> None:
        if next(tries, False):
            raise ValueError(f"no order of {PERSON}")

    with caplog.at_level(logging.DEBUG):
        desk.push("bad\nFAKE LINE")
        desk.start(hook)
        desk.drained()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "tgtrack: POSTBACK_ON_DEAD raised ValueError for the dead letter bad FAKE LINE; it is tried again"
    )
    assert record.exc_info is None


def test_the_pause_grows(desk: Desk) -> None:
    """Between tries of failed letters there is a pause, each twice the one before, up to the
    longest.
    """
    times: list[float] = []

    def hook(letter: dict[str, Any]) -> None:
        times.append(time.monotonic())
        if len(times) < 6:
            raise ValueError

    desk.push("bad")
    desk.start(hook, pause_s=(0.02, 0.08))
    desk.drained()
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert len(pauses) == 5
    assert all(pause >= least for pause, least in zip(pauses, [0.02, 0.02, 0.04, 0.08, 0.08], strict=True))


def test_new_ones_go_before_failed_ones(desk: Desk) -> None:
    """What dies while an earlier letter's call fails again and again is told of at once."""
    failing = threading.Event()

    def hook(letter: dict[str, Any]) -> None:
        if letter["id"] == "bad":
            failing.set()
            raise ValueError
        desk.told.append(letter)

    desk.push("bad")
    desk.start(hook, pause_s=(60.0, 60.0))
    assert failing.wait(10)
    desk.push("late")
    until(lambda: desk.ids == ["late"], 10, "the new one")
    assert (desk.client.llen(NEW), desk.client.llen(FAILED)) == (0, 1)


def test_erased_during_the_call(desk: Desk) -> None:
    """A person's notice that is erased while its call runs does not come back when the call
    raises.
    """

    def hook(letter: dict[str, Any]) -> None:
        desk.client.delete(NEW)
        desk.told.append(letter)
        raise ValueError

    desk.push("a")
    desk.start(hook)
    until(lambda: desk.told, 10, "the call")
    desk.running[0].stop()
    assert desk.left == 0


# Several processes


def test_one_process_at_a_time(desk: Desk) -> None:
    """Of three processes one calls at a time, and each letter is told of once."""
    inside, most = [0], [0]

    def hook(letter: dict[str, Any]) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        desk.told.append(letter)
        inside[0] -= 1

    for _ in range(3):
        desk.start(hook)
    desk.push(*(f"id-{number}" for number in range(200)))
    desk.drained()
    assert most == [1]
    assert desk.ids == [f"id-{number}" for number in range(200)]


def test_another_process_holds_the_lock(desk: Desk) -> None:
    """Nothing is called while another process calls, and everything once its lock has ended."""
    held: list[object] = []
    desk.client.set(LOCK, "another", px=300)
    desk.push("a")
    notices = desk.start(lambda letter: held.append(desk.client.get(LOCK)))
    desk.drained()
    assert held[0] not in (None, b"another")
    notices.stop()
    assert desk.client.get(LOCK) is None


def test_the_lock_is_kept_during_a_long_call(desk: Desk) -> None:
    """A call that outlives the lock's time keeps it, so that no other process makes the same
    call.
    """
    entered, go_on = threading.Event(), threading.Event()

    def hook(letter: dict[str, Any]) -> None:
        desk.told.append(letter)
        entered.set()
        go_on.wait(10)

    desk.push("a")
    desk.start(hook, lock_s=0.05)
    assert entered.wait(10)
    desk.start(hook, lock_s=0.05)
    end = time.monotonic() + 0.3
    until(lambda: time.monotonic() > end or len(desk.told) > 1, 10)
    go_on.set()
    desk.drained()
    assert desk.ids == ["a"]


def test_a_call_that_hangs(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """A call that takes too long is given up: another process tells of the letters behind it, and
    one WARNING says so.
    """
    hang = threading.Event()
    desk.push("hangs", "b", "c")
    desk.start(lambda letter: hang.wait(20), longest_call_s=0.05, pause_s=(60.0, 60.0))
    until(lambda: desk.client.llen(FAILED) == 1, 10, "the call is given up")
    desk.start(pause_s=(60.0, 60.0))
    until(lambda: desk.client.llen(NEW) == 0, 10, "the others")
    assert set(desk.ids) <= {"b", "c"} | {"hangs"}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "has been running for 0.05 s for the dead letter hangs" in caplog.text
    hang.set()
    desk.drained()


# Redis and the end of the process


class Torn:
    """A client whose connection is lost at the first call of some command, after Redis has got it
    or before.
    """

    def __init__(self, client: redis.Redis, command: str, *, arrived: bool) -> None:
        self._client, self._command, self._arrived, self.lost = client, command, arrived, False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)
        if name != self._command or self.lost:
            return real

        def torn(*args: Any) -> Any:
            if self.lost:
                return real(*args)
            self.lost = True
            if self._arrived:
                real(*args)
            raise redis.ConnectionError(f"password {PERSON}")

        return torn


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("command", ["lindex", "lrem"])
def test_a_lost_connection(desk: Desk, caplog: pytest.LogCaptureFixture, command: str, arrived: bool) -> None:
    """A connection that is lost on the way to a call, or after it, leads to no second call and to
    one line of the log.
    """
    client = Torn(desk.connect(), command, arrived=arrived)
    desk.push("a", "b")
    desk.start(client=client)
    desk.drained()
    assert client.lost
    assert desk.ids == ["a", "b"]
    assert [record.getMessage() for record in caplog.records] == [
        "tgtrack: cannot look for notices now (ConnectionError)"
    ]


def test_stop_is_bounded(desk: Desk) -> None:
    """The end of the process waits for a call that hangs no longer than it is told to, and the
    notice stays.
    """
    entered, hang = threading.Event(), threading.Event()

    def hook(letter: dict[str, Any]) -> None:
        entered.set()
        hang.wait(20)

    desk.push("a")
    notices = desk.start(hook)
    assert entered.wait(10)
    begun = time.monotonic()
    notices.stop(0.1)
    assert time.monotonic() - begun < 5
    assert desk.left == 1
    hang.set()


def test_stop_waits_for_a_short_call(desk: Desk) -> None:
    """A call that ends in time is finished: its notice is removed, the next is not begun, and the
    lock is free.
    """
    entered, go_on = threading.Event(), threading.Event()

    def hook(letter: dict[str, Any]) -> None:
        desk.told.append(letter)
        entered.set()
        go_on.wait(10)

    desk.push("a", "b")
    notices = desk.start(hook)
    assert entered.wait(10)
    notices.close()
    go_on.set()
    notices.stop()
    assert (desk.ids, desk.left, desk.client.exists(LOCK)) == (["a"], 1, 0)


# What is to be called


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An application's package that can be imported."""
    (tmp_path / "hookshop").mkdir()
    (tmp_path / "hookshop" / "__init__.py").write_text("")
    (tmp_path / "hookshop" / "events.py").write_text(
        "heard = []\ndef on_dead(letter): heard.append(letter)\nasync def later(letter): pass\ndef none(): pass\n"
        "def two(letter, more): pass\nclass Task:\n    def delay(self, *args): heard.append(args)\ntask = Task()\nword = 'x'\n"
    )
    (tmp_path / "hookshop" / "broken.py").write_text(f"raise RuntimeError('password {PERSON}')\n")
    (tmp_path / "hookshop" / "needs.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("hookshop")]:
        del sys.modules[name]


def loaded(text: str) -> Callable[[dict[str, Any]], object]:
    settings = load_settings({"POSTBACK_ON_DEAD": text})
    assert settings.on_dead is not None
    return load_hook(settings.on_dead, settings, "tgtrack")


@pytest.mark.parametrize(("name", "heard"), [("on_dead", {"id": "a"}), ("task.delay", ({"id": "a"},))])
def test_a_function(shop: Path, name: str, heard: object) -> None:
    """A function of a module, or a method of something in it, is what is called."""
    loaded(f"hookshop.events:{name}")({"id": "a"})
    assert sys.modules["hookshop.events"].heard == [heard]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nohookshop.events:on_dead", "cannot import nohookshop.events: there is no module nohookshop"),
        ("hookshop.nothing:on_dead", "there is no module hookshop.nothing"),
        ("hookshop.needs:on_dead", "cannot import hookshop.needs: there is no module no_such_library"),
        ("hookshop.broken:on_dead", "importing hookshop.broken raises RuntimeError"),
        ("hookshop.events:on_daed", "hookshop.events:on_daed is not a function"),
        ("hookshop.events:word", "is not a function"),
        ("hookshop.events:word.more.names", "is not a function"),
        ("hookshop.events:later", "is async"),
        ("hookshop.events:none", "must take one argument"),
        ("hookshop.events:two", "must take one argument"),
    ],
)
def test_no_function(shop: Path, text: str, words: str) -> None:
    """What cannot be called is refused in one sentence that names the variable and repeats no
    error's text.
    """
    with pytest.raises(ConfigurationError) as caught:
        loaded(text)
    assert str(caught.value).startswith("POSTBACK_ON_DEAD: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert PERSON not in str(caught.value)
