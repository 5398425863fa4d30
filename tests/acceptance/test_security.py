"""The users of ``docs/guides/security.md``: the guide's own lines, given to a real server.

Each user can do its work, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest
import redis
from celery import Celery
from celery.exceptions import TimeoutError as CeleryTimeoutError

import postback
from config.providers import PROVIDERS
from postback import mytracker, tgtrack, tonai, tonapi
from postback.journal.records import FIELD, Record, read_record
from postback.wire import keys
from tests.acceptance.flower import Flower
from workers.devkit import ROOT, Process, RedisServer, Stack, fetch, free_port, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

GUIDE: Final = (ROOT / "docs" / "guides" / "security.md").read_text(encoding="utf-8")
#: The guide's blocks, each with its lines.
BLOCKS: Final = [
    block.strip().splitlines() for block in re.findall(r"```\n(.*?)```", GUIDE, re.DOTALL) if "ACL SETUSER" in block
]
MAIN, SHOP = "tgtrack.main", "tgtrack.shop"
EVENT_ID = "ab" * 32


def user_of(line: str) -> str:
    return line.split()[2]


def lines_of(user: str) -> list[str]:
    """The lines that make a user."""
    return next(block for block in BLOCKS if user_of(block[0]) == user and " reset " in block[0])


def more_for(user: str) -> list[str]:
    """Lines that give a user more than it needs at first."""
    return [line for block in BLOCKS if " reset " not in block[0] for line in block if user_of(line) == user]


def give(port: int, lines: list[str]) -> None:
    """Give the server the lines as somebody types them: it reads quotes and escapes as redis-cli
    does.
    """
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        for line in lines:
            connection.sendall(line.encode() + b"\r\n")
            assert connection.recv(1000) == b"+OK\r\n", line


class Guarded(Stack):
    """A stack with the guide's users. Its own clients are the default user, who may do all."""

    def url(self, user: str) -> str:
        return self.redis.url.replace("redis://", f"redis://{user}:CHANGE-ME-{user}@")

    def as_user(self, user: str) -> redis.Redis:
        return redis.Redis.from_url(self.url(user), decode_responses=True)

    def refused(self) -> list[str]:
        """What was refused to whom, so far."""
        entries: Any = self.client().execute_command("ACL", "LOG")
        return [f"{entry['username']} {entry['reason']} {entry['object']}" for entry in entries]

    def command(self, user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``postback …`` as a process."""
        return self.postback(*arguments, POSTBACK_BROKER_URL=self.url(user))

    def start(self, provider: str, **extra: str) -> Process:
        (worker,) = self.start_workers(provider, POSTBACK_BROKER_URL=self.url(f"worker-{provider}"), **extra)
        return worker

    def produce(self, user: str) -> None:
        """Make this process a producer that asks Redis which accounts there are."""
        postback.configure(broker_url=self.url(user))


@pytest.fixture(scope="module")
def stack() -> Iterator[Guarded]:
    """All users, and a worker of each of four providers."""
    with Guarded(limits=dict.fromkeys(PROVIDERS)) as stack:
        stack.account(MAIN, limits="1000/second", backoff_s=0.05, max_attempts=4, outage_after=100)
        stack.account(SHOP, limits="1000/second", api_key="tgtrack-Secret-shop")
        stack.account("mytracker.game", linger_s=0.1)
        stack.account("tonai.main", environment="staging")
        stack.account("tonapi.main", limits="1000/second", poll_s=0.05)
        lines = [line for block in BLOCKS if " reset " in block[0] for line in block]
        for provider in ("mytracker", "tonai", "tonapi"):
            lines += [line.replace("tgtrack", provider) for line in lines_of("worker-tgtrack")]
        give(stack.redis.port, lines + more_for("worker-tonapi") + more_for("worker-tgtrack"))
        for provider in ("tgtrack", "mytracker", "tonai", "tonapi"):
            stack.start(provider)
        stack.client().acl_log_reset()
        yield stack


@pytest.fixture
def clean(stack: Guarded) -> Iterator[Guarded]:
    """The same with nothing recorded; nothing may be refused to anybody in the test."""
    stack.sandbox.reset()
    stack.sandbox.clear_refusals()
    stack.client().delete(keys.dead("tgtrack"), keys.journal("tgtrack"))
    stack.client().acl_log_reset()
    yield stack
    assert stack.refused() == []
    postback.configure()


def sale(user_id: str = "1", account: str = "main") -> tgtrack.AddEvent:
    return tgtrack.AddEvent(user_id=user_id, event_type="sale", account=account)


# Producers


def records(stack: Guarded, user: str) -> list[Record]:
    """The journal's records of TGTrack, as a user reads them."""
    entries: Any = stack.as_user(user).xrange(keys.journal("tgtrack"))
    return [read_record(fields[FIELD]) for _, fields in entries]


def delivered(stack: Stack, count: int, provider: str = "tgtrack") -> None:
    until(lambda: len(stack.sandbox.events(provider)) == count, 30, f"{count} events of {provider}")


def test_a_producer_sends(clean: Guarded) -> None:
    """One event and many, now and later, with every priority, from async code: they are
    delivered.
    """
    clean.produce("shop")
    sale().delay()
    postback.send_many([sale(str(number)) for number in range(600)])
    sale().apply_async(countdown=0.5)
    for priority in (0, 3, 6, 9):
        sale().apply_async(priority=priority, idempotency_key=f"order-{priority}")
    asyncio.run(sale().adelay())
    delivered(clean, 607)


def test_a_producer_learns_the_accounts(clean: Guarded) -> None:
    """An account that does not exist is refused by name, as without users."""
    clean.produce("shop")
    with pytest.raises(postback.UnknownAccount, match="shop"):
        sale(account="nobody").delay()


def test_a_producer_that_counts(clean: Guarded) -> None:
    """With the lines for ``max_queued`` a producer reads the lengths of its own account, and writes
    no more than before.
    """
    name = "shop-counts"
    lines = [line.replace("shop", name) for line in lines_of("shop") + more_for("shop")]
    give(clean.redis.port, lines)
    client = clean.as_user(name)
    for queue in keys.priority_lists(MAIN):
        assert client.llen(queue) == 0
    assert client.zcard(keys.delayed(MAIN)) == client.zcard(keys.held(MAIN)) == 0
    for arguments in (("LPUSH", keys.delayed(MAIN), "x"), ("LLEN", SHOP), ("ZCARD", keys.delayed(SHOP))):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*arguments)
    clean.client().acl_log_reset()


