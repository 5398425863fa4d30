"""Flower, unmodified, beside real workers on a real Redis: what operators see, and what they must
never see.
"""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from flower.urls import handlers
from tornado.web import RequestHandler

import postback
from postback import mytracker, tgtrack
from postback.wire import keys
from postback.wire.broker import parse_broker
from tests.acceptance.flower import AUTH, SOON_S, Flower
from workers.devkit import ROOT, SECRETS, Stack, environment, until
from workers.flower import tls_options

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

REDIS_PASSWORD = "redis-Secret-6c2a7"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Two accounts of TGTrack, one with its quota spent and three events waiting, and one of
    myTracker; three dead letters.
    """
    with Stack(limits={"tgtrack": None, "mytracker": None}) as stack:
        stack.account("tgtrack.main", limits="1000/second")
        stack.account("tgtrack.shop", limits="2 per hour", api_key="tgtrack-Secret-shop")
        stack.account("mytracker.game")
        stack.configure_producer()
        # From here on every new connection needs the password, so that it is in the URLs of Flower
        # and of the workers.
        stack.client().config_set("requirepass", REDIS_PASSWORD)
        yield stack


@pytest.fixture(scope="module")
def url(stack: Stack) -> str:
    return stack.redis.url.replace("redis://", f"redis://:{REDIS_PASSWORD}@")


@pytest.fixture(scope="module")
def flower(stack: Stack, url: str) -> Iterator[Flower]:
    """Flower started before any worker, as ``docker compose up`` may do it; then the workers, then
    events.
    """
    flower = Flower(stack, POSTBACK_BROKER_URL=url)
    until(lambda: flower.get("/broker")[0] == 200, 60, "Flower")
    stack.start_workers("tgtrack", "mytracker", POSTBACK_BROKER_URL=url)
    postback.configure(broker_url=url, accounts={"tgtrack": ["main", "shop"], "mytracker": ["game"]})
    stack.sandbox.refuse("tgtrack", "event_type", "no-such-step")
    for _ in range(3):
        tgtrack.AddEvent(user_id="987654321", event_type="no-such-step", account="main").delay()
    postback.send_many(tgtrack.AddEvent(user_id=f"98765{n}", event_type="sale", account="shop") for n in range(5))
    postback.send_many(mytracker.Login(custom_user_id=f"player-{n}") for n in range(40))
    yield flower
    assert flower.stop() == 0


DEPTHS = {"tgtrack.main": 0, "tgtrack.shop": 3, "tgtrack.dead": 3, "mytracker.game": 0, "mytracker.dead": 0}


def test_queues_of_later_workers(flower: Flower) -> None:
    """Every account queue and dead-letter list is listed with its depth, although the workers
    started after Flower.
    """
    flower.shows(DEPTHS)


def test_after_inspection(flower: Flower) -> None:
    """A refresh of all workers, and the page of each, change nothing."""
    flower.shows(DEPTHS)
    assert flower.get("/api/workers?refresh=1")[0] == 200
    for name in flower.workers():
        status, page = flower.get(f"/worker/{name}")
        assert status == 200
        assert f"<td>{name.partition('-')[0]}.dead</td>" in page
    flower.shows(DEPTHS)


def test_after_add_consumer(flower: Flower, url: str) -> None:
    """A new queue appears beside the others, and the dead-letter list is neither dropped nor
    drained by the command.
    """
    flower.shows(DEPTHS)
    worker = next(name for name in flower.workers() if name.startswith("tgtrack"))
    control = Celery("test", broker=url, set_as_current=False).control
    added: Any = control.add_consumer("tgtrack.side", destination=[worker], reply=True, timeout=10)
    assert "ok" in added[0][worker]
    try:
        # Asked, it need not wait for its own next look.
        flower.get("/api/workers?refresh=1")
        flower.shows({**DEPTHS, "tgtrack.side": 0})
    finally:
        control.cancel_consumer("tgtrack.side", destination=[worker], reply=True, timeout=10)
    flower.get("/api/workers?refresh=1")
    flower.shows(DEPTHS)


def test_after_connection_cut(flower: Flower, stack: Stack, url: str) -> None:
    """When Redis has cut every connection, workers and Flower come back and show the same, and new
    events as well.
    """
    flower.shows(DEPTHS)
    client = redis.Redis.from_url(url)
    client.client_kill_filter(_type="normal", skipme=True)
    client.client_kill_filter(_type="pubsub")
    result = tgtrack.AddEvent(user_id="5", event_type="after-the-cut", account="main").delay()
    until(lambda: flower.tasks().get(result.id, {}).get("state") == "SUCCESS", SOON_S, "the event after the cut")
    flower.shows(DEPTHS)


def test_failures_begin_with_their_reason(flower: Flower) -> None:
    """A dead-lettered event is a FAILURE whose first word is the reason code; events of batches
    have a row each.
    """
    flower.shows(DEPTHS)
    until(
        lambda: len([task for task in flower.tasks().values() if task["state"] == "FAILURE"]) == 3, SOON_S, "failures"
    )
    failed = [task for task in flower.tasks().values() if task["state"] == "FAILURE"]
    assert all(task["exception"].startswith("rejected 422 ") for task in failed)
    assert all(task["exception"].endswith("; dead letter after 1 attempt") for task in failed)
    logins = [task for task in flower.tasks().values() if task["name"] == "mytracker.login"]
    assert len([task for task in logins if (task["state"], task["result"]) == ("SUCCESS", "'delivered'")]) == 40


def test_no_secret_and_no_person_on_any_page(flower: Flower, stack: Stack) -> None:
    """No page and no log of Flower has a provider's credential, a password or a user's id."""
    flower.shows(DEPTHS)
    paths = ["/workers", "/broker", "/tasks", "/metrics", "/api/tasks", "/api/workers?refresh=1", "/api/queues/length"]
    paths += [f"/worker/{name}" for name in flower.workers()]
    paths += [f"/task/{task_id}" for task_id in flower.tasks()]
    texts = {path: flower.get(path) for path in paths}
    assert {path: status for path, (status, _) in texts.items() if status != 200} == {}
    everything = "".join(text for _, text in texts.values()) + flower.process.text()
    tables: list[dict[str, Any]] = [dict(table) for table in SECRETS.values()]  # type: ignore[call-overload]
    hidden = [
        str(value) for table in tables for value in table.values() if isinstance(value, str) and "Secret" in value
    ]
    for secret in [*hidden, "tgtrack-Secret-shop", REDIS_PASSWORD, AUTH.partition(":")[2], "987654321"]:
        assert secret not in everything


@pytest.mark.parametrize("path", ["/broker", "/workers", "/tasks", "/api/tasks", "/api/workers", "/api/queues/length"])
@pytest.mark.parametrize("auth", ["", "jane:wrong"])
def test_password(flower: Flower, path: str, auth: str) -> None:
    """Without the password there is nothing to see."""
    assert flower.get(path, auth)[0] == 401


def test_before_any_worker() -> None:
    """With no worker at all, the accounts that were announced and the dead-letter lists are listed
    from Redis.
    """
    with Stack() as other:
        other.client().hset(keys.ACCOUNTS, "tonai.main", "{}")
        lonely = Flower(other)
        try:
            until(lambda: "tonai.main" in lonely.depths(), 60, "the announced account")
            assert "tonai.dead" in lonely.depths()
        finally:
            assert lonely.stop() == 0


def run(env: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Flower's exit status and what it says, for settings with which it must not start."""
    done = subprocess.run(
        [sys.executable, "-m", "workers.flower", *arguments],
        cwd=ROOT,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"FLOWER_ADDRESS": "0.0.0.0"}, "FLOWER_BASIC_AUTH"),
        ({"FLOWER_PORT": "http"}, "FLOWER_PORT"),
        ({"FLOWER_BASIC_AUTH": "s3cr3t-word"}, "FLOWER_BASIC_AUTH"),
        ({"FLOWER_MAX_TASKS": "many"}, "FLOWER_"),
        ({"POSTBACK_BROKER_URL": "amqp://jane:s3cr3t-word@host"}, "POSTBACK_BROKER_URL"),
    ],
)
def test_wrong_settings(env: dict[str, str], named: str) -> None:
    """A wrong setting ends the start with status 2 and one sentence that names it and shows no
    password.
    """
    status, said = run(env)
    assert status == 2
    assert said.startswith("postback: ")
    assert named in said
    assert len(said.splitlines()) == 1
    assert "s3cr3t-word" not in said


