"""What an operator sees and does: dead letters, status, pauses, the accounts file, metrics, logs.

Real workers, at DEBUG.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

import postback
from config.accounts import build_account
from postback import mytracker, tgtrack
from postback.wire import keys
from postback.wire.broker import connect
from tests.acceptance.evidence import values_in
from workers.devkit import ROOT, SECRETS, Stack, fetch, free_port, until
from workers.devkit.stack import READY
from workers.governor import Governor, Server
from workers.writes import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

REDIS_PASSWORD = "redis-Secret-7d4b8"
OLD_KEY, NEW_KEY, SHOP_KEY = "tgtrack-Secret-old:5", "tgtrack-Secret-new~6", "tgtrack-Secret-shop-7"
#: What must never be shown.
PERSON = "987654321"
NAME = "Ivan Petrovich"
HEALTHY = {"limits": "1000/second", "backoff_s": 0.05, "max_attempts": 3, "outage_after": 100, "api_key": OLD_KEY}


class Watched(Stack):
    """The stack of this module, whose workers log in with a password, log everything and serve
    metrics.
    """

    rows: list[dict[str, Any]]
    exporter_port: int

    @property
    def url(self) -> str:
        return self.redis.url.replace("redis://", f"redis://ops:{REDIS_PASSWORD}@")

    def command(self, *arguments: str) -> tuple[int, str]:
        """``postback …`` as a process."""
        done = self.postback(*arguments, POSTBACK_BROKER_URL=self.url, COLUMNS="100")
        return done.returncode, done.stdout + done.stderr

    def row(self, task_id: str, kind: str) -> dict[str, Any] | None:
        """The last task event of this kind about a task."""
        return next((row for row in reversed(self.rows) if (row.get("uuid"), row["type"]) == (task_id, kind)), None)

    def waits(self, queue: str) -> Callable[[], bool]:
        return lambda: self.waiting(queue) == 0

    def page(self, port: int, path: str = "/metrics") -> str:
        return fetch(f"http://127.0.0.1:{port}{path}")[1]


@pytest.fixture(scope="module")
def stack() -> Iterator[Watched]:
    """A healthy account, one with its quota spent and one more of TGTrack; one of myTracker; task
    events gathered.
    """
    with Watched(limits={"tgtrack": None, "mytracker": None}) as stack:
        stack.account("tgtrack.main", **HEALTHY)
        stack.account("tgtrack.shop", limits="2 per hour", api_key=SHOP_KEY)
        stack.account("tgtrack.news", limits="1000/second")
        stack.account("mytracker.game", linger_s=0.2)
        stack.client().execute_command("ACL", "SETUSER", "ops", "on", f">{REDIS_PASSWORD}", "~*", "&*", "+@all")
        env = {"POSTBACK_BROKER_URL": stack.url, "POSTBACK_LOG_LEVEL": "DEBUG", "POSTBACK_METRICS_PORT": "0"}
        stack.launch_worker("tgtrack", **env)
        stack.launch_worker("mytracker", **env, POSTBACK_LOG_FORMAT="json")
        stack.exporter_port = free_port()
        env |= {"POSTBACK_EXPORTER_PORT": str(stack.exporter_port)}
        exporter = stack.launch("exporter", "-m", "workers.metrics", **env)
        stack.rows, stop = [], threading.Event()
        listener = threading.Thread(target=_listen, args=(stack, stop), daemon=True)
        listener.start()
        for worker in stack.workers:
            worker.wait_for(READY)
        stack.configure_producer()
        yield stack
        stop.set()
        listener.join(20)
        assert exporter.stop() == 0


def _listen(stack: Watched, stop: threading.Event) -> None:
    app = Celery("watcher", broker=stack.url, set_as_current=False)
    while not stop.is_set():
        # A test cuts every connection, as a restart of Redis would.
        with contextlib.suppress(TimeoutError, *app.connection().connection_errors), app.connection() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": stack.rows.append})
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    receiver.capture(limit=None, timeout=1, wakeup=False)


@pytest.fixture
def fresh(stack: Watched) -> Watched:
    """The same with nothing refused, nothing recorded and no dead letters."""
    stack.sandbox.clear_faults()
    stack.sandbox.clear_refusals()
    stack.sandbox.reset()
    for provider in ("tgtrack", "mytracker"):
        stack.client().delete(keys.dead(provider))
    return stack


def dead(stack: Watched, provider: str = "tgtrack") -> list[dict[str, Any]]:
    code, out = stack.command("dead", "list", provider, "--json")
    assert code == 0
    return [json.loads(line) for line in out.splitlines()]


def sale(user_id: str = PERSON, account: str = "main") -> tgtrack.AddEvent:
    return tgtrack.AddEvent(user_id=user_id, event_type="sale", account=account)


# Dead letters


def test_three_refused_events(fresh: Watched) -> None:
    """Listed with reasons; one is replayed by id and delivered alone; the rest is replayed once,
    and no more.
    """
    ids = []
    for number, code in ((13, 400), (14, 404), (15, 422)):
        fresh.sandbox.refuse("tgtrack", "user_id", f"{PERSON}{number}", code=code)
        ids.append(sale(f"{PERSON}{number}").delay().id)
    until(lambda: fresh.client().llen("tgtrack.dead") == 3, 20, "three dead letters")
    listed = dead(fresh)
    assert sorted((one["id"], one["reason"], one["status"]) for one in listed) == sorted(
        zip(ids, ["rejected"] * 3, [400, 404, 422], strict=True)
    )
    fresh.sandbox.clear_refusals()
    assert fresh.command("dead", "replay", "tgtrack", "--id", ids[1])[0] == 0
    until(lambda: len(fresh.sandbox.events("tgtrack")) == 1, 20, "the one that was replayed")
    assert [event["user_id"] for event in fresh.sandbox.events("tgtrack")] == [f"{PERSON}14"]
    assert {one["id"] for one in dead(fresh)} == {ids[0], ids[2]}
    assert fresh.command("dead", "replay", "tgtrack")[0] == 0
    until(lambda: len(fresh.sandbox.events("tgtrack")) == 3, 20, "the rest")
    assert fresh.command("dead", "replay", "tgtrack")[0] == 0
    until(fresh.waits("tgtrack.main"), 20)
    assert len(fresh.sandbox.events("tgtrack")) == 3
    assert fresh.client().llen("tgtrack.dead") == 0


def push(stack: Watched, raw: str | bytes, queue: str = "tgtrack.main") -> None:
    stack.client().lpush(queue, raw)


def raw(task: str = "tgtrack.add_event", *, id: str, event: Any = None, **headers: Any) -> str:
    """As another Celery client sends it: its arguments are in ``kwargsrepr``."""
    kwargs = {"account": "main", "event": event or {"user_id": PERSON, "event_type": "sale"}}
    more = {
        "lang": "py",
        "task": task,
        "id": id,
        "root_id": id,
        "argsrepr": "()",
        "kwargsrepr": repr(kwargs),
        **headers,
    }
    return json.dumps(
        {
            "body": json.dumps([[], kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": more,
            "properties": {"correlation_id": id, "delivery_tag": id, "priority": 0, "delivery_info": {}},
        }
    )


def failed(stack: Watched, task_id: str) -> dict[str, Any]:
    """The row of a dead letter."""
    row: dict[str, Any] = until(lambda: stack.row(task_id, "task-failed"), 20, f"a row of {task_id}")
    return row


def name_of(stack: Watched, task_id: str) -> str:
    """As a monitor finds it: in any event about the task."""
    return str(next(row["name"] for row in stack.rows if row.get("uuid") == task_id and row.get("name")))


DEATHS = [
    ("expired", {"id": "gone-1", "expires": "2020-01-01T00:00:00+00:00"}, "tgtrack.add_event"),
    ("malformed", {"id": "odd-1", "task": "tgtrack.nonsense"}, "postback.refused"),
    ("invalid", {"id": "bad-1", "event": {"user_id": 5.5, "event_type": "sale"}}, "tgtrack.add_event"),
]


@pytest.mark.parametrize(("reason", "message", "name"), DEATHS, ids=[case[0] for case in DEATHS])
def test_rows_of_single_events(fresh: Watched, reason: str, message: dict[str, Any], name: str) -> None:
    """However it dies, it is a FAILURE with its reason first, under its own id and a name, and one
    line in the log.
    """
    push(fresh, raw(**message))
    row = failed(fresh, message["id"])
    assert row["exception"].startswith(reason)
    assert name_of(fresh, message["id"]) == name
    lines = [line for line in fresh.logs().splitlines() if " dead " in line and message["id"] in line]
    assert len(lines) == 1
    assert f": {reason}" in lines[0]


def test_row_of_no_message(fresh: Watched) -> None:
    """What is no message at all has a row too, under the name of refused messages."""
    before = len(fresh.rows)
    push(fresh, b"\xff\x00 this is no message")
    until(lambda: [row for row in fresh.rows[before:] if "malformed" in str(row.get("exception"))], 20, "its row")
    row = next(row for row in fresh.rows[before:] if "malformed" in str(row.get("exception")))
    assert row["name"] == "postback.refused"


def test_row_of_a_revoked_event(fresh: Watched) -> None:
    """An event that is revoked while it waits is a dead letter, and its row says so."""
    fresh.command("pause", "tgtrack.main")
    result = sale().delay()
    result.revoke()
    worker = fresh.workers[0]
    until(lambda: f"Tasks flagged as revoked: {result.id}" in worker.text(), 20, "the worker knows")
    fresh.command("resume", "tgtrack.main")
    assert failed(fresh, result.id)["exception"].startswith("revoked")
    assert [one["reason"] for one in dead(fresh)] == ["revoked"]


def test_rows_of_a_batch(fresh: Watched) -> None:
    """Of a batch, the one that dies is a FAILURE under its own id, whatever the batch's own row
    says.
    """
    fresh.sandbox.refuse("mytracker", "customUserId", "player-3", code=400)
    logins = [mytracker.Login(custom_user_id=f"player-{number}") for number in range(5)]
    results = postback.send_many(logins)
    row = failed(fresh, results[3].id)
    assert (name_of(fresh, results[3].id), row["exception"][:8]) == ("mytracker.login", "rejected")
    until(lambda: all(fresh.row(results[n].id, "task-succeeded") for n in (0, 1, 2, 4)), 20, "the others' rows")


def test_row_of_a_crashed_event(fresh: Watched) -> None:
    """A letter that TAKE buries runs as no task; a row and a line in the log tell of it all the
    same.
    """
    client = connect(fresh.redis.url)
    account = build_account("tgtrack", "late", {"api_key": "k", "base_url": "http://127.0.0.1:1"})
    governor = Governor(
        Server(lambda: connect(fresh.redis.url, single=True, client_class=Client)),
        lambda: {"tgtrack.late": dataclasses.replace(account, lease_s=0.2)},
    )
    client.lpush("tgtrack.late", raw(id="killer-1", postback="crashes=2"))
    (grant,) = governor.take("tgtrack.late", 1).grants
    governor.grants.pop(grant.id)
    fresh.account("tgtrack.late", limits="1000/second")
    row = failed(fresh, "killer-1")
    assert (row["name"], row["exception"][:7]) == ("tgtrack.add_event", "crashed")
    until(lambda: "dead tgtrack.add_event killer-1 tgtrack.late: crashed" in fresh.logs(), 10, "its line")
    fresh.remove_account("tgtrack.late")


# Status and pauses


def test_status_of_three_accounts(fresh: Watched) -> None:
    """One account paused, one exhausted, one healthy: in JSON and in the table."""
    assert fresh.command("pause", "tgtrack.news", "--detail", "new key is on its way")[0] == 0
    postback.send_many([sale(account="shop") for _ in range(5)] + [sale(), sale(account="news")])
    until(lambda: len(fresh.sandbox.events("tgtrack")) == 3, 20, "three deliveries")
    until(lambda: fresh.waiting("tgtrack.shop") == 3, 20, "three that wait")
    code, text = fresh.command("status", "--json")
    assert code == 0
    accounts = {f"{one['provider']}.{one['account']}": one for one in json.loads(text)["accounts"]}
    news, shop, main = (accounts[f"tgtrack.{name}"] for name in ("news", "shop", "main"))
    assert (news["paused"]["reason"], news["paused"]["until"], news["queued"]) == ("operator", None, 1)
    assert (shop["paused"], shop["queued"], shop["quota"][0]["remaining"]) == (None, 3, 0)
    assert 3000 < shop["quota"][0]["resets_in_s"] <= 3601
    assert (main["paused"], main["queued"], main["in_flight"]) == (None, 0, 0)
    code, table = fresh.command("status")
    assert code == 0
    assert all(word in table for word in ("tgtrack.main", "tgtrack.shop", "tgtrack.news", "operator"))
    assert all(len(line) <= 100 for line in table.splitlines())


def test_resume_acts_at_once(fresh: Watched) -> None:
    """A paused account takes nothing; after `resume` its event goes."""
    fresh.command("pause", "tgtrack.news")
    sale(account="news").delay()
    sale().delay()
    until(lambda: len(fresh.sandbox.events("tgtrack")) == 1, 20, "the other account's event")
    assert fresh.waiting("tgtrack.news") >= 1
    assert fresh.command("resume", "tgtrack.news")[0] == 0
    until(fresh.waits("tgtrack.news"), 5, "the resumed account's events")


def test_remote_control(fresh: Watched) -> None:
    """`celery -A workers.app control …` does what the command does; workers of other providers say
    that they do not serve it.
    """
    control = Celery("remote", broker=fresh.url, set_as_current=False).control

    def ask(command: str, **arguments: Any) -> dict[str, Any]:
        replies = control.broadcast(command, arguments=arguments, reply=True, timeout=5, limit=2)
        return {name.partition("-")[0]: reply for answer in replies for name, reply in answer.items()}

    replies = ask("pause_account", target="tgtrack.news", detail="by hand")
    assert replies["tgtrack"] == {"ok": "tgtrack.news paused"}
    assert replies["mytracker"] == {"error": "tgtrack.news: not served by this worker"}
    assert ask("pause_account", target="tgtrack.news")["tgtrack"]["ok"].endswith("already paused (operator)")
    sale(account="news").delay()
    sale().delay()
    until(lambda: len(fresh.sandbox.events("tgtrack")) == 1, 20, "the other account's event")
    assert "tgtrack.news resumed (it was paused: operator)" in ask("resume_account", target="tgtrack")["tgtrack"]["ok"]
    until(fresh.waits("tgtrack.news"), 5, "the resumed account's event")
    told = ask("accounts")["tgtrack"]
    assert told["tgtrack.shop"]["limits"] == "2/hour"
    assert "Secret" not in json.dumps(told)


def test_celerys_own_command(fresh: Watched) -> None:
    """The same from the shell."""
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "workers.app", "control", "pause_account", "tgtrack.news", "by hand"],
        cwd=ROOT,
        env=fresh.env(POSTBACK_BROKER_URL=fresh.url),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "tgtrack.news paused" in done.stdout, done.stdout + done.stderr
    assert fresh.client().hget(keys.meta("tgtrack.news"), "detail") == "by hand"
    assert fresh.command("resume", "tgtrack.news")[0] == 0


def test_dead_letters_cannot_be_drained(fresh: Watched) -> None:
    """Adding a dead-letter list, or any queue of no account, as a consumer takes nothing out of
    it.
    """
    push(fresh, raw(id="kept-1"), "tgtrack.dead")
    push(fresh, raw(id="kept-2"), "tgtrack.nobody")
    worker = Celery("remote", broker=fresh.url, set_as_current=False).control
    for queue in ("tgtrack.dead", "tgtrack.nobody"):
        assert worker.add_consumer(queue, reply=True, timeout=5, limit=2)
    sale().delay()
    until(lambda: len(fresh.sandbox.events("tgtrack")) == 1, 20, "an event")
    assert (fresh.client().llen("tgtrack.dead"), fresh.client().llen("tgtrack.nobody")) == (1, 1)
    for queue in ("tgtrack.dead", "tgtrack.nobody"):
        worker.cancel_consumer(queue, reply=True, timeout=5, limit=2)
    fresh.client().delete("tgtrack.nobody")


# The accounts file


def test_new_account_without_restart(fresh: Watched) -> None:
    """An account that is added is served, announced, and no longer served once it is removed; its
    events stay, as an orphan's.
    """
    fresh.account("tgtrack.fair", limits="1000/second", api_key="tgtrack-Secret-fair")
    until(lambda: fresh.client().hexists(keys.ACCOUNTS, "tgtrack.fair"), 20, "its announcement")
    fresh.configure_producer()
    sale(account="fair").delay()
    until(lambda: len(fresh.sandbox.events("tgtrack")) == 1, 20, "its event")
    fresh.remove_account("tgtrack.fair")
    until(lambda: not fresh.client().hexists(keys.ACCOUNTS, "tgtrack.fair"), 20, "its withdrawal")
    sale(account="fair").delay()
    sale().delay()
    until(lambda: len(fresh.sandbox.events("tgtrack")) == 2, 20, "the other account's event")
    assert fresh.waiting("tgtrack.fair") == 1
    text = fresh.command("status", "--json")[1]
    fair = next(one for one in json.loads(text)["accounts"] if one["account"] == "fair")
    assert (fair["announced"], fair["queued"]) == (False, 1)
    assert fresh.command("status", "--check")[0] == 1
    fresh.account("tgtrack.fair", limits="1000/second")
    until(fresh.waits("tgtrack.fair"), 20, "the account is back")
    fresh.remove_account("tgtrack.fair")


def test_new_limits_without_restart(fresh: Watched) -> None:
    """More quota for an account whose events wait for it: they go."""
    fresh.account("tgtrack.tight", limits="1 per hour")
    fresh.configure_producer()
    postback.send_many([sale(account="tight") for _ in range(4)])
    until(lambda: fresh.waiting("tgtrack.tight") == 3, 20, "three that wait")
    fresh.account("tgtrack.tight", limits="1000/second; 5000/hour")
    until(fresh.waits("tgtrack.tight"), 20, "the new limits")
    assert len(fresh.sandbox.events("tgtrack")) == 4
    announced = json.loads(fresh.client().hget(keys.ACCOUNTS, "tgtrack.tight") or "{}")
    assert [window[2] for window in announced["windows"]] == ["1000/second", "5000/hour"]
    fresh.remove_account("tgtrack.tight")


def test_new_key_without_restart(fresh: Watched) -> None:
    """A key is refused: its accounts pause.

    With the right one in the file the same event goes, by itself.
    """
    fresh.sandbox.revoke("tgtrack", OLD_KEY)
    try:
        sale().delay()
        until(lambda: "tgtrack.main is paused: the provider refuses its key" in fresh.logs(), 20, "the pause")
        assert fresh.command("status", "--check")[0] == 1
        fresh.account("tgtrack.main", **{**HEALTHY, "api_key": NEW_KEY})
        until(lambda: "the accounts file has changed: changed tgtrack.main" in fresh.logs(), 20, "the new key")
        until(fresh.waits("tgtrack.main"), 20, "the event")
        assert len({record.key for record in fresh.sandbox.ledger("tgtrack")}) == 2
        assert fresh.client().llen("tgtrack.dead") == 0
    finally:
        fresh.sandbox.restore("tgtrack", OLD_KEY)


WRONG_FILES = [
    ("[tgtrack.main]\napi_key = 5", "[tgtrack.main] api_key"),
    ('[tgtrack.main]\napi_key = "tgtrack-Secret-typo', "not valid TOML"),
    ('[tgtrack.main]\napi_key = "env:NOBODY_SET_THIS"', "NOBODY_SET_THIS"),
    (None, "no such accounts file"),
]


def test_wrong_files(fresh: Watched) -> None:
    """Each wrong file is refused in one sentence, once; the accounts stay as they were, until the
    file is right again.
    """
    good = fresh.accounts_path.read_text()
    worker = fresh.workers[0]

    def refusals() -> list[str]:
        return [line for line in worker.text().splitlines() if "stay as they were" in line]

    for number, (text, _) in enumerate(WRONG_FILES, 1):
        if text is None:
            fresh.accounts_path.unlink()
        else:
            fresh.accounts_path.write_text(text)
        until(lambda number=number: len(refusals()) >= number, 20, "a sentence")
        sale().delay()
        until(lambda number=number: len(fresh.sandbox.events("tgtrack")) == number, 20, "a delivery")
    changes = worker.text().count("the accounts file has changed: ")
    fresh.accounts_path.write_text(good)
    until(lambda: worker.text().count("the accounts file has changed: ") > changes, 20, "the right file")
    assert [words in line for line, (_, words) in zip(refusals(), WRONG_FILES, strict=True)] == [True] * 4


def test_after_a_lost_connection(fresh: Watched) -> None:
    """When Redis has cut every connection, a removed account stays removed, and a new one is
    served.
    """
    fresh.account("tgtrack.old", limits="1000/second")
    until(lambda: fresh.client().hexists(keys.ACCOUNTS, "tgtrack.old"), 20, "its announcement")
    fresh.remove_account("tgtrack.old")
    until(lambda: not fresh.client().hexists(keys.ACCOUNTS, "tgtrack.old"), 20, "its withdrawal")
    fresh.redis.cut_connections()
    fresh.account("tgtrack.young", limits="1000/second")
    postback.configure(broker_url=fresh.redis.url, accounts={"tgtrack": ["main", "old", "young"]})
    postback.send_many([sale(account="old"), sale(account="young"), sale()])
    until(lambda: len(fresh.sandbox.events("tgtrack")) == 2, 30, "the events of the other accounts")
    assert fresh.waiting("tgtrack.old") == 1
    fresh.remove_account("tgtrack.young")
    fresh.client().delete("tgtrack.old", keys.priority_list("tgtrack.old", 3))
    fresh.configure_producer()


# Metrics, and what must not be shown


def targets(stack: Watched) -> list[int]:
    """Ports of the workers' metrics, as Prometheus discovers them."""
    found: list[dict[str, Any]] = json.loads(stack.page(stack.exporter_port, "/workers"))
    return [int(target.rpartition(":")[2]) for one in found for target in one["targets"]]


