"""The exporter and a worker's own metrics, without Redis."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry, generate_latest

from postback.operations import AccountStatus, Snapshot
from postback.operations.account_status import Pause
from postback.operations.journal_status import JournalStatus, Stream
from postback.operations.queues import Worker
from postback.operations.quota import Log
from postback.operations.server import RedisStatus
from postback.operations.sites import Site
from postback.wire.broker import parse_broker
from postback.wire.windows import Window
from workers.metrics import exporter
from workers.metrics.exporter import Exporter
from workers.observe.metrics_server import Server, listen, plain, reached_at

NOW_MS = 1_800_000_000_000.0
URL = "redis://ops:redis-Secret@10.0.0.5:6379/0"


def status(queue: str = "tgtrack.main", **changes: Any) -> AccountStatus:
    fields: dict[str, Any] = {
        "queue": queue, "announced": True, "served": True, "queued": 0, "delayed": 0, "in_flight": 0, "requests_in_flight": 0,
        "dead": 0, "windows": (Window(3, 1.0, "3/second"),), "logs": (Log(NOW_MS, [], 0),), **changes,
    }  # fmt: skip
    return AccountStatus(**fields)


def seen(*accounts: AccountStatus, dead: dict[str, int] | None = None, metrics: tuple[str, ...] = ()) -> Snapshot:
    workers = tuple(Worker(f"w{place}", "tgtrack", NOW_MS, 1, place) for place in metrics)
    state = RedisStatus(
        url="redis://10.0.0.5:6379/0", providers=("tgtrack",), used_bytes=5, max_bytes=10, policy="noeviction",
        append_only=True, version="7",
    )  # fmt: skip
    return Snapshot(NOW_MS, accounts, workers, (state,), dead or {"tgtrack": 0})


class Looks:
    """In place of Redis: answers, one after another; the last is repeated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Snapshot | Exception) -> None:
        self.answers, self.count = list(answers), 0
        monkeypatch.setattr(exporter, "snapshot", self.answer)
        self.exporter = Exporter([Site(parse_broker(URL), redis.Redis(), ("tgtrack",))], 200)

    def answer(self, client: redis.Redis, providers: Any, url: str) -> Snapshot:
        self.count += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def page(self) -> str:
        registry = CollectorRegistry()
        registry.register(self.exporter)
        return generate_latest(registry).decode()