def test_port_taken(stack: Stack, flower: Flower) -> None:
    """A port in use is told in one sentence."""
    status, said = run({"FLOWER_PORT": str(flower.port), "POSTBACK_BROKER_URL": "redis://127.0.0.1:1/0"})
    assert status == 2
    assert f"FLOWER_PORT {flower.port}" in said.splitlines()[-1]
    assert "Traceback" not in said


def test_empty_variables(stack: Stack, url: str) -> None:
    """Variables that are set but empty count as not set, and without a password it serves this
    machine only.
    """
    empty = dict.fromkeys(("FLOWER_ADDRESS", "FLOWER_BASIC_AUTH", "FLOWER_MAX_TASKS", "FLOWER_URL_PREFIX"), "")
    flower = Flower(stack, POSTBACK_BROKER_URL=url, **empty)
    try:
        until(lambda: flower.get("/workers", "")[0] == 200, 60, "Flower")
        assert "no password, this machine only" in flower.process.text()
    finally:
        assert flower.stop() == 0


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("rediss://h:6379/0", ssl.CERT_REQUIRED),
        ("rediss://h:6379/0?ssl_cert_reqs=CERT_NONE", ssl.CERT_NONE),
        ("rediss://h:6379/0?ssl_cert_reqs=anything", ssl.CERT_REQUIRED),
    ],
)
def test_tls(url: str, checked: ssl.VerifyMode) -> None:
    """Flower's own Redis client checks certificates as the URL says, and does so where it says
    nothing.
    """
    assert tls_options(parse_broker(url))["ssl_cert_reqs"] == checked


