"""Whatever lies in a queue: through TAKE on a real server, Celery's own request, strategy and
tracer, SETTLE, and every command.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signature
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

import postback
import workers.worker
from config.accounts import Account, build_account
from config.celery import celery_config
from config.settings import load_settings
from config.topology import DEFAULT_EXCHANGE
from postback import operations
from postback.cli import main
from postback.operations import deadletters
from postback.operations.letters import Filter
from postback.operations.messages import read_message
from postback.wire import keys, schedule
from tasks import task
from tasks.followers import follow_up
from tasks.request import Answer
from tests.integration.workers.governor.crew import AnswersAtOnce, own_client
from tests.shared import hostile
from tests.unit.tasks.fakes import EVENTS, Server
from workers.devkit import RedisServer
from workers.governor import Server as RedisOf
from workers.observe.outcome_log import log_outcomes
from workers.observe.rows import Rows
from workers.rounds.rounds import Rounds

ME = "987654321"
#: Provider -> credentials and a task: one that sends singly, one that sends batches, one that has a
#: result.
PROVIDERS: dict[str, tuple[dict[str, object], str]] = {
    "tgtrack": ({"api_key": "k", "limits": "100000/second"}, "tgtrack.add_event"),
    "mytracker": ({"id_app": 1, "token": "t", "limits": "100000/second", "linger_s": 0}, "mytracker.login"),
    "tonapi": ({"token": "t", "limits": "100000/second"}, "tonapi.get_event"),
}


class Worker:
    """One process's worker without a thread: a round is run when the test wants it.

    Celery's own tracer publishes.
    """

    def __init__(self, server: RedisServer) -> None:
        self.client: Any = server.client()
        self.accounts: dict[str, Account] = {
            f"{name}.main": build_account(name, "main", table) for name, (table, _) in PROVIDERS.items()
        }
        self.server = Server(
            Answer(200, {}, b'{"status": "OK", "message": "OK", "event_id": "1", "in_progress": false, "actions": []}')
        )
        self.app = Celery("postback.test")
        self.app.config_from_object(celery_config(load_settings({"POSTBACK_BROKER_URL": server.url})))
        self.app.amqp.default_exchange = DEFAULT_EXCHANGE  # type: ignore[misc]
        self.app.amqp.autoexchange = lambda name: DEFAULT_EXCHANGE  # type: ignore[assignment]
        self.worker = workers.worker.Worker(RedisOf(lambda: own_client(server)), self.accounts, self.server)
        task.register(self.app, self.worker)
        # What Flower is told must be JSON, whatever the message holds.
        self.rows = Rows(self.worker.account)
        dispatcher = SimpleNamespace(enabled=True, send=lambda kind, **fields: json.dumps(fields), flush=lambda: None)
        self.rows.use(dispatcher)
        self.worker.observers += [log_outcomes, self.rows.observe]
        self.rounds = Rounds(
            self.worker, AnswersAtOnce(self.server), 16, lambda event: follow_up(self.app, "test", event)
        )

    def run(self, queue: str) -> None:
        """Rounds until nothing is left to take."""
        schedule.due(self.client, [queue], "ask")
        self.rounds.wake()
        for _ in range(6 * len(self.entries(queue)) + 10):
            delay = self.rounds.round()
            assert not any(grant.queue == queue for grant in self.worker.grants if grant.settlement is None)
            if delay > 0 and not len(self.worker.grants):
                return
        raise AssertionError("an entry goes round for ever")

    def entries(self, queue: str) -> list[bytes]:
        """Everything of an account that Redis still holds."""
        held: list[bytes] = [raw for name in keys.priority_lists(queue) for raw in self.client.lrange(name, 0, -1)]
        held += self.client.zrange(keys.delayed(queue), 0, -1) + self.client.zrange(keys.held(queue), 0, -1)
        held += self.client.lrange(keys.dead(queue.partition(".")[0]), 0, -1)
        return held


class Watch(logging.Handler):
    """Every record of every logger; none may be an error or hold a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR or "Traceback" in record.getMessage():
            self.bad.append(logging.Formatter().format(record))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def worker(server: RedisServer) -> Worker:
    return Worker(server)


@pytest.fixture
def watch(worker: Worker) -> Iterator[Watch]:
    """An empty Redis, and no traceback at the end."""
    worker.client.flushall()
    watch = Watch()
    logging.getLogger().addHandler(watch)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield watch
    logging.getLogger().removeHandler(watch)
    assert watch.bad == []


def options_of(provider: str) -> dict[str, Any]:
    name = PROVIDERS[provider][1]
    return {"task": name, "account": "main", "event": EVENTS[name]}


