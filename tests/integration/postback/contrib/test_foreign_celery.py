"""A project with a Celery app of its own: ours leaves it alone, and it may send our events itself.

Each test runs a process, because what is tested is what an import does to it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.integration.postback.contrib.queues import messages
from workers.devkit import RedisServer

ROOT = Path(__file__).parents[4]

#: Their configuration module, found by its usual name.
CONFIG = """
broker_url = "redis://127.0.0.1:{port}/1"
result_backend = "redis://127.0.0.1:{port}/2"
task_default_queue = "theirs"
task_serializer = "json"
task_routes = {{"*": {{"queue": "routed"}}}}
timezone = "Europe/Moscow"
"""
USE = """
import json
from celery import Celery, current_app
{before}
app = Celery("theirs")
app.config_from_object("celeryconfig")
@app.task(name="theirs.add")
def add(x, y): return x + y
conf = dict(app.conf.items())
{after}
import postback
from postback import tgtrack
event = tgtrack.AddEvent(user_id="1", event_type="sale")
event.delay(); event.si().apply_async(); postback.send_many([event])
assert current_app._get_current_object() is app, current_app
assert dict(app.conf.items()) == conf
assert sorted(name for name in app.tasks if not name.startswith("celery.")) == ["theirs.add"]
add.delay(1, 2)
{end}
"""


def run(script: str, folder: Path, port: int, **extra: str) -> str:
    """What a project's process prints."""
    (folder / "celeryconfig.py").write_text(CONFIG.format(port=port))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTBACK_", "CELERY_"))}
    env = {**kept, "PYTHONPATH": str(ROOT), "POSTBACK_BROKER_URL": f"redis://127.0.0.1:{port}/0", **extra}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("order", ["first", "last"])
def test_their_app_is_untouched(
    order: str, redis_client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Whichever is imported first: their current_app, configuration and tasks stay theirs, and both
    send to their own.
    """
    script = USE.format(before="import postback" if order == "first" else "", after="", end="")
    run(script, tmp_path, redis_server.port)
    assert len(messages(redis_client)) == 3
    theirs = redis_server.client(db=1)
    assert theirs.llen("routed") == 1
    assert theirs.llen("tgtrack.main") == 0
    assert redis_client.llen("routed") == 0


def test_their_environment_does_not_reach_ours(
    redis_client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    """CELERY_… variables and a configuration module are theirs alone."""
    script = "from postback import tgtrack\ntgtrack.AddEvent(user_id='1', event_type='sale').delay()"
    run(
        script,
        tmp_path,
        redis_server.port,
        CELERY_BROKER_URL="amqp://nowhere",
        CELERY_CONFIG_MODULE="celeryconfig",
        CELERY_RESULT_BACKEND="db+sqlite://",
    )
    assert len(messages(redis_client)) == 1


def test_no_current_app_is_left_behind(redis_server: RedisServer, tmp_path: Path) -> None:
    """Without an app of theirs, Celery's default stays what it is: ours never becomes the current
    one.
    """
    script = (
        "from celery import current_app\nfrom postback import tgtrack\n"
        "tgtrack.AddEvent(user_id='1', event_type='sale').delay()\nprint(current_app.main)"
    )
    assert run(script, tmp_path, redis_server.port).strip() == "default"


def test_they_send_our_event(redis_client: redis.Redis, redis_server: RedisServer, tmp_path: Path) -> None:
    """``send_task`` with the queue's name is all it takes; their routes do not get in the way of a
    queue that is named.
    """
    wire = {"user_id": "1", "event_type": "sale"}
    script = f"""
from celery import Celery
app = Celery("theirs", broker="redis://127.0.0.1:{redis_server.port}/0")
app.conf.task_routes = {{"*": {{"queue": "routed"}}}}
kwargs = {{"account": "main", "event": {json.dumps(wire)}}}
print(app.send_task("tgtrack.add_event", kwargs=kwargs, queue="tgtrack.main").id)
"""
    sent = run(script, tmp_path, redis_server.port).strip()
    (message,) = messages(redis_client)
    assert (message.id, message.headers["task"]) == (sent, "tgtrack.add_event")
    assert message.kwargs == {"account": "main", "event": wire}
    assert redis_client.llen("routed") == 0


def test_our_event_as_a_link_of_their_task(
    redis_client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    """``link=event.si()`` travels with their message, addressed to our queue."""
    script = USE.format(before="", after="", end="add.apply_async((1, 2), link=event.si())")
    run(script, tmp_path, redis_server.port)
    (message, *_) = reversed(messages(redis_server.client(db=1), "routed"))
    (callback,) = message.options["callbacks"]
    assert (callback["task"], callback["options"]["queue"]) == ("tgtrack.add_event", "tgtrack.main")