def test_the_outbox_s_relay(clean: Guarded) -> None:
    """The Django example's relay moves events from the database as the producer's user."""
    site = clean.folder / "django_shop"
    shutil.copytree(ROOT / "examples" / "django_shop", site, ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3"))

    def manage(*arguments: str) -> None:
        env = clean.env(POSTBACK_BROKER_URL=clean.url("shop"), PYTHONPATH=str(ROOT))
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=site, env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr

    manage("migrate")
    write = "from postback import tgtrack; tgtrack.AddEvent(user_id='1', event_type='sale').delay_via_outbox()"
    manage("shell", "-c", f"from django.db import transaction\nwith transaction.atomic():\n    {write}")
    manage("postback_relay", "--once")
    delivered(clean, 1)


def test_results(clean: Guarded) -> None:
    """A caller waits for a look-up's result."""
    clean.produce("shop-results")
    clean.sandbox.set_user("1", first_name="Ivan")
    assert tgtrack.GetUserInfo(user_id="1", account="main").delay().get(timeout=20)["first_name"] == "Ivan"


def test_results_after_a_cut(clean: Guarded) -> None:
    """A caller whose connections are cut while it waits gets its result all the same."""
    clean.produce("shop-results")
    clean.command("operator", "pause", MAIN)
    result = tgtrack.GetUserInfo(user_id="1", account="main").delay()
    with pytest.raises(CeleryTimeoutError):
        result.get(timeout=0.2)
    clean.redis.cut_connections()
    clean.command("operator", "resume", MAIN)
    assert result.get(timeout=30)["user_id"] == "1"


# Workers


def test_batches(clean: Guarded) -> None:
    """A worker delivers batches."""
    postback.configure(broker_url=clean.redis.url)
    postback.send_many([mytracker.Login(custom_user_id=f"player-{number}") for number in range(100)])
    delivered(clean, 100, "mytracker")


def test_the_journal(clean: Guarded) -> None:
    """A worker writes what it did; the journal's user reads that, removes it and says when."""
    postback.configure(broker_url=clean.redis.url)
    sent = sale().apply_async(idempotency_key="order-17")
    until(lambda: len(records(clean, "journal")) == 1, 20, "the record")
    (entry,) = records(clean, "journal")[0].entries
    assert (entry.id, entry.key, entry.end) == (sent.id, "order-17", "delivered")
    client = clean.as_user("journal")
    assert client.xtrim(keys.journal("tgtrack"), maxlen=0, approximate=False) == 1
    client.hset(keys.JOURNAL, mapping={"id": "test", "at": 1})
    assert client.hgetall(keys.journal_gap("tgtrack")) == {}
    assert "nobody has written the journal" in " ".join(clean.command("metrics", "status", "--check").stdout.split())
    clean.client().delete(keys.JOURNAL)


def test_links(clean: Guarded) -> None:
    """A link to another provider is followed by the user that may write there, with the priority it
    has.
    """
    postback.configure(broker_url=clean.redis.url)
    tonapi.GetEvent(event_id=EVENT_ID).apply_async(link=tonai.Conversion(telegram_user_id="17").si())
    delivered(clean, 1, "tonai")


def test_a_link_with_a_result(clean: Guarded) -> None:
    """A link to a look-up of the worker's own provider is followed, and its result is stored."""
    postback.configure(broker_url=clean.redis.url)
    before = len(clean.client().keys("celery-task-meta-*"))
    sale().apply_async(link=tgtrack.GetUserInfo(user_id="1", account="main").si())
    until(lambda: len(clean.client().keys("celery-task-meta-*")) == before + 1, 30, "the result")


def test_failures_and_dead_letters(clean: Guarded) -> None:
    """Back-off, refusals and what a worker does when its connections are cut need no more."""
    postback.configure(broker_url=clean.redis.url)
    clean.sandbox.refuse("tgtrack", "user_id", "13", code=422)
    clean.sandbox.fault("status", provider="tgtrack", status=503, count=3)
    postback.send_many([sale(str(number)) for number in range(10, 20)])
    until(lambda: clean.client().llen("tgtrack.dead") == 1 and clean.waiting(MAIN) == 0, 30, "their ends")
    clean.redis.cut_connections()
    sale().delay()
    delivered(clean, 10)


def test_a_hook_s_queue(clean: Guarded) -> None:
    """A worker with a hook publishes the task into the list that its user may write."""
    worker = clean.start("tgtrack", POSTBACK_ON_DEAD="celery:shop.tasks.on_dead@shop-queue")
    clean.client().lpush(keys.dead_notices("tgtrack"), "{}")
    until(lambda: clean.client().llen("shop-queue") == 1, 20, "the task")
    assert worker.stop() == 0


def test_a_worker_starts_and_stops(clean: Guarded) -> None:
    """From its start to its end nothing is refused to a worker, and nothing that looks like it is
    in its log.
    """
    worker = clean.start("tgtrack")
    assert worker.stop() == 0
    assert "NOPERM" not in clean.logs()
    assert "Traceback" not in clean.logs()


def test_deaf_workers(clean: Guarded) -> None:
    """With ``POSTBACK_REMOTE_CONTROL=0`` a worker hears no command and needs no channel of
    commands; it delivers.
    """
    for worker in [worker for worker in clean.workers if worker.name == "tonai" and worker.alive]:
        assert worker.stop() == 0
    give(
        clean.redis.port,
        ["ACL SETUSER worker-tonai resetchannels &/0.celeryev/* &celery-task-meta-* &postback.wake.tonai"],
    )
    deaf = clean.start("tonai", POSTBACK_REMOTE_CONTROL="0")
    control = Celery("remote", broker=clean.redis.url, set_as_current=False).control
    assert not control.broadcast("shutdown", reply=True, timeout=2, pattern="tonai-*", matcher="glob")
    postback.configure(broker_url=clean.redis.url)
    tonai.Conversion(telegram_user_id="99").delay()
    delivered(clean, 1, "tonai")
    assert deaf.alive
    assert deaf.stop() == 0
    give(clean.redis.port, ["ACL SETUSER worker-tonai &/0.celery.pidbox"])
    clean.start("tonai")


# Operators, metrics, Flower


def test_every_command(clean: Guarded) -> None:
    """An operator's user does what each command does."""
    postback.configure(broker_url=clean.redis.url)
    clean.sandbox.refuse("tgtrack", "user_id", "13", code=422)
    postback.send_many([sale("13"), sale("13"), sale("13")])
    until(lambda: clean.client().llen("tgtrack.dead") == 3, 20, "dead letters")
    letter = json.loads(clean.client().lrange("tgtrack.dead", 0, 0)[0])["headers"]["id"]
    clean.client().lpush(keys.dead_notices("tgtrack"), clean.client().lrange("tgtrack.dead", 0, 0)[0])
    commands = [
        "status", "status --json", "find --live --user 13", "dead list tgtrack", "dead list tgtrack --json",
        "dead replay tgtrack --dry-run",
        "pause tgtrack.main", f"dead replay tgtrack --id {letter}", "dead drop tgtrack --limit 1 --yes",
        """send tgtrack.add_event {"user_id":"77","event_type":"x"}""", "erase --user 77 --yes", "erase --user 13 --yes",
        "resume tgtrack.main", "resume tgtrack",
    ]  # fmt: skip
    for words in commands:
        done = clean.command("operator", *words.split())
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert "noeviction" in clean.command("operator", "check").stdout
    assert clean.client().llen("tgtrack.dead") == 0
    assert clean.waiting(MAIN) == 0
    actions = [record.action.action for record in records(clean, "operator") if record.action]
    assert actions == ["pause", "replay", "drop", "erase", "erase", "resume"]


def test_metrics(clean: Guarded) -> None:
    """The exporter, `status` and `dead list` work as a user that changes nothing."""
    port = free_port()
    env = {"POSTBACK_BROKER_URL": clean.url("metrics"), "POSTBACK_EXPORTER_PORT": str(port)}
    exporter = clean.launch("exporter", "-m", "workers.metrics", **env)
    shown = 'postback_events{account="main",provider="tgtrack",state="queued"}'
    until(lambda: shown in fetch(f"http://127.0.0.1:{port}/metrics")[1], 20, "the metrics")
    assert exporter.stop() == 0
    for words in ("status", "status --json", "status --check", "dead list tgtrack"):
        assert clean.command("metrics", *words.split()).returncode == 0


def test_flower(clean: Guarded) -> None:
    """Every page of Flower works, with queues, depths, workers and tasks."""
    flower = Flower(clean, POSTBACK_BROKER_URL=clean.url("flower"))
    try:
        until(lambda: flower.get("/broker")[0] == 200, 60, "Flower")
        clean.produce("shop")
        clean.client().lpush("tgtrack.dead", "{}")
        until(lambda: flower.depths().get("tgtrack.dead") == 1 and MAIN in flower.depths(), 40, "the depths")
        until(lambda: len(flower.workers()) >= 4, 40, "the workers")
        event = sale().delay()
        until(lambda: flower.tasks().get(event.id, {}).get("state") == "SUCCESS", 40, "the task")
        paths = [
            "/workers",
            "/broker",
            "/tasks",
            "/metrics",
            "/api/workers?refresh=1",
            "/api/queues/length",
            f"/task/{event.id}",
        ]
        paths += [f"/worker/{name}" for name in flower.workers()]
        assert {path: flower.get(path)[0] for path in paths} == dict.fromkeys(paths, 200)
    finally:
        assert flower.stop() == 0
    assert "NOPERM" not in flower.process.text()


# What a user cannot do


#: Nobody but the default user may do this.
ADMIN: Final = [
    "FLUSHALL", "CONFIG GET *", "CONFIG SET maxmemory 1", "SHUTDOWN NOSAVE", "KEYS *", "ACL LIST", "ACL WHOAMI", "CLIENT LIST",
    "CLIENT KILL TYPE normal", "MONITOR", "SAVE", "REPLICAOF NO ONE", "FUNCTION LIST", "SCRIPT FLUSH",
    "SLOWLOG GET", "SWAPDB 0 1", "MIGRATE h 1 k 0 1", "RENAME tgtrack.main x", "DUMP tgtrack.main",
]  # fmt: skip
FORBIDDEN: Final[dict[str, list[str]]] = {
    "shop": [
        "LRANGE tgtrack.main 0 -1", "RPOP tgtrack.main", "RPUSH tgtrack.main x", "LLEN tgtrack.main", "DEL tgtrack.main",
        "LPUSH tgtrack.shop x", "LPUSH tgtrack.main2 x", "LPUSH tgtrack.mainxx3 x", "LPUSH tgtrack.dead x", "LPUSH tgtrack.main.groups x",
        "LPUSH mytracker.game x", "LPUSH postback.accounts x", "HGET postback.accounts tgtrack.main", "HKEYS postback.workers",
        "GET postback.fingerprints",
        "HSET postback.accounts tgtrack.main x", "HKEYS tgtrack.main.meta", "HSET tgtrack.main.meta paused -1", "EVALSHA x 0",
        "SCRIPT LOAD return", "PUBLISH /0.celery.pidbox x", "SUBSCRIBE celery-task-meta-x", "PSUBSCRIBE *", "GET celery-task-meta-x",
        "SCAN 0", "TYPE tgtrack.main", "INFO", "TIME", "LPUSH x.reply.celery.pidbox x", "LPUSH _kombu.binding.celery x",
        "XADD postback.journal.tgtrack * record x", "XRANGE postback.journal.tgtrack - +",
    ],
    "shop-results": [
        "SET celery-task-meta-x 1", "DEL celery-task-meta-x", "LPUSH celery-task-meta-x x", "PUBLISH celery-task-meta-x 1",
        "SUBSCRIBE /0.celeryev/task.multi", "PSUBSCRIBE celery-task-meta-*", "PSUBSCRIBE *", "SUBSCRIBE /0.celery.pidbox", "GET tgtrack.main.ring",
        "LRANGE tgtrack.main 0 -1", "LPUSH tgtrack.shop x", "PUBLISH /0.celery.pidbox x", "SCAN 0",
    ],
    "worker-tgtrack": [
        "LPUSH mytracker.game x", "LRANGE mytracker.dead 0 -1", "HSET mytracker.game.meta paused -1", "LPUSH tonai.main x", "GET shop:cart",
        "SET shop:cart x", "SCAN 0", "PSUBSCRIBE *", "SUBSCRIBE news", "LPUSH celery x", "HSCAN tgtrack.main.meta 0",
        "XADD postback.journal.mytracker * record x", "XRANGE postback.journal.tonai - +", "HSET postback.journal id x",
        "XADD postback.journal.tgtrack2 * record x",
    ],
    "operator": [
        "PUBLISH /0.celery.pidbox x", "PSUBSCRIBE /0.celeryev/*", "SET shop:cart x", "GET shop:cart", "LRANGE shop-queue 0 -1",
        "XTRIM postback.journal.tgtrack MAXLEN 0", "XDEL postback.journal.tgtrack 1-1", "XADD shop:log * record x",
    ],
    "metrics": [
        "LPUSH tgtrack.main x", "LREM tgtrack.dead 0 x", "DEL tgtrack.dead", "HSET tgtrack.main.meta paused -1", "RPOP tgtrack.main",
        "ZREM tgtrack.main.delayed x", "HDEL postback.accounts tgtrack.main", "PUBLISH /0.celery.pidbox x", "GET celery-task-meta-x",
        "XADD postback.journal.tgtrack * record x", "XTRIM postback.journal.tgtrack MAXLEN 0", "HDEL postback.journal.tgtrack.gap lost",
    ],
    "journal": [
        "LRANGE tgtrack.main 0 -1", "LLEN tgtrack.main", "LRANGE tgtrack.dead 0 -1", "HGETALL tgtrack.main.meta", "HGETALL postback.accounts",
        "GET postback.fingerprints", "GET celery-task-meta-x", "SET shop:cart x", "DEL postback.accounts", "XADD postback.journal.tgtrack * record x",
        "PUBLISH /0.celery.pidbox x", "SUBSCRIBE celery-task-meta-x", "SCAN 0",
    ],
    "flower": [
        "LRANGE tgtrack.main 0 -1", "LINDEX tgtrack.dead 0", "RPOP tgtrack.main", "BRPOP tgtrack.main 1", "LPUSH tgtrack.main x", "DEL tgtrack.main",
        "DEL tgtrack.dead", "SET tgtrack.main x", "ZADD tgtrack.main.delayed 1 x", "ZREM tgtrack.main.delayed x", "HSET tgtrack.main.meta paused -1",
        "HGETALL tgtrack.main.meta", "HGETALL postback.workers", "GET celery-task-meta-x", "SUBSCRIBE celery-task-meta-x", "SCAN 0", "INFO",
        "SADD postback.accounts x", "DEL postback.accounts", "ZADD postback.revoked 1 x",
        "XRANGE postback.journal.tgtrack - +", "HGETALL postback.journal",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("user", "command"),
    [(user, command) for user, commands in FORBIDDEN.items() for command in [*commands, *ADMIN]]
    # A worker's writes go as scripts, which have its rights and no others.
    + [(user, "EVAL return 0") for user in FORBIDDEN if user != "worker-tgtrack"],
)
def test_what_a_user_cannot_do(stack: Guarded, user: str, command: str) -> None:
    """Redis refuses the command to this user."""
    client = stack.as_user(user)
    words = [word.replace("return", "return 1") for word in command.split()]
    words = [*words[:1], "return 1", "0"] if words[0] == "EVAL" else words
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*words)
    client.close()


def test_a_script_has_the_users_rights(stack: Guarded) -> None:
    """A metrics user that loads a script of its own can change nothing with it, and Flower can read
    no event with one.
    """
    for user, body in (
        ("metrics", "return redis.call('DEL', 'tgtrack.dead')"),
        ("flower", "return redis.call('LRANGE', 'tgtrack.dead', 0, -1)"),
        ("flower", "return redis.call('DEL', 'tgtrack.dead')"),
        ("worker-tgtrack", "return redis.call('LRANGE', 'mytracker.dead', 0, -1)"),
        ("journal", "return redis.call('LRANGE', 'tgtrack.dead', 0, -1)"),
        ("operator", "return redis.call('SET', 'shop:cart', 1)"),
    ):
        client = stack.as_user(user)
        sha: Any = client.script_load(body)
        with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)acl|permission|NOPERM"):
            client.evalsha(sha, 0)
        client.close()