def told(raw: bytes) -> str:
    """A message without what Postback adds to it, so that two can be compared; other entries as
    they are.
    """
    message = read_message(raw)
    original = message.original
    if original is not None:
        return told(original)
    if not message.document:
        return repr(raw.rstrip())
    headers = {name: value for name, value in message.headers.items() if name not in ("postback", "postback_dead")}
    return json.dumps({**message.document, "headers": headers}, sort_keys=True)


def sharing_a_key(raws: list[bytes]) -> int:
    """How many of these may be dropped as duplicates: each that has the idempotency key of
    another.
    """
    found = Counter()
    for raw in raws:
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            # The scripts read the key of a message whose numbers Python would not convert.
            key = json.loads(raw, parse_int=str)["headers"]["postback_key"]
            found[key] += bool(key and isinstance(key, str))
    return sum(count - 1 for count in found.values() if count > 1)


def check(worker: Worker, queue: str, raws: list[bytes]) -> None:
    """Run the worker over these entries: each is delivered, or still there with all that was in it;
    nothing is unsettled.
    """
    requests = len(worker.server.requests)
    identities = worker.worker.governor.identities
    identities.learn(worker.client)
    provider = queue.partition(".")[0]
    worker.client.hset(keys.credential(provider, identities.of(worker.worker.accounts[queue]).credential), "healthy", 1)
    for raw in raws:
        worker.client.lpush(queue, raw)
    worker.run(queue)
    assert worker.client.zcard(keys.flight(queue)) == 0
    assert worker.client.hlen(keys.unacked(queue)) == 0
    assert len(worker.worker.grants) == 0
    left = [told(raw) for raw in worker.entries(queue)]
    lost = [raw for raw in raws if told(raw) not in left]
    delivered = int(worker.client.hget(keys.meta(queue), "delivered") or 0)
    repeated = len(raws) - len({told(raw) for raw in raws}) + sharing_a_key(raws)
    assert len(lost) <= delivered + repeated, [raw[:300] for raw in lost]
    assert (delivered > 0) == (len(worker.server.requests) > requests)


class TestEveryPart:
    @pytest.mark.parametrize("provider", PROVIDERS)
    @pytest.mark.parametrize("holder", sorted({holder for holder, _ in hostile.PLACES}))
    def test_single(self, worker: Worker, watch: Watch, provider: str, holder: str) -> None:
        """Every part of a message may be anything: the message is delivered or a dead letter, at
        once and without a traceback.
        """
        queue = f"{provider}.main"
        for place in hostile.PLACES:
            if place[0] != holder:
                continue
            for number, value in enumerate(hostile.VALUES):
                worker.client.flushall()
                raw = hostile.build([(place, value)], id=f"hostile-{number}", **options_of(provider))
                check(worker, queue, [raw])
                assert watch.bad == [], (place, str(value)[:80])

    @pytest.mark.parametrize("provider", PROVIDERS)
    def test_no_message(self, worker: Worker, watch: Watch, provider: str) -> None:
        """Neither does an entry that is no message."""
        whole = hostile.build([], id="whole", **options_of(provider))
        for raw in hostile.not_messages(whole):
            worker.client.flushall()
            check(worker, f"{provider}.main", [raw])
            assert watch.bad == [], raw[:80]