def test_metrics(fresh: Watched) -> None:
    """The exporter shows queues, quota, pauses and letters; each worker, found through it, its
    requests.
    """
    fresh.command("pause", "tgtrack.news")
    fresh.sandbox.refuse("tgtrack", "user_id", "13", code=422)
    postback.send_many([sale("13"), sale(), sale(account="news")])
    until(lambda: fresh.waiting("tgtrack.main") == 0 and fresh.client().llen("tgtrack.dead"), 20)
    wanted = [
        'postback_events{account="news",provider="tgtrack",state="queued"} 1.0',
        'postback_dead_letters{account="main",provider="tgtrack",reason="rejected"} 1.0',
        'postback_paused{account="news",provider="tgtrack",reason="operator"} 1.0',
        'postback_paused{account="main",provider="tgtrack",reason="operator"} 0.0',
        'postback_quota_limit{account="main",provider="tgtrack",window="1000/second"} 1000.0',
        'postback_workers{provider="tgtrack"} 1.0',
        'postback_backlog_seconds{account="news",provider="tgtrack"} +Inf',
    ]

    def shown() -> bool:
        page = fresh.page(fresh.exporter_port)
        return all(line in page for line in wanted)

    until(shown, 20, "the metrics", every_s=0.5)
    pages = [fresh.page(port) for port in until(lambda: len(targets(fresh)) == 2 and targets(fresh), 20, "two workers")]
    mine = next(page for page in pages if 'account="main",' in page)
    assert 'postback_worker_events_total{account="main",outcome="dead",provider="tgtrack",reason="rejected"}' in mine
    assert 'postback_worker_requests_total{account="main",answer="delivered",provider="tgtrack"}' in mine
    assert 'postback_worker_script_seconds_count{script="take"}' in mine
    fresh.command("resume", "tgtrack.news")
    until(fresh.waits("tgtrack.news"), 20)


