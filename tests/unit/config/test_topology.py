from __future__ import annotations

import pytest
from celery import Celery

from config import topology
from config.accounts import build_account


@pytest.mark.parametrize("name", ["celery.backend_cleanup", "shop.tasks.paid", "tgtrack", "", "tgtrackx.add_event"])
def test_foreign_task(name: str) -> None:
    """A task that is not ours keeps Celery's own route."""
    if name == "tgtrack":
        assert topology.provider_of(name) == "tgtrack"
    else:
        assert topology.provider_of(name) is None
        assert topology.route(name, (), {"account": "main"}, {}) is None


@pytest.mark.parametrize(
    ("kwargs", "queue"),
    [
        ({"account": "shop"}, "tgtrack.shop"),
        ({}, "tgtrack.main"),
        (None, "tgtrack.main"),
        ({"account": None}, "tgtrack.main"),
    ],
)
def test_route(kwargs: dict[str, object] | None, queue: str) -> None:
    """An event goes to its account's queue, to ``main`` without one."""
    routed = topology.route("tgtrack.add_event", (), kwargs, {})
    assert routed is not None
    assert routed["queue"].name == queue


def test_queues_need_no_binding() -> None:
    """Queues hang on the nameless exchange: a message sent to one leaves nothing in the broker but
    itself.
    """
    app = Celery(broker="memory://")
    app.conf.task_routes = (topology.route,)
    with app.connection() as connection, connection.channel() as channel:
        channel.state.bindings.clear()
        app.send_task("tgtrack.add_event", kwargs={"account": "shop", "event": {}}, connection=connection)
        assert channel.queues["tgtrack.shop"].qsize() == 1
        assert not list(channel.state.bindings)


def test_dead_letters_are_never_consumed() -> None:
    """No queue that a worker is told to consume is a dead-letter list."""
    accounts = [build_account("tonapi", name, {}) for name in ("main", "b")]
    queues = topology.account_queues(accounts)
    assert [queue.name for queue in queues] == ["tonapi.main", "tonapi.b"]
    assert {queue.routing_key for queue in queues} == {"tonapi.main", "tonapi.b"}
    assert not {queue.name for queue in queues} & set(topology.dead_letter_names())


def test_names() -> None:
    """A dead-letter list is named after its provider."""
    assert topology.dead_letter_name("tonai") == "tonai.dead"
    assert topology.dead_letter_names(["tonai", "tonapi"]) == ("tonai.dead", "tonapi.dead")