class TestReasons:
    @pytest.mark.parametrize("provider", PROVIDERS)
    @pytest.mark.parametrize("count", [1, 3])
    def test_unknown_task(self, worker: Worker, watch: Watch, provider: str, count: int) -> None:
        """Events of a task that nobody has, with links, are dead letters; what hangs on them is not
        published.
        """
        options = {**options_of(provider), "task": f"{provider}.nothing"}
        changes: Any = [(("embed", "callbacks"), [hostile.LINK]), (("embed", "errbacks"), [hostile.LINK])]
        check(worker, f"{provider}.main", [hostile.build(changes, id=f"unknown-{n}", **options) for n in range(count)])
        letters = list(deadletters.letters(worker.client, provider))
        assert [letter.reason for letter in letters] == ["malformed"] * count
        assert worker.client.llen("celery") == 0

    @pytest.mark.parametrize("count", [1, 3])
    def test_links_of_a_bad_message(self, worker: Worker, watch: Watch, count: int) -> None:
        """A message with one forbidden link publishes none, in a batch neither."""
        bad = {**hostile.LINK, "options": {"queue": "anything"}}
        changes: Any = [(("embed", "callbacks"), [bad]), (("embed", "errbacks"), [hostile.LINK, bad])]
        raws = [hostile.build(changes, id=f"bad-{n}", **options_of("mytracker")) for n in range(count)]
        check(worker, "mytracker.main", raws)
        assert worker.client.llen(keys.dead("mytracker")) == count
        assert worker.client.llen("celery") == worker.client.llen("anything") == 0

    @pytest.mark.parametrize(
        ("place", "value"),
        [(("headers", name), {}) for name in ("expires", "timelimit", "shadow", "retries", "root_id", "origin", "eta")]
        + [(("headers", "stamps"), 5), (("document", "content-encoding"), {}), (("headers", "compression"), "rot13")]
        + [(("embed", "callbacks"), 5), (("embed", "chord"), [])],
        ids=str,
    )
    def test_malformed(self, worker: Worker, watch: Watch, place: Any, value: Any) -> None:
        """A part of a wrong type makes a dead letter ``malformed`` whose detail names it; no
        request was made.
        """
        check(worker, "tgtrack.main", [hostile.build([(place, value)], id="bad", **options_of("tgtrack"))])
        (letter,) = deadletters.letters(worker.client, "tgtrack")
        assert letter.reason == "malformed"
        assert place[1].replace("compression", "compressed") in letter.header["detail"]
        assert letter.message.id == "bad"

    def test_forbidden_link(self, worker: Worker, watch: Watch) -> None:
        """An event with a link to a queue that nobody allowed names the rule and the setting;
        nothing was created in Redis.
        """
        link = {**hostile.LINK, "options": {"queue": "anything"}}
        raw = hostile.build([(("embed", "callbacks"), [link])], id="bad", **options_of("tgtrack"))
        check(worker, "tgtrack.main", [raw])
        (letter,) = deadletters.letters(worker.client, "tgtrack")
        assert "POSTBACK_LINK_QUEUES" in letter.header["detail"]
        assert not [name for name in worker.client.keys("*") if b"anything" in name or b"_kombu" in name]


def link_to(name: str = "shop.follow") -> Any:
    return signature(name, immutable=True)


SHAPES: dict[str, Any] = {
    "task": lambda: link_to(),
    "chain": lambda: chain(link_to(), link_to()),
    "group": lambda: group([link_to(), link_to()]),
    "chord": lambda: chord([link_to(), link_to()], link_to()),
    "chain of groups": lambda: chain(link_to(), group([link_to(), link_to()]), link_to()),
    "chord in a chain": lambda: chain(link_to(), chord([link_to(), link_to()], link_to())),
    "links of links": lambda: link_to().set(link=[link_to()], link_error=[link_to()], expires=60, countdown=1),
}


class TestLinks:
    @pytest.mark.parametrize("provider", PROVIDERS)
    @pytest.mark.parametrize("kind", ["callbacks", "chain"])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_published(self, worker: Worker, watch: Watch, provider: str, kind: str, shape: str) -> None:
        """A link that is allowed is published, whatever its shape, of a single event and in a
        batch; no exchange is bound in Redis.
        """
        made = json.loads(kombu_json.dumps(SHAPES[shape]()))
        options = options_of(provider)
        raws = [hostile.build([(("embed", kind), [made])], id=f"linked-{number}", **options) for number in range(2)]
        check(worker, f"{provider}.main", raws)
        assert worker.client.hget(keys.meta(f"{provider}.main"), "delivered") == b"2"
        assert worker.client.llen("celery") >= 2
        assert not worker.client.keys("_kombu*")

    @pytest.mark.parametrize("provider", PROVIDERS)
    def test_errback(self, worker: Worker, watch: Watch, provider: str) -> None:
        """An errback is published when its event becomes a dead letter."""
        made = json.loads(kombu_json.dumps(signature("shop.failed")))
        changes = [(("embed", "errbacks"), [made]), (("event", "anything"), 5)]
        raws = [hostile.build(changes, id=f"failed-{number}", **options_of(provider)) for number in range(2)]
        check(worker, f"{provider}.main", raws)
        assert worker.client.llen("celery") == 2
        assert not worker.client.keys("_kombu*")

    def test_a_task_of_celery_s_own(self, worker: Worker, watch: Watch) -> None:
        """Celery runs an errback that it knows in the worker itself: such a one is refused."""
        link = {**hostile.LINK, "task": "celery.backend_cleanup"}
        changes = [(("embed", "errbacks"), [link]), (("event", "anything"), 5)]
        check(worker, "tgtrack.main", [hostile.build(changes, id="bad", **options_of("tgtrack"))])
        (letter,) = deadletters.letters(worker.client, "tgtrack")
        assert letter.reason == "malformed"


#: Up to four changes of one message.
CHANGES = st.lists(st.tuples(st.sampled_from(hostile.PLACES), st.sampled_from(hostile.VALUES)), min_size=1, max_size=4)