def test_json_log(fresh: Watched) -> None:
    """As JSON, at DEBUG, every line of a worker's log is one object; an outcome has fields to
    search by.
    """
    result = mytracker.Login(custom_user_id="player-1").delay()

    def line() -> dict[str, Any] | None:
        lines = [json.loads(line) for line in fresh.workers[1].text().splitlines()]
        return next((one for one in lines if one.get("id") == result.id), None)

    told = until(line, 20, "its line")
    assert (told["outcome"], told["account"], told["task"]) == ("delivered", "mytracker.game", "mytracker.login")
    assert told["attempts"] == 0


def test_no_secret_and_no_person(fresh: Watched) -> None:
    """No configured secret is in any log (at DEBUG), page, dead letter or value in Redis, and no
    person in a log, metric or task event.

    That is after refusals that echo keys, failures, lost connections, look-ups and another client's
    messages.
    """
    sandbox = fresh.sandbox
    sandbox.fault("reset_after", provider="tgtrack", count=1)
    sandbox.fault(
        "status", provider="tgtrack", status=400, body=json.dumps({"echo": [NEW_KEY, OLD_KEY]}), count=1, skip=1
    )
    sandbox.refuse("tgtrack", "user_id", f"{PERSON}1", code=422)
    tgtrack.UserDidStartBot(user_id=PERSON, first_name=NAME, account="main").delay()
    push(fresh, raw(id="foreign-1"))
    for number in range(3):
        sale(f"{PERSON}{number}").apply_async(idempotency_key=f"{PERSON}-{number}")
    sandbox.set_user(PERSON, first_name=NAME)
    # The faults are for the writes; a look-up goes before them.
    until(fresh.waits("tgtrack.main"), 20, "the writes")
    assert tgtrack.GetUserInfo(user_id=PERSON, account="main").delay().get(timeout=20)["first_name"] == NAME
    mytracker.Login(custom_user_id=PERSON).delay()
    for queue in ("tgtrack.main", "mytracker.game"):
        until(fresh.waits(queue), 20, queue)
    values = values_in(fresh)
    pages = "".join(fresh.page(port) for port in (fresh.exporter_port, *targets(fresh)))
    pages += "".join(
        fresh.command(*words.split())[1] for words in ("status", "status --json", "dead list tgtrack --json")
    )
    logs, rows = fresh.logs(), repr(fresh.rows)
    assert " DEBUG " in logs
    assert "tgtrack-1.log" in {path.name for path in fresh.folder.glob("*.log")}
    hidden = [str(value) for table in SECRETS.values() for value in dict(table).values() if "Secret" in str(value)]
    hidden += [
        REDIS_PASSWORD,
        OLD_KEY,
        NEW_KEY,
        SHOP_KEY,
        "tgtrack-Secret-fair",
        "tgtrack-Secret-old",
        "tgtrack-Secret-new",
    ]
    hidden += ["tgtrack-Secret-typo"]
    for secret in hidden:
        for place, text in (("logs", logs), ("rows", rows), ("Redis", values), ("pages", pages)):
            assert secret not in text, f"{secret} in {place}: {_around(text, secret)}"
    metrics = "".join(fresh.page(port) for port in (fresh.exporter_port, *targets(fresh)))
    for word in (PERSON, NAME, NAME.split()[0]):
        for place, text in (("logs", logs), ("rows", rows), ("metrics", metrics)):
            assert word not in text, f"{word} in {place}: {_around(text, word)}"


def _around(text: str, word: str) -> str:
    at = text.index(word)
    return text[max(0, at - 200) : at + 100]
