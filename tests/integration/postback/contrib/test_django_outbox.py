"""Writing events into the outbox and moving them to Redis, on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.db import OperationalError, transaction
from django.test import override_settings
from django.utils import timezone

import postback
from postback import ConfigurationError, MessageTooLarge, tgtrack, tonai
from postback._send import one
from postback.wire import keys
from tests.integration.postback.contrib.queues import messages
from tests.integration.postback.contrib.transactions import rolled_back
from workers.devkit import RedisServer

EVENT = tgtrack.AddEvent(user_id="987654321", event_type="sale", amount=10)


def relay(alias: str, **settings: Any) -> Any:
    """A relay of this process."""
    from postback.contrib.django.conf import OutboxSettings
    from postback.contrib.django.relay import Relay

    return Relay(OutboxSettings(**settings), database=alias)


def numbered(count: int) -> list[tgtrack.AddEvent]:
    return [tgtrack.AddEvent(user_id=str(number), event_type="sale") for number in range(count)]


# Writing


def test_committed(alias: str, broker: redis.Redis, rows: Any) -> None:
    """An event is committed with its transaction and sent by the relay, under the id that its
    caller got.
    """
    with transaction.atomic(using=alias):
        result = EVENT.delay_via_outbox(using=alias)
    assert relay(alias).drain().queued == 1
    (message,) = messages(broker)
    row = rows.get()
    assert (message.id, row.event_id, row.state, row.attempts) == (result.id, result.id, "sent", 1)
    assert message.headers["task"] == "tgtrack.add_event"


def test_rolled_back(alias: str, broker: redis.Redis, rows: Any) -> None:
    """A rolled-back transaction leaves no event behind."""
    with rolled_back(alias):
        EVENT.delay_via_outbox(using=alias)
    assert relay(alias).drain().queued == 0
    assert messages(broker) == []
    assert rows.count() == 0


def test_a_savepoint_is_rolled_back(alias: str, broker: redis.Redis) -> None:
    """Only the events of the savepoint that failed are gone."""
    kept, lost = numbered(2)
    with transaction.atomic(using=alias):
        kept.delay_via_outbox(using=alias)
        with rolled_back(alias):
            lost.delay_via_outbox(using=alias)
    relay(alias).drain()
    assert [message.kwargs["event"]["user_id"] for message in messages(broker)] == ["0"]


def test_redis_is_not_asked(alias: str, site: None, rows: Any) -> None:
    """Writing works, and takes no time, while Redis is away and the accounts are unknown."""
    postback.configure(broker_url="redis://127.0.0.1:1/0")
    began = time.monotonic()
    EVENT.delay_via_outbox(using=alias)
    assert time.monotonic() - began < 0.5
    assert rows.count() == 1


def test_the_time_is_that_of_the_call(alias: str, broker: redis.Redis, rows: Any) -> None:
    """A relay hours later does not move the event."""
    before = int(time.time())
    EVENT.delay_via_outbox(using=alias)
    date = json.loads(rows.get().wire)["date"]
    assert before <= date <= time.time()
    relay(alias).drain()
    assert messages(broker)[0].kwargs["event"]["date"] == date


def test_countdown_and_expires_count_from_the_call(alias: str, broker: redis.Redis) -> None:
    """They become times of the day when the event is written."""
    now = datetime.now(UTC)
    EVENT.delay_via_outbox(using=alias, countdown=60, expires=120)
    relay(alias).drain()
    (message,) = messages(broker)
    for name, seconds in (("eta", 60), ("expires", 120)):
        told = datetime.fromisoformat(message.headers[name])
        assert abs((told - now).total_seconds() - seconds) < 5


def test_options_survive(alias: str, broker: redis.Redis) -> None:
    """Priority, headers, a link and an eta with a zone are the same after the database."""
    eta = datetime(2030, 1, 1, tzinfo=UTC)
    EVENT.delay_via_outbox(
        using=alias,
        eta=eta,
        priority=0,
        headers={"x": 1},
        link=tonai.Conversion(telegram_user_id="17"),
        task_id="my-id",
    )
    relay(alias).drain()
    (message,) = messages(broker)
    assert (message.id, message.headers["eta"], message.headers["x"]) == ("my-id", eta.isoformat(), 1)
    assert message.options["callbacks"][0]["task"] == "tonai.conversion"


def test_an_update_stays_as_it_was(alias: str, broker: redis.Redis) -> None:
    """Telegram's text goes through the database byte for byte, spaces, escapes and NUL included."""
    text = '{"update_id": 1,  "b": "\\u0000 ж", "a": 1.50}'
    tgtrack.OnTelegramWebhook.load(text.encode()).delay_via_outbox(using=alias)
    relay(alias).drain()
    assert messages(broker)[0].kwargs["event"] == text


