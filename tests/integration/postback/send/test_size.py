"""A message that a worker would bury for its size is refused at the call that makes it, and nothing
is sent.
"""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

import postback
from postback import MessageTooLarge, tgtrack
from postback._events.payload import MAX_MESSAGE_BYTES
from postback.testing import collect
from postback.wire import keys
from workers.devkit import RedisServer

EVENT = tgtrack.AddEvent(user_id="987654321", event_type="sale")
#: Of a Telegram update's letters each becomes three bytes of JSON, and the body travels in base64.
LONG_UPDATE = tgtrack.OnTelegramWebhook.load('{"update_id":1,"text":"' + "ж" * 127_000 + '"}')
SECRET = "secret-and-longer-than-any-name"
BIG = SECRET * 20_000


def linked(length: int) -> Any:
    return EVENT.si(headers={"x": BIG[:length]})


#: Each alone makes the message too large; made in the test, since a signature asks for its
#: account's name.
OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "headers": lambda: {"headers": {"x": BIG}},
    "a header's name": lambda: {"headers": {BIG: 1}},
    "shadow": lambda: {"shadow": BIG},
    "reply_to": lambda: {"reply_to": BIG},
    "root_id": lambda: {"root_id": BIG},
    "group_id": lambda: {"group_id": BIG},
    "link": lambda: {"link": linked(395_000)},
    "links": lambda: {"link": [linked(200_000)] * 2},
    "link_error": lambda: {"link_error": [linked(350_000)] * 2},
    "chain": lambda: {"chain": [linked(350_000)] * 2},
}


@pytest.fixture
def broker(redis_server: RedisServer, redis_client: redis.Redis) -> Iterator[redis.Redis]:
    postback.configure(broker_url=redis_server.url, accounts={"tgtrack": ["main"], "tonai": ["main"]})
    yield redis_client
    postback.configure()


def on_commit(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Django's hooks, collected."""
    hooks: list[Callable[[], None]] = []
    transaction = types.SimpleNamespace(on_commit=lambda hook, using=None: hooks.append(hook))
    monkeypatch.setitem(sys.modules, "django.db.transaction", transaction)
    return hooks


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    "send",
    [
        lambda event, options: event.apply_async(**options),
        lambda event, options: event.si(**options),
        lambda event, options: asyncio.run(event.adelay(**options)),
    ],
    ids=["apply_async", "si", "adelay"],
)
def test_options_count(send: Callable[..., Any], options: str, broker: redis.Redis) -> None:
    """Headers, links and every other option count; the error says how much is too much and holds
    none of it.
    """
    with pytest.raises(MessageTooLarge) as caught:
        send(EVENT, OPTIONS[options]())
    assert broker.keys() == []
    assert (caught.value.event, caught.value.limit) == ("tgtrack.AddEvent", MAX_MESSAGE_BYTES)
    assert caught.value.size > MAX_MESSAGE_BYTES
    assert SECRET[:10] not in str(caught.value)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("send", [LONG_UPDATE.delay, LONG_UPDATE.si, lambda: postback.send_many([EVENT, LONG_UPDATE])])
def test_an_event_that_grows_in_its_message(send: Callable[[], Any], broker: redis.Redis) -> None:
    """An update of 254,000 bytes would be 1 MB in Redis: refused; by ``send_many`` before the first
    event is sent.
    """
    with pytest.raises(MessageTooLarge):
        send()
    assert broker.keys() == []


def test_delay_on_commit(monkeypatch: pytest.MonkeyPatch, broker: redis.Redis) -> None:
    """The caller hears of it at the call, when the transaction can still be rolled back; no hook is
    left.
    """
    hooks = on_commit(monkeypatch)
    with pytest.raises(MessageTooLarge):
        EVENT.delay_on_commit(headers={"x": BIG})
    assert hooks == []


def test_collected() -> None:
    """A producer's test fails as production would."""
    with collect() as outbox, pytest.raises(MessageTooLarge):
        EVENT.apply_async(headers={"x": BIG})
    assert outbox == []


def test_redis_is_not_asked() -> None:
    """With Redis away the call says what is wrong with the message, not that Redis is away."""
    postback.configure(broker_url="redis://127.0.0.1:1/0", accounts={"tgtrack": ["main"]})
    try:
        with pytest.raises(MessageTooLarge):
            EVENT.apply_async(shadow=BIG)
    finally:
        postback.configure()


def longest(send: Callable[[int], Any], broker: redis.Redis) -> int:
    """The longest queue entry that a producer sends; ``send`` takes the length of what makes it
    long.
    """
    low, high = 0, MAX_MESSAGE_BYTES
    while low < high:
        length = (low + high + 1) // 2
        try:
            send(length)
            low = length
        except (MessageTooLarge, postback.InvalidEvent):
            high = length - 1
    return max(
        len(entry) for name in keys.priority_lists("tgtrack.main") for entry in broker.lrange(name, 0, -1)  # type: ignore[union-attr]
    )  # fmt: skip


@pytest.mark.parametrize(
    "send",
    [
        lambda n: EVENT.apply_async(headers={"x": "y" * n}),
        lambda n: EVENT.apply_async(headers={"ж" * 50: "ж" * n}, task_id="ж" * 255),
        lambda n: EVENT.apply_async(link=EVENT.si(), shadow="y" * n, idempotency_key="1", expires=60),
        lambda n: EVENT.apply_async(reply_to='"' * n),
        lambda n: tgtrack.OnTelegramWebhook.load('{"update_id":1,"text":"' + "ж" * n + '"}').delay(),
        lambda n: tgtrack.OnToolsyEvent.load({"text": "\U0001f600" * n}).delay(),
    ],
)  # fmt: skip
def test_the_longest_message_that_is_sent(send: Callable[[int], Any], broker: redis.Redis) -> None:
    """Whatever makes it long: a worker takes it, with a kilobyte left for the state that deliveries
    add, and hardly more.
    """
    assert MAX_MESSAGE_BYTES - 3_000 < longest(send, broker) <= MAX_MESSAGE_BYTES - 1_000


def test_the_largest_event_without_options(broker: redis.Redis) -> None:
    """An event of 100,000 bytes is never too long for a message, whatever its letters."""
    labels = [{"name": "\x7f", "value": "ж" * 960}] * 51
    tgtrack.AddEvent(user_id="ж" * 256, event_type="\U0001f600" * 60, labels=labels).delay()
    (entry,) = broker.lrange("tgtrack.main\x06\x163", 0, -1)  # type: ignore[misc]
    assert 390_000 < len(entry) < MAX_MESSAGE_BYTES
