"""`max_queued`: what producers get when an account has as many events waiting as it may have."""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

import postback
from postback import NotEnqueued, PartlyEnqueued, QueueFull, tgtrack
from postback.wire import keys
from workers.devkit import RedisServer

MAIN = "tgtrack.main"


def sale(user: int = 987654321, account: str | None = None, **fields: Any) -> tgtrack.AddEvent:
    """An event."""
    return tgtrack.AddEvent(user_id=str(user), event_type="sale", account=account, **fields)


def queued(client: redis.Redis, queue: str = MAIN) -> int:
    """Messages in an account's lists."""
    return sum(client.llen(name) for name in keys.priority_lists(queue))


def announce(client: redis.Redis, **announcements: str) -> None:
    """Name accounts as their workers do."""
    for name, announcement in announcements.items():
        client.hset(keys.ACCOUNTS, f"tgtrack.{name}", announcement)


@pytest.fixture
def broker(
    redis_server: RedisServer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[redis.Redis]:
    """An empty Redis that this process sends to; its accounts are announced by each test."""
    for name in [name for name in os.environ if name.startswith(("POSTBACK_", "CELERY_"))]:
        monkeypatch.delenv(name)
    postback.configure(broker_url=redis_server.url)
    yield redis_client
    postback.configure()


def test_one_too_many(broker: redis.Redis) -> None:
    """The event above the cap raises QueueFull, is not in the queue, and the error carries account,
    cap and id.
    """
    announce(broker, main='{"max_queued": 3}')
    for _ in range(3):
        sale().delay()
    with pytest.raises(QueueFull) as caught:
        sale().apply_async(task_id="mine")
    error = caught.value
    assert isinstance(error, NotEnqueued)
    assert (error.provider, error.account, error.max_queued, error.ids, error.enqueued) == (
        "tgtrack",
        "main",
        3,
        ("mine",),
        0,
    )
    assert queued(broker) == 3


def test_the_sentence(broker: redis.Redis) -> None:
    """It names the account and the setting, says what to do, and names no person."""
    announce(broker, main='{"max_queued": 1}')
    sale().delay()
    with pytest.raises(QueueFull) as caught:
        sale().apply_async(task_id="mine")
    assert str(caught.value) == (
        "tgtrack.AddEvent mine is not in the queue: tgtrack.main has its max_queued of 1 events waiting; "
        "send again later, or raise max_queued in the accounts file"
    )


def test_it_survives_a_process_pool() -> None:
    """Pickled and read again it is the same error."""
    error = QueueFull("x is not in the queue", ["x"], provider="tgtrack", account="main", max_queued=5)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (QueueFull, str(error), vars(error))


@pytest.mark.parametrize("zset", [keys.delayed(MAIN), keys.held(MAIN)])
def test_what_waits_for_later_counts(broker: redis.Redis, zset: str) -> None:
    """Events that are delayed or held aside fill the account as well."""
    announce(broker, main='{"max_queued": 2}')
    broker.zadd(zset, {b"a": 1, b"b": 2})
    with pytest.raises(QueueFull):
        sale().delay()


@pytest.mark.parametrize("step", keys.PRIORITY_STEPS)
def test_every_priority_counts(broker: redis.Redis, step: int) -> None:
    """An event waits in one of four lists; all of them count."""
    announce(broker, main='{"max_queued": 1}')
    broker.lpush(keys.priority_list(MAIN, step), b"x")
    with pytest.raises(QueueFull):
        sale().delay()


def test_room_again(broker: redis.Redis) -> None:
    """Once an event has gone the next is taken, over the connection that was there."""
    announce(broker, main='{"max_queued": 1}')
    sale().delay()
    connections = broker.info("stats")["total_connections_received"]
    for _ in range(5):
        with pytest.raises(QueueFull):
            sale().delay()
    broker.delete(*keys.priority_lists(MAIN))
    sale().delay()
    assert queued(broker) == 1
    assert broker.info("stats")["total_connections_received"] == connections


def test_another_account_has_room(broker: redis.Redis) -> None:
    """One account's cap is no other's."""
    announce(broker, main='{"max_queued": 1}', shop='{"max_queued": 1}')
    sale(account="main").delay()
    sale(account="shop").delay()
    assert queued(broker, "tgtrack.shop") == 1


def test_async_callers_get_it(broker: redis.Redis) -> None:
    """`adelay` raises the same error."""
    announce(broker, main='{"max_queued": 1}')
    sale().delay()
    with pytest.raises(QueueFull):
        asyncio.run(sale().adelay())


def test_without_a_cap_redis_is_not_asked(broker: redis.Redis) -> None:
    """An account without a cap costs nothing but the push, and the look at the schedule."""
    announce(broker, main='{"max_queued": 0}', shop='{"max_queued": 1}')
    sale(account="main").delay()
    broker.config_resetstat()
    sale(account="main").delay()
    postback.send_many([sale(account="main")] * 3)
    commands = {name.removeprefix("cmdstat_") for name in broker.info("commandstats")}
    assert commands - {"info", "config", "config|resetstat"} == {"lpush", "zadd"}


# send_many


def test_many_as_far_as_there_is_room(broker: redis.Redis) -> None:
    """Of 1,500 events for an account with room for 700, the first 700 are in, the others certainly
    not.
    """
    announce(broker, main='{"max_queued": 700}')
    with pytest.raises(PartlyEnqueued, match="max_queued of 700") as caught:
        postback.send_many([sale(user) for user in range(1500)])
    error = caught.value
    assert (error.enqueued, len(error.rejected_ids), error.unknown_ids) == (700, 800, ())
    assert isinstance(error.__cause__, QueueFull)
    assert queued(broker) == 700


def test_many_into_a_full_account(broker: redis.Redis) -> None:
    """None of them is in, and the error is QueueFull with all ids."""
    announce(broker, main='{"max_queued": 1}')
    sale().delay()
    with pytest.raises(QueueFull) as caught:
        postback.send_many([sale(user) for user in range(600)])
    assert len(set(caught.value.ids)) == 600
    assert queued(broker) == 1


def test_many_stop_at_the_full_account(broker: redis.Redis) -> None:
    """The events before the first that has no room are in, in order; those behind it are not."""
    announce(broker, main="{}", full='{"max_queued": 1}')
    sale(account="full").delay()
    batch = [sale(1, "main"), sale(2, "main"), sale(3, "full"), sale(4, "main")]
    with pytest.raises(PartlyEnqueued) as caught:
        postback.send_many(batch)
    assert (caught.value.enqueued, len(caught.value.rejected_ids)) == (2, 2)
    assert queued(broker, "tgtrack.full") == 1


def test_many_that_fit(broker: redis.Redis) -> None:
    """A `send_many` that fills the account to the brim raises nothing."""
    announce(broker, main='{"max_queued": 600}')
    assert len(postback.send_many([sale(user) for user in range(600)])) == 600


def test_many_accounts_are_asked_at_once(broker: redis.Redis) -> None:
    """40 accounts with a cap cost one question a pipeline: Redis reads from the socket far less
    than 40 times.
    """
    announce(broker, **{f"a{number}": '{"max_queued": 9}' for number in range(40)})
    sale(account="a1").delay()
    before = broker.info("stats")["total_reads_processed"]
    postback.send_many([sale(number, f"a{number}") for number in range(40)])
    assert broker.info("stats")["total_reads_processed"] - before <= 12


# Where the cap is read


def test_the_cap_of_an_accounts_file(broker: redis.Redis, redis_server: RedisServer, tmp_path: Path) -> None:
    """A producer that has an accounts file takes the cap from it, whatever is announced."""
    file = tmp_path / "accounts.toml"
    file.write_text('[tgtrack.main]\napi_key = "k"\nmax_queued = 2\n')
    announce(broker, main='{"max_queued": 1}')
    postback.configure(broker_url=redis_server.url, accounts=str(file))
    sale().delay()
    sale().delay()
    with pytest.raises(QueueFull):
        sale().delay()


def test_names_in_code_have_no_cap(broker: redis.Redis, redis_server: RedisServer) -> None:
    """`configure(accounts={…})` gives names only."""
    announce(broker, main='{"max_queued": 1}')
    postback.configure(broker_url=redis_server.url, accounts={"tgtrack": ["main"]})
    sale().delay()
    sale().delay()
    assert queued(broker) == 2


def test_a_producer_that_may_not_count(broker: redis.Redis, redis_server: RedisServer) -> None:
    """Its Redis user lacks LLEN: the event is certainly not in the queue, and the error says so."""
    announce(broker, main='{"max_queued": 9}')
    broker.acl_setuser("shop", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-llen"])
    try:
        postback.configure(broker_url=redis_server.url.replace("//", "//shop:pw@"))
        with pytest.raises(NotEnqueued, match="is not in the queue") as caught:
            sale().delay()
        assert not isinstance(caught.value, QueueFull)
        assert queued(broker) == 0
    finally:
        broker.acl_deluser("shop")


def test_a_refusal_in_the_middle(broker: redis.Redis, redis_server: RedisServer) -> None:
    """Redis refuses the second of four events: one is in, two are not known, the last one is
    certainly not in.
    """
    broker.acl_setuser(
        "shop", enabled=True, passwords=["+pw"], keys=["tgtrack.main*", "postback.*"], commands=["+@all"]
    )
    try:
        postback.configure(broker_url=redis_server.url.replace("//", "//shop:pw@"))
        with pytest.raises(PartlyEnqueued, match="NoPermissionError") as caught:
            postback.send_many([sale(1, "main"), sale(2, "other"), sale(3, "main"), sale(4, "other")])
        error = caught.value
        assert (error.enqueued, len(error.unknown_ids), len(error.rejected_ids)) == (1, 2, 1)
        assert queued(broker) == 2
    finally:
        broker.acl_deluser("shop")


def test_producers_at_the_same_moment(broker: redis.Redis) -> None:
    """Eight threads that send one by one exceed the cap by seven at most: what they had asked
    before the last room was gone.
    """
    announce(broker, main='{"max_queued": 50}')

    def send_until_full(_: int) -> int:
        sent = 0
        while True:
            try:
                sale().delay()
            except QueueFull:
                return sent
            sent += 1

    with ThreadPoolExecutor(8) as threads:
        sent = sum(threads.map(send_until_full, range(8)))
    assert sent == queued(broker)
    assert 50 <= sent <= 57
