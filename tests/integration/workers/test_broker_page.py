"""The Broker page where accounts are too many for a row each (ADR 31), on Flower's own server and a
real Redis.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from celery import Celery
from flower.app import Flower
from flower.options import default_options
from flower.urls import settings as web_settings
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.testing import bind_unused_port

from config.topology import MOST_LISTED, together
from postback.wire import keys
from postback.wire.broker import parse_broker
from workers.broker_page import pages
from workers.devkit import RedisServer

MANY: Final = [f"tgtrack.a{number}" for number in range(MOST_LISTED + 1)]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


async def page(server: RedisServer, names: list[str], path: str = "/broker") -> str:
    """What Flower shows when its workers have named these queues."""
    app = Celery("flower-test", broker=server.url, set_as_current=False)
    flower: Any = Flower(capp=app, options=default_options, io_loop=IOLoop.current(), **web_settings)
    flower.add_handlers(".*", pages(parse_broker(server.url), ""))
    flower.inspector.workers["w"] = {"active_queues": [{"name": name} for name in names]}
    socket, port = bind_unused_port()
    http = HTTPServer(flower)
    http.add_sockets([socket])
    try:
        reply = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}{path}")
    finally:
        http.stop()
        flower.executor.shutdown(wait=False)
    return reply.body.decode()


def shown(server: RedisServer, names: list[str], path: str = "/broker") -> str:
    return IOLoop(make_current=False).run_sync(lambda: page(server, names, path))


def row(name: str, messages: int) -> str:
    return f'<td>{name}</td>\n<td class="broker-secondary-column">{messages}</td>'


def test_together() -> None:
    """One name for a provider's accounts, as soon as they are too many for a row each."""
    assert together(MANY[:-1]) == MANY[:-1]
    assert together([*MANY, "tonapi.main"]) == ["tgtrack.*", "tonapi.*"]


def test_totals(server: RedisServer) -> None:
    """What waits in all accounts of a provider, in lists of every priority, and the dead-letter
    lists as they are; the journal's stream is no queue.
    """
    client = server.client()
    client.flushall()
    for queue in MANY:
        client.lpush(keys.priority_list(queue, 3), "x", "y")
        client.zadd(keys.schedule("tgtrack"), {queue: 0})
    client.lpush("tgtrack.later", "x")
    client.zadd(keys.timers("tgtrack"), {"tgtrack.later": 1e15})
    client.lpush("tgtrack.dead", "x", "y", "z")
    client.xadd(keys.journal("tgtrack"), {"record": "{}"})
    found = shown(server, ["tgtrack.*", "tgtrack.dead", "tonapi.*"])
    assert row("tgtrack.*", 2 * len(MANY) + 1) in found
    assert row("tgtrack.dead", 3) in found
    assert row("tonapi.*", 0) in found
    assert keys.journal("tgtrack") not in found


def test_few_accounts(server: RedisServer) -> None:
    """Flower's own counts, and its own answer to programs."""
    client = server.client()
    client.flushall()
    client.lpush("tgtrack.main", "x")
    assert row("tgtrack.main", 1) in shown(server, ["tgtrack.main"])


def test_redis_refuses(server: RedisServer) -> None:
    """The page comes all the same, as Flower's does."""
    client = server.client()
    client.flushall()
    client.set(keys.schedule("tgtrack"), "no set")
    assert "No queue data is available" in shown(server, ["tgtrack.*"])