class TestExporter:
    """:class:`workers.metrics.exporter.Exporter`."""

    def test_pauses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each reason is there, so that an alert has a series to look at before the pause; the
        account's own is 1.
        """
        page = Looks(monkeypatch, seen(status(paused=Pause("credentials", None, NOW_MS, "")))).page()
        assert 'postback_paused{account="main",provider="tgtrack",reason="credentials"} 1.0' in page
        assert 'postback_paused{account="main",provider="tgtrack",reason="outage"} 0.0' in page

    def test_quota(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Used and left per window."""
        page = Looks(monkeypatch, seen(status(logs=(Log(NOW_MS, [NOW_MS - 10], 1),)))).page()
        assert 'postback_quota_used{account="main",provider="tgtrack",window="3/second"} 2.0' in page
        assert 'postback_quota_remaining{account="main",provider="tgtrack",window="3/second"} 1.0' in page

    def test_oldest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The age of the oldest waiting event, and 0 where none waits."""
        both = seen(status(oldest_ms=NOW_MS - 90_000, queued=1), status("tgtrack.shop"))
        page = Looks(monkeypatch, both).page()
        assert 'postback_oldest_waiting_seconds{account="main",provider="tgtrack"} 90.0' in page
        assert 'postback_oldest_waiting_seconds{account="shop",provider="tgtrack"} 0.0' in page

    def test_odd_reasons(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A letter with anything for a reason makes no label of it, and two of them no second
        series of one name.
        """
        dead = {"rejected": 1, "ivan@mail.ru wrote": 2, "": 3}
        page = Looks(monkeypatch, seen(status(dead=6, dead_reasons=dead), dead={"tgtrack": 7})).page()
        assert "ivan" not in page
        assert 'postback_dead_letters{account="main",provider="tgtrack",reason="unknown"} 5.0' in page
        assert 'postback_dead_letters{account="",provider="tgtrack",reason="unknown"} 1.0' in page

    def test_notices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The dead letters of which the application is still to be told, and 0 where there is
        none.
        """
        both = dataclasses.replace(seen(status()), notices={"tgtrack": 7, "tonai": 0})
        page = Looks(monkeypatch, both).page()
        assert 'postback_dead_notices{provider="tgtrack"} 7.0' in page
        assert 'postback_dead_notices{provider="tonai"} 0.0' in page

    def test_journal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What waits, for how long, what is lost; and when the database was last written."""
        streams = {"tgtrack": Stream(7, 12.5, 3), "tonai": Stream()}
        journal = JournalStatus("redis://10.0.0.5:6379/0", "5f1a", NOW_MS - 2000, 2.0, streams)
        page = Looks(monkeypatch, dataclasses.replace(seen(status()), journals=(journal,))).page()
        labels = '{provider="tgtrack",redis="redis://10.0.0.5:6379/0"}'
        for name, value in (("entries", "7.0"), ("lag_seconds", "12.5"), ("lost_entries", "3.0")):
            assert f"postback_journal_{name}{labels} {value}" in page
        assert 'postback_journal_lag_seconds{provider="tonai",redis="redis://10.0.0.5:6379/0"} 0.0' in page
        at = 'postback_journal_last_written_timestamp_seconds{redis="redis://10.0.0.5:6379/0"} 1.799999998e+09'
        assert at in page

    def test_a_journal_that_nobody_has_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It has no time, so that no alert can take it for an old one; its records count."""
        journal = JournalStatus("r", "", None, float("inf"), {"tgtrack": Stream(9, 90.0, 0)})
        page = Looks(monkeypatch, dataclasses.replace(seen(status()), journals=(journal,))).page()
        assert 'postback_journal_entries{provider="tgtrack",redis="r"} 9.0' in page
        assert "postback_journal_last_written_timestamp_seconds{" not in page

    def test_no_worker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A provider whose workers are all gone has the count 0 and not no count."""
        assert 'postback_workers{provider="tgtrack"} 0.0' in Looks(monkeypatch, seen(status(served=False))).page()

    def test_redis_away(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """While Redis is away the page says so and stays up; the log says it once, and neither
        shows the password.
        """
        monkeypatch.setattr(exporter, "KEPT_S", 0.0)
        looks = Looks(monkeypatch, redis.ConnectionError("Error 111 redis-Secret"))
        pages = looks.page() + looks.page()
        assert 'postback_redis_up{redis="redis://10.0.0.5:6379/0"} 0.0' in pages
        assert len(caplog.records) == 1
        assert "redis-Secret" not in pages + caplog.text

    def test_asks_seldom(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two scrapes in a row look into Redis once."""
        looks = Looks(monkeypatch, seen(status()))
        assert looks.page() == looks.page()
        assert looks.count == 1

    def test_workers_page(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prometheus is told where the workers are; while Redis is away it is told nothing and
        keeps what it knows.
        """
        monkeypatch.setattr(exporter, "KEPT_S", 0.0)
        looks = Looks(monkeypatch, seen(metrics=("h:2", "h:1", "")), redis.ConnectionError())
        told: list[str] = []
        (body,) = looks.exporter.workers_page({}, lambda status, headers: told.append(status))
        assert json.loads(body) == [{"targets": ["h:1", "h:2"], "labels": {}}]
        looks.exporter.workers_page({}, lambda status, headers: told.append(status))
        assert told == ["200 OK", "503 Service Unavailable"]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def get(port: int, path: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class TestServer:
    """:mod:`workers.observe.metrics_server`."""

    def test_two_on_one_host(self, taken: int) -> None:
        """A port that is taken is no reason not to serve: the next free one is used."""
        server = listen("127.0.0.1", taken, {})
        assert taken < server.port < taken + 20
        server.close()

    def test_pages(self, caplog: pytest.LogCaptureFixture) -> None:
        """What is there, what is not, and a page that fails: it is told in the log, not to the
        client.
        """

        def fails(environ: Any, start_response: Any) -> list[bytes]:
            raise RuntimeError("inside")

        pages = {"/ok": lambda environ, start: plain(start, "200 OK", "fine"), "/fails": fails}
        server = Server("127.0.0.1", 0, pages)
        try:
            assert get(server.port, "/ok") == (200, "fine\n")
            assert get(server.port, "/etc/passwd")[0] == 404
            status, text = get(server.port, "/fails")
        finally:
            server.close()
        assert (status, "inside" in text) == (500, False)
        assert "inside" in caplog.text

    def test_not_this_machine(self) -> None:
        """An address of another machine is an error, not another address."""
        with pytest.raises(OSError, match=r"address|assign"):
            listen("192.0.2.1", 9180, {})

    @pytest.mark.parametrize(
        ("address", "told"),
        [("127.0.0.1", "127.0.0.1:9"), ("::1", "[::1]:9"), ("0.0.0.0", f"{socket.gethostname()}:9")],
    )
    def test_reached_at(self, address: str, told: str) -> None:
        """Others are told an address that they can use."""
        assert reached_at(address, 9) == told


class TestManyAccounts:
    """More accounts than have series of their own (ADR 31)."""

    def test_the_most_urgent_and_the_totals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those that need a person come first, then those that fail, then the longest queues; the
        totals count all.
        """
        idle = [status(f"tgtrack.idle{number}", delivered=2) for number in range(500)]
        paused = status("tgtrack.zzz", paused=Pause("credentials", None, NOW_MS, ""), queued=1)
        dead, failing = status("tgtrack.dead1", dead=3), status("tgtrack.failing", failures=1)
        long, short = status("tgtrack.long", queued=9, oldest_ms=NOW_MS - 5000), status("tgtrack.short", queued=8)
        looks = Looks(monkeypatch, seen(*idle, short, long, failing, dead, paused, dead={"tgtrack": 3}))
        looks.exporter._most_accounts = 4
        page = looks.page()
        shown = set(re.findall(r'postback_events\{account="(\w+)"', page))
        assert shown == {"zzz", "dead1", "failing", "long"}
        for line in (
            'postback_provider_accounts{provider="tgtrack",state="all"} 505.0',
            'postback_provider_accounts{provider="tgtrack",state="paused"} 1.0',
            'postback_provider_events{provider="tgtrack",state="queued"} 18.0',
            'postback_provider_events{provider="tgtrack",state="dead"} 3.0',
            'postback_provider_oldest_waiting_seconds{provider="tgtrack"} 5.0',
            'postback_provider_delivered_events_total{provider="tgtrack"} 1000.0',
        ):
            assert line in page
        assert page.count("\n") < 400

    def test_none_of_their_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Totals alone."""
        looks = Looks(monkeypatch, seen(status(queued=1)))
        looks.exporter._most_accounts = 0
        assert 'account="main"' not in looks.page()
        assert 'postback_provider_events{provider="tgtrack",state="queued"} 1.0' in looks.page()
