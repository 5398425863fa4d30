"""``postback find`` and ``postback.find`` with a real Redis; the journal's database is a list."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import postback
from postback import mytracker, tgtrack, tonai
from postback.errors import NoJournal
from postback.journal.query import Query
from postback.journal.records import FIELD, Action, Entry, Gap, read_record
from postback.operations import find as searching
from postback.operations import places
from postback.operations.search import Wanted
from postback.operations.sites import sites
from postback.wire import keys
from tests.integration.postback.operations.conftest import Command, Desk
from tests.integration.workers.governor.crew import answer
from workers.governor import Governor

ME, OTHER = "987654321", "123456789"
QUEUE = "tgtrack.main"
STEP = keys.priority_list(QUEUE, 3)
JOURNAL_ID = "9f1c"


class FakeJournal:
    """The journal's database as a list; ``before`` is called at each reading."""

    def __init__(self) -> None:
        self.rows: list[Entry] = []
        self.lost: list[Gap] = []
        self.done: list[Action] = []
        self.written = True
        self.before: Callable[[], object] = lambda: None
        self.closed = 0

    def check_written(self, journal_id: str, now_ms: float) -> None:
        assert now_ms > 1e12
        if journal_id != JOURNAL_ID or not self.written:
            raise NoJournal("nobody has written the journal of this Redis for 60 s: start `python -m workers.journal`")

    def entries(self, query: Query) -> list[Entry]:
        self.before()
        latest: dict[str, int] = {}
        for entry in filter(Wanted(query).takes, self.rows):
            latest[entry.id] = max(latest.get(entry.id, 0), entry.at_ms)
        ids = sorted(latest, key=lambda each: -latest[each])[: query.limit]
        return [entry for each in ids for entry in self.rows if entry.id == each]

    def actions(self, since_ms: float | None = None) -> list[Action]:
        return [action for action in self.done if action.at_ms >= (since_ms or 0)]

    def gaps(self, journal_id: str, since_ms: float) -> list[Gap]:
        return [gap for gap in self.lost if gap.until_ms >= since_ms]

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def journal(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> FakeJournal:
    fake = FakeJournal()
    desk.client.hset(keys.JOURNAL, "id", JOURNAL_ID)

    @contextmanager
    def reading(environ: object) -> Iterator[FakeJournal]:
        yield fake
        fake.close()

    monkeypatch.setattr("postback.operations.find.journal_of", reading)
    monkeypatch.setattr("postback.cli.find.journal_of", reading)
    return fake


def sale(user: str = ME, **fields: Any) -> tgtrack.AddEvent:
    return tgtrack.AddEvent(user_id=user, event_type="sale", **fields)


def record(event_id: str, at_ms: float, **fields: Any) -> str:
    """A record of one request with one event, as SETTLE writes it."""
    of_event = {
        name: fields.pop(name) for name in ("end", "reason", "key", "key_hash", "enqueued_at", "user") if name in fields
    }
    about = {
        "grant": f"{event_id}.{at_ms:.0f}",
        "at": int(at_ms),
        "queue": QUEUE,
        "task": "tgtrack.add_event",
        "batch": 1,
        **fields,
    }
    return json.dumps({**about, "events": [{"id": event_id, "user": ME, **of_event}]})


def rows(*texts: str) -> list[Entry]:
    return [entry for text in texts for entry in read_record(text).entries]


def delivered(event_id: str, at_ms: float, **fields: Any) -> str:
    return record(event_id, at_ms, **{"outcome": "delivered", "status": 200, "ms": 50, "end": "delivered", **fields})


def states(found: Any) -> dict[str, str]:
    return {each.id: each.state for each in found}


class TestPlaces:
    """Every place in Redis."""

    def test_every_place(self, desk: Desk, govern: Callable[..., Governor]) -> None:
        """Queues of all priorities, delayed, held, on the wire, dead letters: each its state."""
        desk.announce(QUEUE)
        governor = govern(QUEUE)
        flying = sale().delay().id
        governor.take(QUEUE, 1)
        due_ms = desk.now_ms + 60_000
        raws = {name: desk.raw(sale()) for name in ("delayed", "held", "dead")}
        ids = {name: json.loads(raw)["headers"]["id"] for name, raw in raws.items()}
        desk.client.zadd(keys.delayed(QUEUE), {raws["delayed"]: due_ms})
        desk.client.zadd(
            keys.held(QUEUE),
            {raws["held"].replace(b'"headers": {', b'"headers": {"postback": "attempts=1 due=%d", ' % due_ms): 5},
        )
        desk.bury(raws["dead"])
        waiting = [sale().apply_async(priority=priority).id for priority in (0, 3, 6, 9)]
        sale(OTHER).delay()
        found = postback.find(user=ME, live=True)
        assert states(found) == {
            flying: "in_flight", **dict.fromkeys(waiting, "waiting"), **{each: name for name, each in ids.items()},
        }  # fmt: skip
        by_id = {each.id: each for each in found}
        due = datetime.fromtimestamp(due_ms / 1000, UTC)
        assert (by_id[ids["delayed"]].due_at, by_id[ids["held"]].due_at) == (due, due)
        assert by_id[ids["dead"]].reason == "rejected"
        assert by_id[flying].first_sent_at is not None
        for event_id in by_id:
            assert states(postback.find(id=event_id, live=True)) == {event_id: by_id[event_id].state}
        for state in ("waiting", "delayed", "held", "in_flight", "dead"):
            assert {each.id for each in postback.find(outcome=state, user=ME, live=True)} == {
                i for i, s in states(found).items() if s == state
            }

    def test_just_sent_for_later(self, desk: Desk) -> None:
        """An event that is to be sent later is delayed from the beginning."""
        event_id = sale().apply_async(countdown=3600).id
        assert states(postback.find(outcome="delayed", live=True)) == {event_id: "delayed"}
        assert postback.find(outcome="waiting", live=True) == []

    def test_halves_of_a_batch(self, desk: Desk, govern: Callable[..., Governor]) -> None:
        """Events in halves of a refused batch wait, and are on the wire with their grant."""
        queue = "mytracker.game"
        governor = govern(queue, linger_s=0)
        sent = postback.send_many([mytracker.Login(custom_user_id=ME) for _ in range(4)])
        governor.take(queue, 1)
        (grant,) = governor.grants
        grant.settlement = answer(halves=[([1, 2], [3, 4])]).to(grant)
        governor.settle(grant)
        assert set(states(postback.find(user=ME, live=True)).values()) == {"waiting"}
        governor.take(queue, 1)
        assert states(postback.find(user=ME, live=True)) == {each.id: "in_flight" for each in sent}

    def test_a_long_queue(self, desk: Desk) -> None:
        """Thousands of events are read in parts, none longer than a few milliseconds."""
        events = [sale(OTHER if number % 100 else ME) for number in range(5000)]
        postback.send_many(events)
        desk.client.config_set("slowlog-log-slower-than", 10_000)
        desk.client.slowlog_reset()
        counts: list[tuple[str, int]] = []
        found = searching.find(sites(), Query(user=ME), progress=lambda place, count: counts.append((place, count)))
        assert len(found) == 50
        assert counts[-1] == (QUEUE, 5000)
        assert desk.client.slowlog_get() == []

    def test_large_entries(self, desk: Desk) -> None:
        """After large entries a part has few of them, so that it stays small."""
        desk.client.rpush(STEP, *[b"x" * 200_000] * 300)
        parts = list(places.entries(desk.client, STEP, QUEUE, "waiting"))
        assert sum(len(part.raws) for part in parts) == 300
        assert {len(part.raws) for part in parts[1:-1]} == {places.PART_LEAST}


class TestJournal:
    """Redis, streams and database together."""

    def test_its_whole_life(self, desk: Desk, journal: FakeJournal) -> None:
        """Attempts from the database and the stream are one life, each once, in their order."""
        at = desk.now_ms - 60_000
        first, second = record("e1", at, outcome="retry", status=503), delivered("e1", at + 5000)
        journal.rows = rows(first)
        for text in (first, second, "no record", delivered("e2", at)):
            desk.client.xadd(keys.journal("tgtrack"), {FIELD: text})
        desk.client.xadd(keys.journal("tgtrack"), {"another": "field"})
        (event,) = postback.find(id="e1")
        assert event.state == "delivered"
        assert [attempt.status for attempt in event.attempts] == [503, 200]
        assert journal.closed == 1
        assert states(postback.find(user=ME)) == {"e1": "delivered", "e2": "delivered"}

    def test_an_attempt_that_names_nobody(self, desk: Desk, journal: FakeJournal) -> None:
        """The attempt of a worker that died belongs to the event, although it names no person."""
        at = desk.now_ms - 60_000
        journal.rows = rows(delivered("e1", at + 5000))
        desk.client.xadd(keys.journal("tgtrack"), {FIELD: record("e1", at, outcome="unknown", user=None)})
        (event,) = postback.find(user=ME)
        assert [attempt.outcome for attempt in event.attempts] == ["unknown", "delivered"]

    def test_it_waits_for_its_next_attempt(self, desk: Desk, journal: FakeJournal) -> None:
        """An event that failed and is delayed shows both."""
        event_id = sale().apply_async(idempotency_key="order-17").id
        (raw,) = desk.client.lrange(STEP, 0, -1)
        desk.client.delete(STEP)
        desk.client.zadd(keys.delayed(QUEUE), {raw: desk.now_ms + 5000})
        journal.rows = rows(record(event_id, desk.now_ms - 900, outcome="retry", status=503, detail="busy"))
        (event,) = postback.find(key="order-17")
        assert (event.state, event.attempts[0].detail) == ("delayed", "busy")

    def test_it_ends_while_it_is_looked_for(self, desk: Desk, journal: FakeJournal) -> None:
        """What was met waiting, and is delivered before the journal is read, is delivered."""
        event_id = sale().delay().id

        def deliver() -> None:
            if desk.client.delete(STEP):
                journal.rows = rows(delivered(event_id, searching.redis_now_ms(desk.client)))

        journal.before = deliver
        assert states(postback.find(id=event_id)) == {event_id: "delivered"}

    def test_it_moves_while_it_is_looked_for(self, desk: Desk, journal: FakeJournal) -> None:
        """An event that goes on and was not met has moved: it is looked for again."""
        event_id = sale().delay().id
        (raw,) = desk.client.lrange(STEP, 0, -1)
        desk.client.delete(STEP)
        journal.rows = rows(record(event_id, desk.now_ms - 900, outcome="retry", status=503))
        journal.before = lambda: desk.client.zadd(keys.delayed(QUEUE), {raw: desk.now_ms + 9000})
        assert states(postback.find(id=event_id)) == {event_id: "delayed"}

    def test_it_comes_while_it_is_looked_for(self, desk: Desk, journal: FakeJournal) -> None:
        """What is not found at all is looked for once more."""
        event_id = sale().delay().id
        (raw,) = desk.client.lrange(STEP, 0, -1)
        desk.client.delete(STEP)
        journal.before = lambda: desk.client.lpush(STEP, raw)
        assert states(postback.find(user=ME)) == {event_id: "waiting"}

    def test_its_end_is_missing(self, desk: Desk, journal: FakeJournal) -> None:
        """What goes on and is nowhere is unknown. The gap that may hide its end is told."""
        at = desk.now_ms - 60_000
        journal.rows = rows(record("e1", at, outcome="retry", status=503))
        journal.lost = [Gap("tgtrack", at, at + 10, 7), Gap("mytracker", at, at + 10, 7), Gap("tgtrack", 5, 6, 7)]
        found = postback.find(id="e1")
        assert states(found) == {"e1": "unknown"}
        assert found.gaps == (Gap("tgtrack", at, at + 10, 7),)

    def test_a_gap_that_is_not_noted_yet(self, desk: Desk, journal: FakeJournal) -> None:
        """What the stream has just lost is told too, and not where it cannot hide anything."""
        now = desk.now_ms
        desk.client.hset(keys.journal_gap("tgtrack"), mapping={"lost": 3, "since": now - 500, "until": now - 400})
        journal.rows = rows(
            delivered("e1", now - 450, enqueued_at=now - 480), delivered("e2", now - 90, enqueued_at=now - 95)
        )
        assert [gap.lost for gap in postback.find(id="e1").gaps] == [3]
        assert postback.find(id="e2").gaps == ()
        assert [gap.lost for gap in postback.find(id="nobody").gaps] == [3]
        assert postback.find(limit=1).gaps == ()
        assert [gap.lost for gap in postback.find().gaps] == [3]

    def test_events_that_move(self, desk: Desk, journal: FakeJournal) -> None:
        """While events go from their queue into the delayed set and back, each is found."""
        ids = [each.id for each in postback.send_many([sale() for _ in range(300)])]
        stop = threading.Event()

        def move() -> None:
            client = desk.client.__class__.from_url(desk.url)
            while not stop.is_set():
                raw: Any = client.lindex(STEP, -1)
                client.pipeline().rpop(STEP).zadd(keys.delayed(QUEUE), {raw: 1e15}).execute()
                client.pipeline().zrem(keys.delayed(QUEUE), raw).lpush(STEP, raw).execute()
            client.close()

        mover = threading.Thread(target=move)
        mover.start()
        try:
            missing = [postback.find(id=ids).missing for _ in range(20)]
        finally:
            stop.set()
            mover.join()
        assert missing == [frozenset()] * 20


class TestQuestions:
    """What may be asked for."""

    def test_conditions(self, desk: Desk, journal: FakeJournal) -> None:
        """Each condition holds for what waits and for what has ended, and all of them together."""
        at = desk.now_ms - 3_600_000
        waits = sale().apply_async(idempotency_key="order-17").id
        other = tonai.Conversion(telegram_user_id=ME).delay().id
        journal.rows = rows(
            delivered("e1", at, queue="tgtrack.shop"),
            delivered("e2", at - 10, task="tgtrack.send_reach_goal"),
            record("e3", at - 20, outcome="rejected", status=400, end="dead", reason="rejected"),
        )
        assert set(states(postback.find(user=int(ME)))) == {waits, other, "e1", "e2", "e3"}
        assert set(states(postback.find(account="tgtrack"))) == {waits, "e1", "e2", "e3"}
        assert set(states(postback.find(account="tgtrack.main"))) == {waits, "e2", "e3"}
        assert set(states(postback.find(account="tgtrack.shop"))) == {"e1"}
        assert set(states(postback.find(task="tgtrack.add_event"))) == {waits, "e1", "e3"}
        assert set(states(postback.find(since=timedelta(minutes=30)))) == {waits, other}
        assert set(states(postback.find(outcome="delivered"))) == {"e1", "e2"}
        assert set(states(postback.find(outcome="dead"))) == {"e3"}
        assert set(states(postback.find(outcome="waiting"))) == {waits, other}
        assert set(states(postback.find(outcome="delivered", task="tgtrack.add_event", user=ME))) == {"e1"}
        assert set(states(postback.find(key="order-17"))) == {waits}
        assert postback.find(id=waits, task="tgtrack.send_reach_goal").missing == {waits}
        assert postback.find(id="e1", outcome="dead").missing == {"e1"}

    def test_the_limit(self, desk: Desk, journal: FakeJournal) -> None:
        """The latest ones of all places; it is said that there are more; ids are not cut off."""
        at = desk.now_ms - 3_600_000
        waits = [sale().delay().id for _ in range(3)]
        journal.rows = rows(*(delivered(f"e{number}", at + number) for number in range(5)))
        found = postback.find(limit=4)
        assert (set(waits) | {"e4"}, found.more) == ({each.id for each in found}, True)
        assert [each.id for each in postback.find(outcome="delivered", limit=2)] == ["e4", "e3"]
        assert (len(postback.find(limit=8)), postback.find(limit=8).more) == (8, False)
        assert len(postback.find(limit=None)) == 8
        assert len(postback.find(id=[f"e{number}" for number in range(5)], limit=1)) == 5

    def test_a_replayed_letter_is_not_dead(self, desk: Desk, journal: FakeJournal) -> None:
        """Who asks for dead events does not get those that were replayed and delivered since."""
        at = desk.now_ms - 60_000
        death = record("e1", at, outcome="rejected", end="dead", reason="rejected")
        journal.rows = rows(death, record("e1", at + 10, end="replayed", reason="ann@ops1"), delivered("e1", at + 20))
        assert postback.find(outcome="dead") == []

    def test_the_same_id_twice(self, desk: Desk) -> None:
        """Two messages with one id are one event."""
        sale().apply_async(task_id="e1")
        sale().apply_async(task_id="e1")
        assert states(postback.find(id="e1", live=True)) == {"e1": "waiting"}


class TestWithoutJournal:
    """Nobody writes one."""

    def test_no_process_has_ever_run(self, desk: Desk, journal: FakeJournal, command: Command) -> None:
        """It is an error that says what to do, and not an empty answer."""
        desk.client.delete(keys.JOURNAL)
        with pytest.raises(
            NoJournal, match=r"no journal process has ever run .*`python -m workers.journal`.*live=True"
        ):
            postback.find()
        assert command("find", "--user", ME) == 2
        assert "--live" in command.err

    def test_it_is_stale(self, desk: Desk, journal: FakeJournal, command: Command) -> None:
        """A database in which nobody has written lately is none."""
        journal.written = False
        assert command("find") == 2
        assert command.err.startswith("postback: nobody has written the journal")
        assert command("find", "--live") == 0

    def test_a_database_of_another_redis(self, desk: Desk, journal: FakeJournal) -> None:
        """Nor is one that belongs to another Redis."""
        desk.client.hset(keys.JOURNAL, "id", "another")
        with pytest.raises(NoJournal):
            postback.find()

    def test_streams_are_in_redis(self, desk: Desk, journal: FakeJournal) -> None:
        """``live=True`` reads them, and asks no database."""
        journal.written = False
        desk.client.xadd(keys.journal("tgtrack"), {FIELD: delivered("e1", desk.now_ms - 500)})
        assert states(postback.find(user=ME, live=True)) == {"e1": "delivered"}
        assert journal.closed == 0


class TestErrors:
    """Arguments and accounts."""

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"id": 7}, "id must be"),
            ({"id": []}, "id must be"),
            ({"id": ""}, "id must not be empty"),
            ({"id": ["e1", None]}, "id must be"),
            ({"key": 17}, "key must be a string, not int"),
            ({"key": "\ud800"}, "key holds a lone surrogate"),
            ({"user": " "}, "user must not be empty"),
            ({"user": True}, "user must be a string, not bool"),
            ({"account": "tgtrak.main"}, "account 'tgtrak' is not known; did you mean 'tgtrack'?"),
            ({"task": "tgtrack.ad_event"}, "did you mean 'tgtrack.add_event'?"),
            ({"task": tgtrack.AddEvent}, "task must be a string"),
            ({"outcome": "deliverd"}, "outcome 'deliverd' is not known; did you mean 'delivered'?"),
            ({"outcome": "unknown"}, "outcome 'unknown' is not known"),
            ({"since": "2h"}, "since must be a datetime or a timedelta, not str"),
            ({"since": datetime(2026, 1, 1)}, "since must be an aware datetime"),
            ({"limit": 0}, "limit must be 1 or more"),
            ({"limit": 2.5}, "limit must be a whole number"),
        ],
    )
    def test_arguments(self, arguments: dict[str, Any], sentence: str, desk: Desk) -> None:
        """A wrong one is named before anything is asked."""
        with pytest.raises((TypeError, ValueError)) as raised:
            postback.find(**arguments)
        assert sentence in str(raised.value)

    def test_a_mistyped_account(self, desk: Desk, journal: FakeJournal, command: Command) -> None:
        """An account that nobody knows is an error; one that has records is not."""
        desk.announce(QUEUE)
        with pytest.raises(postback.UnknownAccount, match="did you mean main"):
            postback.find(account="tgtrack.mian")
        assert command("find", "--account", "tgtrack.mian") == 2
        assert "did you mean main?" in command.err
        journal.rows = rows(delivered("e1", desk.now_ms - 900, queue="tgtrack.former"))
        assert len(postback.find(account="tgtrack.former")) == 1

    def test_redis_is_away(self, monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
        """A sentence, not a traceback of redis-py; the configured broker counts."""
        postback.configure(broker_url="redis://127.0.0.1:1/0")
        with pytest.raises(postback.PostbackError, match=r"127\.0\.0\.1:1/0 cannot be reached"):
            postback.find(live=True)


class TestCommand:
    """``postback find``."""

    def test_an_event(self, desk: Desk, journal: FakeJournal, command: Command) -> None:
        """What it is, how it ended, whose it is, and a line for each attempt; people shortened."""
        at = 1_796_090_000_000
        event = {"key": "order-17", "key_hash": "ab" * 32, "enqueued_at": at - 50}
        journal.rows = rows(
            record(
                "e1",
                at,
                outcome="retry",
                status=503,
                detail="Service\nUnavailable",
                ms=12.3,
                worker="tgtrack-71@host",
                **event,
            ),
            record("e1", at + 1000, outcome="unknown", detail="its worker died", batch=20, **event),
            record(
                "e1", at + 2000, outcome="rejected", status=400, end="dead", reason="rejected", duplicate=True, **event
            ),
            json.dumps(
                {
                    "grant": "action:1",
                    "at": at + 3000,
                    "queue": QUEUE,
                    "events": [{"id": "e1", "end": "replayed", "reason": "ann@ops1"}],
                }
            ),
            delivered("e1", at + 4000, worker="tgtrack-71@host", **event),
        )
        assert command("find", "--outcome", "delivered") == 0
        lines = command.out.splitlines()
        assert lines[0] == "e1  tgtrack.add_event  tgtrack.main"
        assert lines[1].startswith("  delivered, ")
        assert lines[2].startswith("  user 98…21 · key or…17 · enqueued 2026-12-01 01:53:19Z (")
        assert lines[3:] == [
            "  2026-12-01 01:53:20Z  503  retry      Service Unavailable · 12 ms · tgtrack-71@host",
            "  2026-12-01 01:53:21Z  -    unknown    its worker died · batch of 20",
            "  2026-12-01 01:53:22Z  400  rejected",
            "  2026-12-01 01:53:23Z  replayed by ann@ops1",
            "  2026-12-01 01:53:24Z  200  delivered  50 ms · tgtrack-71@host",
        ]

    def test_what_was_asked_for_is_whole(self, desk: Desk, journal: FakeJournal, command: Command) -> None:
        """A person is shown to who asks for that person; a key to who asks for an event."""
        journal.rows = rows(delivered("e1", desk.now_ms - 500, key="order-2026-17"))
        for words, shown in (
            (["--user", ME], f"user {ME} · key order-2026-17"),
            (["--id", "e1"], "user 98…21 · key order-2026-17"),
            (["--account", "tgtrack"], "user 98…21 · key or…17"),
        ):
            assert command("find", *words) == 0
            assert shown in command.out

    def test_json(self, desk: Desk, journal: FakeJournal, command: Command) -> None:
        """One object on a line for each event, in full, and nothing else."""
        sale().delay()
        journal.rows = rows(delivered("e1", desk.now_ms - 500))
        assert command("find", "--json") == 0
        documents = [json.loads(line) for line in command.out.splitlines()]
        assert [(each["state"], each["user"]) for each in documents] == [("waiting", ME), ("delivered", ME)]

    @pytest.mark.parametrize(
        "words", [["--id", "nobody"], ["--key", "no"], ["--user", "5"], ["--id", "e1", "--id", "nobody"]]
    )
    def test_not_found(self, words: list[str], desk: Desk, journal: FakeJournal, command: Command) -> None:
        """What was asked for by name and is nowhere is an error; the others are shown."""
        journal.rows = rows(delivered("e1", desk.now_ms - 500))
        assert command("find", *words) == 1
        assert "no such event" in command.err
        assert ("e1" in command.out) is ("e1" in words)
        assert command("find", *words, "--live") == 1
        assert "the journal was not asked" in command.err

    def test_nothing(self, desk: Desk, journal: FakeJournal, command: Command) -> None:
        """Nothing in a time or a state is an answer."""
        assert command("find", "--outcome", "held") == 0
        assert command.out == "no such event\n"
        assert command("find", "--json") == 0
        assert command.out == ""

    def test_more(self, desk: Desk, journal: FakeJournal, command: Command) -> None:
        """Without a limit the latest twenty, and that there are more."""
        journal.rows = rows(*(delivered(f"e{number}", desk.now_ms - number) for number in range(30)))
        assert command("find") == 0
        assert command.out.count("delivered, ") == 20
        assert command.out.endswith("… and more; --limit N shows more than 20\n")

    def test_a_gap(self, desk: Desk, journal: FakeJournal, command: Command) -> None:
        """It is said what may be missing."""
        at = 1_796_090_000_000
        journal.lost = [Gap("tgtrack", at, at + 5000, 3000)]
        assert command("find") == 0
        sentence = (
            "the journal lacks 3,000 records of tgtrack from 2026-12-01T01:53:20.000Z to 2026-12-01T01:53:25.000Z"
        )
        assert sentence in command.out

    def test_no_control_characters(self, desk: Desk, journal: FakeJournal, command: Command) -> None:
        """Whatever stands in a record, it steers no terminal."""
        journal.rows = [
            replace(each, worker="\x1b[2J", reason="\x07[bold]")
            for each in rows(record("e\x1b1", 5e11, detail="\x1b]0;x", outcome="re\x9btry", end="dead"))
        ]
        assert command("find") == 0
        assert not any(ord(char) < 32 and char != "\n" for char in command.out)
        assert "[bold]" in command.out

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--outcome", "deliverd"], "no such outcome 'deliverd'; did you mean delivered?"),
            (["--task", "tgtrack.ad_event"], "did you mean tgtrack.add_event?"),
            (["--account", "tgtrak"], "did you mean tgtrack?"),
            (["--since", "yesterday"], "is not an age"),
            (["--key", ""], "it is empty"),
            (["--key", "\udcff"], "it is not UTF-8"),
            (["--limit", "0"], "0 is not in the range"),
        ],
    )
    def test_usage(self, words: list[str], sentence: str, desk: Desk, command: Command) -> None:
        """A mistyped word is named, with the nearest."""
        assert command("find", *words) == 2
        assert sentence in command.err