def test_every_event_has_a_key(alias: str, broker: redis.Redis) -> None:
    """The caller's, the event's own, or its id: so a worker recognises a second copy."""
    plain = EVENT.delay_via_outbox(using=alias)
    EVENT.delay_via_outbox(using=alias, idempotency_key="order-17")
    tonai.Conversion(telegram_user_id="17").delay_via_outbox(using=alias)
    relay(alias).drain()
    first, second = messages(broker)
    (conversion,) = messages(broker, "tonai.main")
    assert (first.key, second.key, conversion.key) == (plain.id, "order-17", "17")


@pytest.mark.parametrize(
    "options",
    [{"foo": 1}, {"queue": "x"}, {"countdown": "5"}, {"headers": {"x": object()}}, {"headers": {"postback_key": "x"}},
     {"idempotency_key": 5}, {"link": "task"}, {"retry": True}],
)  # fmt: skip
def test_wrong_options(alias: str, rows: Any, options: dict[str, Any]) -> None:
    """They fail at the call and nothing is written."""
    with pytest.raises(TypeError):
        EVENT.delay_via_outbox(using=alias, **options)
    assert rows.count() == 0


@pytest.mark.parametrize("empty", ["empty", "empty_postgresql"])
def test_missing_tables(site: None, empty: str) -> None:
    """The error says what to run."""
    with pytest.raises(ConfigurationError, match=f"run manage.py migrate postback --database {empty}"):
        EVENT.delay_via_outbox(using=empty)


def test_without_time_zones(alias: str, broker: redis.Redis, rows: Any) -> None:
    """A project with USE_TZ = False writes and relays as well."""
    with override_settings(USE_TZ=False):
        EVENT.delay_via_outbox(using=alias)
        assert relay(alias).drain().queued == 1
    assert rows.get().sent_at


# Moving


def test_order(alias: str, broker: redis.Redis) -> None:
    """Events go in the order in which they were written, over several batches."""
    for event in numbered(25):
        event.delay_via_outbox(using=alias)
    assert relay(alias, batch=10).drain().queued == 25
    assert [message.kwargs["event"]["user_id"] for message in messages(broker)] == [str(n) for n in range(25)]


def test_a_sent_event_is_not_sent_again(alias: str, broker: redis.Redis) -> None:
    """The next look finds nothing."""
    EVENT.delay_via_outbox(using=alias)
    relay(alias).drain()
    assert relay(alias).drain().queued == 0
    assert len(messages(broker)) == 1


def test_what_can_never_be_sent(alias: str, broker: redis.Redis, rows: Any, redis_server: RedisServer) -> None:
    """An account that is gone is marked as failed with its reason, and blocks nobody."""
    postback.configure(broker_url=redis_server.url, accounts={"tgtrack": ["main", "nope"]})
    tgtrack.AddEvent(user_id="987654321", event_type="x", account="nope").delay_via_outbox(using=alias)
    postback.configure(broker_url=redis_server.url, accounts={"tgtrack": ["main"]})
    EVENT.delay_via_outbox(using=alias)
    moved = relay(alias).drain()
    assert (moved.queued, moved.failed, moved.away) == (1, 1, None)
    failed = rows.get(state="failed")
    assert failed.error == "UnknownAccount: tgtrack has no account 'nope'; known: main"
    assert failed.attempts == 1


@pytest.mark.parametrize(
    "spoilt",
    [
        {"wire": '{"user_id": 987654321}'},
        {"wire": "{"},
        {"task": "tgtrack.gone"},
        {"options": '{"gone": 1}'},
        {"options": "["},
        {"account": "a.b"},
    ],
)
def test_spoilt_rows(alias: str, broker: redis.Redis, rows: Any, spoilt: dict[str, str]) -> None:
    """A row that an older or newer version wrote differently fails alone, without showing
    people.
    """
    EVENT.delay_via_outbox(using=alias)
    rows.update(**spoilt)
    EVENT.delay_via_outbox(using=alias)
    assert relay(alias).drain().queued == 1
    failed = rows.get(state="failed")
    assert failed.error
    assert "987654321" not in failed.error