def test_no_accounts_file(stack: Stack, url: str) -> None:
    """Flower starts without an accounts file and without any credential in its environment."""
    flower = Flower(stack, POSTBACK_ACCOUNTS="/nonexistent/accounts.toml", POSTBACK_BROKER_URL=url)
    try:
        until(lambda: flower.get("/broker")[0] == 200, 60, "Flower")
    finally:
        assert flower.stop() == 0


#: Flower's routes that change something, as its own table has them.
WRITES = sorted(
    path.replace("(.+)", "tgtrack.add_event")
    for path, handler in (rule[:2] for rule in handlers if isinstance(rule, tuple))
    if hasattr(handler, "post") and handler.post is not RequestHandler.post and path.startswith("/api/")
)


@pytest.fixture(scope="module")
def read_only(stack: Stack, url: str) -> Iterator[Flower]:
    """A second Flower on the same Redis, with FLOWER_READ_ONLY."""
    flower = Flower(stack, POSTBACK_BROKER_URL=url, FLOWER_READ_ONLY="true")
    until(lambda: flower.get("/broker")[0] == 200, 60, "Flower")
    yield flower
    assert flower.stop() == 0


def test_the_routes_that_write() -> None:
    """Flower's table still has the routes that the documents warn of."""
    assert {"/api/worker/shutdown/tgtrack.add_event", "/api/task/revoke/tgtrack.add_event"} < set(WRITES)
    assert len(WRITES) >= 14


@pytest.mark.parametrize("path", WRITES)
def test_read_only_refuses(read_only: Flower, path: str) -> None:
    """With FLOWER_READ_ONLY every route that stops workers or sends, revokes or limits tasks is
    refused, with the password too.
    """
    status, text = read_only.post(path)
    assert (status, "ead only" in text) == (403, True)


def test_read_only_stops_no_worker(read_only: Flower, flower: Flower, stack: Stack) -> None:
    """The refused shutdown of a living worker did not reach it."""
    until(lambda: read_only.workers(), SOON_S, "workers")
    for name in read_only.workers():
        assert read_only.post(f"/api/worker/shutdown/{name}")[0] == 403
    result = tgtrack.AddEvent(user_id="5", event_type="after-the-shutdown", account="main").delay()
    until(lambda: flower.tasks().get(result.id, {}).get("state") == "SUCCESS", SOON_S, "an event after it")
    assert all(worker.alive for worker in stack.workers)


@pytest.mark.parametrize("path", ["/workers", "/broker", "/tasks", "/api/tasks", "/api/workers"])
def test_read_only_shows(read_only: Flower, path: str) -> None:
    """Pages can be read all the same."""
    assert read_only.get(path)[0] == 200


@pytest.mark.parametrize("path", WRITES)
def test_writes_need_the_password(flower: Flower, read_only: Flower, path: str) -> None:
    """Nobody without the password gets so far."""
    assert flower.post(path, "")[0] == 401
    assert read_only.post(path, "jane:wrong")[0] == 401


def test_without_read_only(flower: Flower) -> None:
    """Without FLOWER_READ_ONLY who has the password may act: a task is revoked, and an unknown
    worker is unknown, not refused.
    """
    assert flower.post("/api/task/revoke/no-such-event")[0] == 200
    assert flower.post("/api/worker/shutdown/no-such-worker")[0] == 404