def action(name: str, what: str, place: str, at_ms: int, detail: str = "") -> str:
    """A record of what an operator did, as scripts write it."""
    about = {"grant": name, "at": at_ms, "action": what, "who": "ann@ops1", "queue": place, "detail": detail}
    return json.dumps(about)


def done(*texts: str) -> list[Action]:
    return [read.action for text in texts if (read := read_record(text)).action]


class TestActions:
    """What operators did."""

    def test_from_both_places(self, desk: Desk, journal: FakeJournal, command: Command) -> None:
        """The database's and those that are not moved yet, each once, the latest first."""
        old = action("action:1", "pause", "tgtrack.main", 1_700_000_000_000, "campaign is over")
        for text in (old, action("action:2", "replay", "tgtrack", 1_700_000_060_000)):
            desk.client.xadd(keys.journal("tgtrack"), {FIELD: text})
        journal.done = done(old, action("action:0", "drop", "tonai", 1_600_000_000_000))
        assert command("find", "--actions", "--json") == 0
        lines = [json.loads(line) for line in command.out.splitlines()]
        assert [line["action"] for line in lines] == ["replay", "pause", "drop"]
        assert lines[1] == {
            "at": "2023-11-14T22:13:20.000Z", "action": "pause", "who": "ann@ops1", "place": "tgtrack.main", "detail": "campaign is over",
        }  # fmt: skip

    def test_of_an_account(self, desk: Desk, journal: FakeJournal, command: Command) -> None:
        """What was done to all of the provider was done to it, too."""
        places = ("tgtrack", "tgtrack.main", "tgtrack.shop", "tonai")
        journal.done = done(
            *(action(f"a:{n}", "pause", place, 1_700_000_000_000 + n) for n, place in enumerate(places))
        )
        assert command("find", "--actions", "--account", "tgtrack.main") == 0
        assert [line.split()[3] for line in command.out.splitlines()] == ["tgtrack.main", "tgtrack"]
        assert command("find", "--actions", "--account", "tgtrack") == 0
        assert len(command.out.splitlines()) == 3

    def test_since_and_limit(self, desk: Desk, journal: FakeJournal, command: Command) -> None:
        """Older ones are left out; that there are more is said."""
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        journal.done = done(*(action(f"a:{n}", "pause", QUEUE, now_ms - n * 3_600_000) for n in range(5)))
        assert command("find", "--actions", "--since", "150m") == 0
        assert len(command.out.splitlines()) == 3
        assert command("find", "--actions", "--limit", "2") == 0
        assert "more" in command.out.splitlines()[2]

    def test_none(self, desk: Desk, journal: FakeJournal, command: Command) -> None:
        """That is an answer; a journal that nobody writes is none."""
        assert command("find", "--actions") == 0
        assert command.out == "no action of an operator\n"
        journal.written = False
        assert command("find", "--actions") == 2
        assert command("find", "--actions", "--live") == 0

    @pytest.mark.parametrize("option", ["--id", "--key", "--user", "--task", "--outcome"])
    def test_conditions_of_events(self, option: str, desk: Desk, command: Command) -> None:
        """An action is of no event: they are refused."""
        value = {"--task": "tgtrack.add_event", "--outcome": "dead"}.get(option, "7")
        assert command("find", "--actions", option, value) == 2
        assert "--actions goes with" in command.err