def message_of(provider: str, number: int, changes: Any) -> bytes:
    event = dict(options_of(provider))
    if provider != "tonapi":
        event["event"] = {**event["event"], "customUserId" if provider == "mytracker" else "user_id": ME}
    by_holder = [change for change in changes if change[0] != ("document", "headers")]
    return hostile.build(by_holder, id=f"hostile-{number}", **event)


@settings(deadline=None, database=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    provider=st.sampled_from(sorted(PROVIDERS)),
    many=st.lists(CHANGES, min_size=1, max_size=6),
    others=st.lists(st.binary(max_size=40), max_size=2),
)
@example(
    provider="mytracker",
    many=[
        [(("document", "body"), hostile.DIGITS), (("headers", "postback_key"), "a")],
        [(("headers", "postback_key"), "a")],
    ],
    others=[],
)
def test_anything_at_all(worker: Worker, watch: Watch, provider: str, many: Any, others: list[bytes]) -> None:
    """Messages of which several parts are anything, together with good ones: each is delivered or a
    dead letter.
    """
    worker.client.flushall()
    raws = [message_of(provider, number, changes) for number, changes in enumerate(many)]
    good = [message_of(provider, 1000 + number, []) for number in range(3)]
    check(worker, f"{provider}.main", list(dict.fromkeys([*raws, *others, *good])))
    assert int(worker.client.hget(keys.meta(f"{provider}.main"), "delivered")) >= 3
    assert watch.bad == []


class TestCommands:
    """Every command that reads messages, over a Redis full of anything."""

    @pytest.fixture
    def full(
        self, worker: Worker, watch: Watch, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Worker]:
        """Each hostile message is a dead letter, waits in a queue, is delayed, and is held
        aside.
        """
        monkeypatch.setenv("POSTBACK_BROKER_URL", server.url)
        monkeypatch.delenv("POSTBACK_ACCOUNTS", raising=False)
        postback.configure()
        options = {**options_of("tgtrack"), "event": {**options_of("tgtrack")["event"], "user_id": ME}}
        raws = [
            *list(hostile.each_part(**options))[::4],
            *hostile.not_messages(hostile.build([], id="whole", **options)),
        ]
        check(worker, "tgtrack.main", raws)
        for number, raw in enumerate(raws[::3]):
            worker.client.lpush("tgtrack.main", raw)
            worker.client.lpush(keys.dead("tgtrack"), raw)
            worker.client.zadd(keys.delayed("tgtrack.main"), {raw: time.time() * 1000 + 1e7 + number})
            worker.client.zadd(keys.held("tgtrack.main"), {raw: number})
        yield worker
        monkeypatch.undo()
        postback.configure()

    @pytest.mark.parametrize(
        "arguments",
        [["status"], ["status", "--json"], ["dead", "list", "tgtrack"], ["dead", "list", "tgtrack", "--json"],
         ["dead", "replay", "tgtrack", "--dry-run"], ["dead", "replay", "tgtrack"], ["dead", "drop", "tgtrack", "--yes"],
         ["dead", "drop", "tgtrack", "--older-than", "1h", "--yes"], ["erase", "--user", ME, "--yes"],
         ["dead", "list", "tgtrack", "--id", "hostile-5"]],
        ids=" ".join,
    )  # fmt: skip
    def test_command(self, full: Worker, arguments: list[str], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        """It ends with an answer and says nothing on stderr that looks like our own failure."""
        assert main(arguments) in (0, 1)
        out, err = capfdbinary.readouterr()
        assert b"Traceback" not in err
        assert b"Error" not in err, err[:500]
        assert out or err

    def test_python(self, full: Worker) -> None:
        """The same of the functions behind them; each dead letter is JSON."""
        operations.snapshot(full.client).as_json()
        for letter in deadletters.letters(full.client, "tgtrack"):
            json.dumps(letter.as_json()).encode()

    def test_replayed(self, full: Worker) -> None:
        """A replay puts all of them back, and they end as they did before."""
        before = full.client.llen(keys.dead("tgtrack"))
        assert deadletters.replay(full.client, "tgtrack", Filter()).total == before
        full.run("tgtrack.main")
        assert full.client.zcard(keys.flight("tgtrack.main")) == 0
        assert len(full.worker.grants) == 0

    def test_erased(self, full: Worker) -> None:
        """The person's events are gone, wherever they could be read."""
        operations.erase(full.client, ME)
        left = [read_message(raw) for raw in full.entries("tgtrack.main")]
        assert not [message for message in left if message.kwargs().get("event") == {"user_id": ME}]
