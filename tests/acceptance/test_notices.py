"""``POSTBACK_ON_DEAD`` with real workers: once for each dead letter, again after a crash, and never
in the way of delivery.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

import postback
from postback import tgtrack
from postback.wire import keys
from workers.devkit import ROOT, Process, Stack, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NEW, FAILED = keys.dead_notices("tgtrack"), keys.dead_notices_failed("tgtrack")
PERSON = "987654321"
#: An application: each call is a line of a file. Some letters hang or raise, and some hang in the
#: first process only.
SHOP = """
import json, os, time
FOLDER = os.path.dirname(__file__)
def say(word, letter):
    with open(os.path.join(FOLDER, "calls.txt"), "a") as file:
        file.write(json.dumps([word, os.getpid(), letter]) + "\\n")
def on_dead(letter):
    say("begun", letter)
    if letter["id"] == "raises":
        raise LookupError("no order of 987654321")
    if letter["id"] == "hangs":
        time.sleep(3600)
    if letter["id"] == "kills":
        first = os.path.join(FOLDER, "first")
        if not os.path.exists(first):
            open(first, "w").close()
            time.sleep(3600)
    say("done", letter)
"""


class Shop(Stack):
    """A stack whose workers can import an application."""

    def __init__(self, **sandbox: Any) -> None:
        super().__init__(limits={"tgtrack": None}, **sandbox)
        (self.folder / "hookshop.py").write_text(SHOP)
        self.account("tgtrack.main", limits="1000/second", backoff_s=0.05)

    def tell(self, hook: str = "hookshop:on_dead", count: int = 1) -> list[Process]:
        """Start workers with a hook."""
        return self.start_workers("tgtrack", count=count, POSTBACK_ON_DEAD=hook, PYTHONPATH=str(self.folder))

    def push(self, *ids: str) -> None:
        """Push notices, as a script does that buries messages."""
        for event_id in ids:
            self.client().lpush(NEW, letter(event_id))

    def calls(self, word: str = "done") -> list[str]:
        """Ids of the letters of which the application was told."""
        return [told["id"] for said, _, told in self.lines() if said == word]

    def lines(self) -> list[tuple[str, int, dict[str, Any]]]:
        path = self.folder / "calls.txt"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def left(self) -> int:
        return int(self.client().llen(NEW)) + int(self.client().llen(FAILED))


def letter(event_id: str) -> str:
    kwargs = {"account": "main", "event": {"user_id": PERSON, "event_type": "sale"}}
    words = {"reason": "rejected", "status": 422, "detail": "no", "attempts": 1, "possible_duplicate": False}
    return json.dumps(
        {
            "body": json.dumps([[], kwargs, {}]),
            "content-type": "application/json",
            "headers": {"postback_dead": words, "task": "tgtrack.add_event", "id": event_id},
            "properties": {"delivery_info": {"routing_key": "tgtrack.main"}},
        }
    )


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as shop:
        shop.configure_producer()
        yield shop


def test_a_refused_event_is_told_of(shop: Shop) -> None:
    """An event that the provider refuses for good is told of with its reason and whole event; a
    delivered one is not.
    """
    shop.tell()
    shop.sandbox.refuse("tgtrack", "user_id", "13", code=422)
    good = tgtrack.AddEvent(user_id="1", event_type="sale").delay()
    bad = tgtrack.AddEvent(user_id="13", event_type="sale").delay()
    until(lambda: shop.calls() and shop.left() == 0, 20, "the call")
    assert shop.calls() == [bad.id] != [good.id]
    told = shop.lines()[-1][2]
    assert (told["task"], told["account"], told["reason"], told["status"]) == (
        "tgtrack.add_event",
        "main",
        "rejected",
        422,
    )
    assert told["event"]["user_id"] == "13"


def test_once_each(shop: Shop) -> None:
    """With three workers each of 200 letters is told of exactly once, the oldest first."""
    ids = [f"id-{number:03}" for number in range(200)]
    shop.push(*ids[:100])
    shop.tell(count=3)
    shop.push(*ids[100:])
    until(lambda: shop.left() == 0, 60, "all of them")
    assert shop.calls() == ids


def test_a_worker_killed_in_the_middle(shop: Shop) -> None:
    """A letter whose worker is killed while the hook runs is told of again by another, and so is
    what stands behind it.
    """
    workers = {worker.process.pid: worker for worker in shop.tell(count=2)}
    shop.push("kills", "after")
    until(lambda: shop.calls("begun"), 20, "the first call")
    victim = shop.lines()[0][1]
    workers[victim].kill()
    until(lambda: shop.left() == 0, 40, "the second call")
    assert shop.calls("begun") == ["kills", "kills", "after"]
    assert shop.calls() == ["kills", "after"]
    assert victim not in [pid for said, pid, _ in shop.lines() if said == "done"]


def test_a_worker_alone_killed_in_the_middle(shop: Shop) -> None:
    """With no other worker there, the letter waits in Redis for the next one."""
    (worker,) = shop.tell()
    shop.push("kills")
    until(lambda: shop.calls("begun"), 20, "the first call")
    worker.kill()
    assert shop.left() == 1
    # The lock of the dead worker, made to end now.
    shop.client().delete(keys.dead_notices_lock("tgtrack"))
    shop.tell()
    until(lambda: shop.left() == 0, 40, "the second call")
    assert shop.calls() == ["kills"]


def test_connections_cut_in_the_middle(shop: Shop) -> None:
    """When Redis cuts every connection again and again, each letter is told of."""
    shop.tell(count=2)
    ids = [f"id-{number}" for number in range(300)]
    shop.push(*ids)
    for _ in range(5):
        before = len(shop.calls())
        until(lambda before=before: len(shop.calls()) > before or not shop.left(), 20, "some more")  # type: ignore[misc]
        shop.client().client_kill_filter(_type="normal", skipme=True)
    until(lambda: shop.left() == 0, 60, "all of them")
    assert set(shop.calls()) == set(ids)


def test_a_hook_that_hangs_delays_no_delivery(shop: Shop) -> None:
    """While the hook sleeps for ever, events are delivered as ever."""
    shop.tell(count=1)
    shop.push("hangs")
    until(lambda: shop.calls("begun"), 20, "the call")
    postback.send_many([tgtrack.AddEvent(user_id=str(number), event_type="sale") for number in range(200)])
    until(lambda: len(shop.sandbox.events("tgtrack")) == 200, 20, "their delivery")


def test_a_hook_that_hangs_and_shutdown(shop: Shop) -> None:
    """A worker whose hook sleeps for ever ends 15 s after SIGTERM at the latest, in order; the
    letter stays.
    """
    (worker,) = shop.tell()
    shop.push("hangs")
    until(lambda: shop.calls("begun"), 20, "the call")
    begun = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - begun < 15
    assert shop.left() == 1
    assert "POSTBACK_ON_DEAD is still running" in worker.text()


def test_an_idle_hook_and_shutdown(shop: Shop) -> None:
    """A worker that has nothing to tell ends at once."""
    (worker,) = shop.tell()
    begun = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - begun < 5


def test_a_hook_that_raises(shop: Shop) -> None:
    """A letter whose call raises holds up no other; the log has one WARNING of it, without the
    error's words.
    """
    (worker,) = shop.tell()
    shop.push("raises", "b", "c")
    until(lambda: shop.calls() == ["b", "c"], 20, "the others")
    until(lambda: shop.calls("begun").count("raises") >= 3, 20, "it is tried again")
    shop.push("d")
    until(lambda: shop.calls()[-1] == "d", 20, "a later one")
    lines = [line for line in worker.text().splitlines() if "POSTBACK_ON_DEAD" in line]
    assert len(lines) == 1
    assert "raised LookupError for the dead letter raises" in lines[0]
    assert " WARNING " in lines[0]
    assert PERSON not in worker.text()
    assert "Traceback" not in worker.text()


def test_a_full_redis() -> None:
    """A Redis that is full holds up no notice: the lock is taken, and a failed one is put behind
    the others.
    """
    with Shop() as shop:
        shop.push("raises", "b", "c")
        shop.client().set(keys.dead_notices_lock("tgtrack"), "another")
        shop.tell()
        shop.client().config_set("maxmemory", 1)
        shop.client().delete(keys.dead_notices_lock("tgtrack"))
        until(lambda: shop.calls() == ["b", "c"] and shop.left() == 1, 30, "the others")


def test_status_shows_the_backlog(shop: Shop) -> None:
    """`postback status` and its JSON say how many letters are still to be told of."""
    shop.tell()
    shop.push("hangs", "b", "c")
    until(lambda: shop.calls("begun"), 20, "the call")

    def status(*arguments: str) -> str:
        return shop.postback("status", *arguments).stdout

    assert json.loads(status("--json"))["dead_notices"]["tgtrack"] == 3
    assert "tgtrack.dead: POSTBACK_ON_DEAD has not been called yet for 3 dead letters" in status()


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ("nohookshop:on_dead", "cannot import nohookshop"),
        ("hookshop:on_daed", "hookshop:on_daed is not a function"),
        ("hookshop.on_dead", "must be a function such as"),
        ("celery:shop.tasks.on_dead", "must be a function such as"),
        ("celery:shop.tasks.on_dead@tgtrack.main", "names a queue of a provider's events"),
    ],
)
def test_a_wrong_setting(shop: Shop, hook: str, words: str) -> None:
    """A hook that cannot be called stops the start with status 2 and one sentence."""
    done = subprocess.run(
        [sys.executable, "-m", "workers", "tgtrack"], cwd=ROOT, timeout=60, capture_output=True, text=True,
        env=shop.env(POSTBACK_ON_DEAD=hook, PYTHONPATH=str(shop.folder)),
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("postback: POSTBACK_ON_DEAD")
    assert words in line


# A Celery task of the application


#: An application with a Celery app of its own.
CELERY_SHOP = """
import os
from celery import Celery
import hookshop
app = Celery("shop", broker=os.environ["SHOP_BROKER"])
@app.task(name="shop.tasks.on_dead")
def on_dead(letter):
    hookshop.say("done", letter)