def test_redis_is_away(alias: str, broker: redis.Redis, rows: Any, redis_server: RedisServer) -> None:
    """Events stay pending, only the first is noted, and all go in order once Redis is back."""
    for event in numbered(3):
        event.delay_via_outbox(using=alias)
    postback.configure(broker_url="redis://127.0.0.1:1/0")
    moved = relay(alias).drain()
    assert moved.queued == 0
    assert "is not in the queue" in moved.away
    assert list(rows.values_list("state", "attempts")) == [("pending", 1), ("pending", 0), ("pending", 0)]
    assert rows.first().error.startswith("tgtrack.AddEvent")
    postback.configure(broker_url=redis_server.url)
    assert relay(alias).drain().queued == 3
    assert set(rows.values_list("state", "error")) == {("sent", "")}


def announce(broker: redis.Redis, **caps: int) -> None:
    """Name TGTrack accounts as their workers do, with the events that may wait in each (0: any
    number).
    """
    for name, cap in caps.items():
        broker.hset(keys.ACCOUNTS, f"tgtrack.{name}", json.dumps({"at": 1, "max_queued": cap}))


def test_a_full_account_keeps_its_rows(alias: str, broker: redis.Redis, rows: Any) -> None:
    """What an account has no room for stays pending with its reason, and goes in order once there
    is room.
    """
    announce(broker, main=2)
    for event in numbered(5):
        event.delay_via_outbox(using=alias)
    moved = relay(alias).drain()
    assert (moved.queued, moved.failed) == (2, 0)
    assert "max_queued of 2" in moved.away
    assert list(rows.values_list("state", "attempts")) == [("sent", 1)] * 2 + [("pending", 1)] + [("pending", 0)] * 2
    assert "max_queued of 2" in rows.get(seq=rows.filter(state="pending").first().seq).error
    broker.delete(*keys.priority_lists("tgtrack.main"))
    assert relay(alias).drain().queued == 2
    assert [message.kwargs["event"]["user_id"] for message in messages(broker)] == ["2", "3"]


def test_a_full_account_holds_up_no_other(alias: str, broker: redis.Redis, rows: Any) -> None:
    """More events than a batch wait for one account; another account's event behind them goes at
    once.
    """
    announce(broker, main=1, shop=0)
    for event in numbered(8):
        event.delay_via_outbox(using=alias)
    tgtrack.AddEvent(user_id="7", event_type="sale", account="shop").delay_via_outbox(using=alias)
    moving = relay(alias, batch=3)
    moved = moving.drain()
    assert moved.queued == 2
    assert len(messages(broker, "tgtrack.shop")) == 1
    assert rows.filter(state="pending").count() == 7