@pytest.mark.parametrize("queue", ["bank", "celery"])
def test_a_link_to_a_list_of_another(stack: Guarded, queue: str) -> None:
    """A producer's link cannot make a worker write where the worker's user may not, wherever
    settings allow links to.
    """
    stack.produce("shop")
    stack.client().delete("tgtrack.dead")
    link = Celery("evil", broker=stack.redis.url, set_as_current=False).signature("x.y", queue=queue, immutable=True)
    sale().apply_async(link=link)
    until(lambda: stack.client().llen("tgtrack.dead") and not stack.waiting(MAIN), 60, "its end")
    assert not stack.client().exists(queue)


def test_the_guide_says_what_remote_control_can_do(stack: Guarded) -> None:
    """As the guide says, Flower's user can stop a worker; a producer's cannot."""
    worker = stack.start("mytracker")
    name = re.search(r"mytracker-\d+@\S+", worker.text())
    assert name
    with pytest.raises(Exception, match=r"(?i)permission"):
        Celery("shop", broker=stack.url("shop"), set_as_current=False).control.shutdown(destination=[name[0]])
    assert worker.alive
    Celery("flower", broker=stack.url("flower"), set_as_current=False).control.shutdown(destination=[name[0]])
    assert worker.process.wait(30) == 0


# The guide and the code