"""


def test_a_celery_task(shop: Shop) -> None:
    """A task is called with the letter by the application's own worker, also for what died before
    that worker was there.
    """
    shop.tell("celery:shop.tasks.on_dead@shop-queue")
    shop.push("a", "b")
    until(lambda: shop.left() == 0, 20, "the tasks in Redis")
    (raw, _) = shop.client().lrange("shop-queue", 0, -1)
    message = json.loads(raw)
    assert (message["content-type"], message["headers"]["task"]) == ("application/json", "shop.tasks.on_dead")
    assert PERSON not in message["headers"]["argsrepr"]
    assert "celery-task-meta" not in "".join(shop.client().keys())
    (shop.folder / "shopcelery.py").write_text(CELERY_SHOP)
    celery = ("celery", "-A", "shopcelery", "worker", "-P", "solo", "-Q", "shop-queue", "-E")
    shop.launch("shop", "-m", *celery, SHOP_BROKER=shop.redis.url, PYTHONPATH=str(shop.folder))
    until(lambda: len(shop.calls()) == 2, 60, "the calls")
    assert shop.calls() == ["a", "b"]
    told = shop.lines()[0][2]
    assert (told["event"], told["reason"]) == ({"user_id": PERSON, "event_type": "sale"}, "rejected")


def test_a_celery_task_while_redis_restarts() -> None:
    """Tasks that cannot be published now are published when Redis is back."""
    with Shop(appendonly=True) as shop:
        shop.tell("celery:shop.tasks.on_dead@shop-queue")
        shop.redis.kill()
        shop.redis.start()
        shop.push("a")
        until(lambda: shop.client().llen("shop-queue") >= 1, 40, "the task")
        until(lambda: shop.left() == 0, 20)


# The Django example


def test_the_django_example(shop: Shop) -> None:
    """The shop's own hook, as the guide has it, writes into the shop's database."""
    example = shop.folder / "django_shop"
    shutil.copytree(
        ROOT / "examples" / "django_shop", example, ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3")
    )
    env = {"PYTHONPATH": str(example)}

    def manage(*arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=example, env=shop.env(**env), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    manage("migrate")
    shop.start_workers("tgtrack", POSTBACK_ON_DEAD="shop.events:on_dead", **env)
    shop.push("a", "b")
    until(lambda: shop.left() == 0, 30, "the calls")
    shown = "from shop.models import DeadEvent; print(sorted(DeadEvent.objects.values_list('event_id', 'reason')))"
    assert "[('a', 'rejected'), ('b', 'rejected')]" in manage("shell", "-c", shown)