def test_a_full_account_is_told_once(alias: str, broker: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    """One line when it is full and one when it takes events again, however often it was asked."""
    announce(broker, main=1)
    for event in numbered(3):
        event.delay_via_outbox(using=alias)
    clock = Clock()
    moving = relay(alias)
    moving._clock = clock
    for _ in range(10):
        moving.look()
        clock.now += 10
    broker.delete(*keys.priority_lists("tgtrack.main"))
    moving.look()
    words = [record.getMessage() for record in caplog.records if record.name == "postback.relay"]
    assert len(words) == 3  # full, back, and full again after the one event that it has room for
    assert words[0].startswith("tgtrack: tgtrack.AddEvent")
    assert words[1] == "tgtrack: back; the outbox goes on"


def test_redis_goes_in_the_middle(alias: str, broker: redis.Redis, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent before is marked, what comes after waits behind the one that failed."""
    for event in numbered(4):
        event.delay_via_outbox(using=alias)
    send = one.send

    def send_two(event: Any, given: Any) -> Any:
        if event.user_id == "2":
            raise postback.NotEnqueued("away", [given["task_id"]])
        return send(event, given)

    monkeypatch.setattr("postback.contrib.django.relay.one.send", send_two)
    assert relay(alias).drain().queued == 2
    assert list(rows.values_list("state", flat=True)) == ["sent", "sent", "pending", "pending"]
    assert len(messages(broker)) == 2


def test_the_accounts_file_is_gone(alias: str, broker: redis.Redis, rows: Any, redis_server: RedisServer) -> None:
    """That is no event's fault: all of them wait."""
    postback.configure(broker_url=redis_server.url, accounts="/nowhere.toml")
    EVENT.delay_via_outbox(using=alias)
    assert "cannot read /nowhere.toml" in relay(alias).drain().away
    assert rows.get().state == "pending"


def test_the_database_is_away(alias: str, broker: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    """A running relay waits for it, says so once, and goes on."""
    EVENT.delay_via_outbox(using=alias)
    moving = relay(alias, poll_s=0.01)
    look, tries = moving.look, []

    def look_at_last() -> Any:
        tries.append(1)
        if len(tries) <= 3:
            raise OperationalError("server closed the connection")
        moving.stop.set()
        return look()

    moving.look = look_at_last
    moving.stop.wait = lambda pause_s: False
    moving.run()
    assert len(tries) == 4
    assert [record.getMessage() for record in caplog.records if record.name == "postback.relay"] == [
        "the database: OperationalError; the outbox waits and tries again",
        "the database: back; the outbox goes on",
    ]


def test_one_log_line_for_an_outage(
    alias: str, broker: redis.Redis, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """One line when Redis goes, one when it is back, whatever the number of tries; the waits
    grow.
    """
    caplog.set_level(logging.INFO, "postback.relay")
    EVENT.delay_via_outbox(using=alias)
    clock = Clock()
    moving = relay(alias)
    moving._clock = clock
    postback.configure(broker_url="redis://:s3cret@127.0.0.1:1/0")
    tries = 0
    for _ in range(20):
        tries += moving.look().away is not None
        clock.now += 1.0
    assert 4 <= tries <= 10
    assert len(caplog.records) == 1
    postback.configure(broker_url=redis_server.url)
    clock.now += 10
    assert moving.look().queued == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "s3cret" not in caplog.text


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_provider_with_its_own_redis(
    alias: str, broker: redis.Redis, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While that Redis is away the other providers' events go."""
    monkeypatch.setenv("POSTBACK_BROKER_URL", redis_server.url)
    monkeypatch.setenv("POSTBACK_TGTRACK_BROKER_URL", "redis://127.0.0.1:1/0")
    postback.configure()
    EVENT.delay_via_outbox(using=alias)
    tonai.Conversion(telegram_user_id="17").delay_via_outbox(using=alias)
    moved = relay(alias).drain()
    assert moved.queued == 1
    assert moved.away
    assert len(messages(broker, "tonai.main")) == 1


def test_a_lost_reply(alias: str, broker: redis.Redis, rows: Any, redis_server: RedisServer) -> None:
    """An event that may be in the queue stays pending and is sent again under the same id and
    key.
    """
    postback.configure(broker_url=redis_server.url, send_timeout_s=0.4)
    EVENT.delay()  # the link is open
    result = EVENT.delay_via_outbox(using=alias)
    with redis_server.frozen():
        assert "may be in the queue or not" in relay(alias).drain().away
    assert rows.get().state == "pending"
    assert relay(alias).drain().queued == 1
    copies = [message for message in messages(broker) if message.id == result.id]
    assert len(copies) in (1, 2)
    assert {message.key for message in copies} == {result.id}


def test_only_one_relay_works_on_a_provider(alias: str, broker: redis.Redis) -> None:
    """Another finds the lane taken and leaves the events alone, so that their order holds."""
    EVENT.delay_via_outbox(using=alias)
    held = in_another_connection(alias, lambda: relay(alias)._lanes.claim("tgtrack"))
    try:
        assert relay(alias).drain().queued == 0
    finally:
        held.release()
    assert relay(alias).drain().queued == 1


def test_other_providers_go_on_beside_it(alias: str, broker: redis.Redis) -> None:
    """A held lane is one provider's."""
    EVENT.delay_via_outbox(using=alias)
    tonai.Conversion(telegram_user_id="17").delay_via_outbox(using=alias)
    held = in_another_connection(alias, lambda: relay(alias)._lanes.claim("tgtrack"))
    try:
        assert relay(alias).drain().queued == 1
    finally:
        held.release()
    assert messages(broker) == []


def test_two_relays_at_once(alias: str, broker: redis.Redis, rows: Any) -> None:
    """Side by side they send every event once, in order."""
    import threading

    from django.db import connections

    for event in numbered(120):
        event.delay_via_outbox(using=alias)

    def work() -> None:
        moving = relay(alias, batch=5)
        while rows.filter(state="pending").exists():
            moving.drain()
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [message.kwargs["event"]["user_id"] for message in messages(broker)] == [str(n) for n in range(120)]


def test_a_dead_relays_lease_ends(site: None, broker: redis.Redis) -> None:
    """Without SKIP LOCKED a lease that nobody gave back is taken over once it is over."""
    from postback.contrib.django.models import OutboxEvent, OutboxLane

    OutboxEvent.objects.all().delete()
    EVENT.delay_via_outbox(using="default")
    OutboxLane.objects.update_or_create(name="tgtrack", defaults={"owner": "dead", "held_until": time.time() + 1000})
    assert relay("default").drain().queued == 0
    OutboxLane.objects.update(held_until=time.time() - 1)
    assert relay("default").drain().queued == 1


def test_a_batch_ends_before_its_lease(site: None, broker: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow Redis cuts the batch short: another relay must not take over in the middle."""
    from postback.contrib.django.models import OutboxEvent, OutboxLane

    OutboxEvent.objects.all().delete()
    OutboxLane.objects.all().delete()
    for event in numbered(10):
        event.delay_via_outbox(using="default")
    moving = relay("default", lease_s=10)
    clock = moving._clock = Clock()
    monkeypatch.setattr("postback.contrib.django.relay.one.send", lambda *given: setattr(clock, "now", clock.now + 3))
    moved = moving.look()
    assert (moved.queued, moved.more) == (2, True)


def test_history_is_bounded(alias: str, broker: redis.Redis, rows: Any) -> None:
    """Sent events go after KEEP_DAYS; younger, pending and failed ones stay."""
    old = timezone.now() - timedelta(days=8)
    for state, sent_at in (("sent", old), ("sent", timezone.now()), ("failed", None), ("pending", None)):
        EVENT.delay_via_outbox(using=alias, task_id=f"{state}-{sent_at == old}")
        rows.filter(event_id=f"{state}-{sent_at == old}").update(state=state, sent_at=sent_at)
    relay(alias, keep_days=7).look()
    assert sorted(rows.values_list("event_id", flat=True)) == ["failed-False", "pending-False", "sent-False"]


def test_no_history_at_all(alias: str, broker: redis.Redis, rows: Any) -> None:
    """KEEP_DAYS 0 deletes at the next occasion."""
    EVENT.delay_via_outbox(using=alias)
    relay(alias, keep_days=0).look()
    relay(alias, keep_days=0).look()
    assert rows.count() == 0


def test_stopping_in_the_middle(alias: str, broker: redis.Redis, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM ends a relay after the event on its way, and what was sent is marked."""
    for event in numbered(5):
        event.delay_via_outbox(using=alias)
    moving = relay(alias)
    send = one.send

    def send_and_stop(*given: Any) -> Any:
        moving.stop.set()
        return send(*given)

    monkeypatch.setattr("postback.contrib.django.relay.one.send", send_and_stop)
    moving.run()
    assert list(rows.values_list("state", flat=True)) == ["sent"] + ["pending"] * 4
    assert len(messages(broker)) == 1


class Held:
    """A lane that another thread, and so another connection, holds."""

    def __init__(self, alias: str, claim: Callable[[], Any]) -> None:
        import threading

        self._taken, self._give_back = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(claim,))
        self._thread.start()
        assert self._taken.wait(10)

    def _hold(self, claim: Callable[[], Any]) -> None:
        from django.db import connections

        with claim() as may_take_s:
            assert may_take_s is not None
            self._taken.set()
            self._give_back.wait(30)
        connections.close_all()

    def release(self) -> None:
        self._give_back.set()
        self._thread.join(10)


def in_another_connection(alias: str, claim: Callable[[], Any]) -> Held:
    return Held(alias, claim)


def test_too_large_for_a_message(alias: str, broker: redis.Redis, rows: Any) -> None:
    """What no worker would take is refused when it is written, not hours later by the relay."""
    with pytest.raises(MessageTooLarge):
        EVENT.delay_via_outbox(using=alias, headers={"x": "y" * 600_000})
    assert rows.count() == 0


def test_the_largest_message_of_the_outbox(alias: str, broker: redis.Redis, rows: Any) -> None:
    """The key and the times that the outbox adds do not make it too large for the relay's own
    send.
    """
    fitting = 0
    for length in range(516_000, 524_000, 200):
        with contextlib.suppress(MessageTooLarge):
            EVENT.delay_via_outbox(using=alias, countdown=0, expires=3600, headers={"x": "y" * length})
            fitting += 1
    assert 0 < fitting < 40
    moved = relay(alias).drain()
    assert (moved.queued, moved.failed) == (fitting, 0)