#: Folders with scripts.
SCRIPTS: Final = sorted(
    folder.parent.relative_to(ROOT).as_posix()
    for room in ("postback", "workers")
    for folder in (ROOT / room).rglob("lua")
)
#: Folder -> the users that run its scripts.
RUN_BY: Final = {
    "postback/operations": ["operator"],
    "postback/wire": ["operator", "worker-tgtrack"],
    "workers/governor": ["worker-tgtrack"],
    "workers/journal": ["journal"],
    "workers/upkeep": ["worker-tgtrack"],
}


def lua_commands(folder: str) -> set[str]:
    """Commands in the scripts of a folder."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / folder / "lua").rglob("*.lua")))
    return {command.lower() for command in re.findall(r"redis\.p?call\(\s*'([A-Z]+)'", text)}


@pytest.mark.parametrize(("folder", "user"), [(folder, user) for folder in SCRIPTS for user in RUN_BY[folder]])
def test_in_step_with_the_scripts(folder: str, user: str) -> None:
    """Every command in a script is in the guide's lines of the user that runs it."""
    allowed = set(re.findall(r"\+(\w+)", " ".join(lines_of(user))))
    commands = lua_commands(folder)
    assert commands
    assert commands - allowed == set()


def test_no_category() -> None:
    """Commands are named one by one: a category grows with each version of Redis."""
    assert "@" not in "".join(line for block in BLOCKS for line in block)


def test_no_user_of_the_guide_is_open() -> None:
    """Each user begins with nothing, and none may touch all keys or all channels."""
    with RedisServer() as server:
        give(server.port, [line for block in BLOCKS if " reset " in block[0] for line in block])
        users = {line.split()[1]: line.split()[2:] for line in server.client().acl_list()}
        for user in FORBIDDEN:
            assert "on" in users[user]
            assert not {"~*", "allkeys", "&*", "allchannels", "nopass", "+@all"} & set(users[user]), user
