import asyncio
import base64
import hashlib
import json
import os
import pickle
import socket
import sys
import threading
import time
import types
from contextlib import ExitStack
from datetime import UTC, datetime

import celery
import kombu
import pytest
import redis
from celery import signals

import postback
from postback import EnqueueUnknown, NoResult, NotEnqueued, PartlyEnqueued, UnknownAccount, tgtrack, tonai
from postback._send import connections, many
from tasks.envelopes import open_envelope

EVENT = tgtrack.AddEvent(user_id="987654321", event_type="sale")
QUEUE = "tgtrack.main\x06\x163"


@pytest.fixture
def client(redis_server, redis_client, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("POSTBACK_", "CELERY_"))]:
        monkeypatch.delenv(name)
    postback.configure(broker_url=redis_server.url)
    yield redis_client
    postback.configure()


@pytest.fixture
def silent():
    """A port that accepts and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def message(client, queue=QUEUE):
    found = json.loads(client.lindex(queue, 0))
    return found["headers"], json.loads(base64.b64decode(found["body"])), found["properties"]


def test_the_message_is_an_ordinary_celery_message(client):
    """Protocol 2, the account's queue, priority 3, the wire form as kwargs, and the time filled
    in.
    """
    before = time.time()
    result = EVENT.delay()
    headers, (args, kwargs, _), properties = message(client)
    assert (headers["task"], headers["id"], headers["ignore_result"]) == ("tgtrack.add_event", result.id, True)
    assert (args, kwargs["account"], properties["priority"]) == ([], "main", 3)
    assert kwargs["event"].pop("date") >= int(before)
    assert kwargs["event"] == EVENT.wire()
    assert before * 1000 - 1 <= headers["postback_at"] <= time.time() * 1000
    assert headers["postback_size"] == EVENT.size()
    assert not {"postback_key", "postback_key_text"} & headers.keys()


def test_the_repr_in_the_message_hides_people(client):
    """Flower shows what the header says: no whole user id."""
    EVENT.delay()
    assert "987654321" not in json.dumps(message(client)[0])


@pytest.mark.parametrize("key", ["order-17", "заказ 17", 'a "quoted" \x00 key', "k" * 1024, "\U0001f600" * 1024])
def test_an_idempotency_key_travels_as_its_hash_and_as_it_is(client, key):
    """Scripts compare the hash; people look for the key. A worker reads both."""
    EVENT.apply_async(idempotency_key=key)
    headers, _, _ = message(client)
    assert headers["postback_key"] == hashlib.sha256(key.encode()).hexdigest()
    assert headers["postback_key_text"] == key
    envelope = open_envelope(client.lindex(QUEUE, 0))
    assert (envelope.defect, envelope.headers["postback_key_text"]) == ("", key)


@pytest.mark.parametrize(
    "send",
    [
        lambda event: event.delay(),
        lambda event: event.apply_async(countdown=0),
        lambda event: asyncio.run(event.adelay()),
        lambda event: postback.send_many([event]),
        lambda event: event.si().apply_async(),
    ],
    ids=["delay", "apply_async", "adelay", "send_many", "si"],
)
def test_a_conversion_always_has_a_key(client, send):
    """Derived from the user, in every way of sending."""
    send(tonai.Conversion(telegram_user_id="17"))
    headers, _, _ = message(client, "tonai.main\x06\x163")
    assert headers["postback_key"] == hashlib.sha256(b"17").hexdigest()
    assert headers["postback_key_text"] == "17"


def test_the_caller_s_key_goes_first(client):
    """A key that the caller sets stands in place of the event's own."""
    tonai.Conversion(telegram_user_id="17").apply_async(idempotency_key="mine")
    headers, _, _ = message(client, "tonai.main\x06\x163")
    assert (headers["postback_key"], headers["postback_key_text"]) == (hashlib.sha256(b"mine").hexdigest(), "mine")


def test_options_reach_the_message(client):
    """Celery's options mean what they mean in Celery."""
    eta = datetime(2030, 1, 1, tzinfo=UTC)
    result = EVENT.apply_async(
        eta=eta, expires=60, priority=0, task_id="my-id", headers={"x": 1}, link=EVENT.si(), shadow="s"
    )
    headers, body, properties = message(client, "tgtrack.main")
    assert result.id == headers["id"] == "my-id"
    assert (headers["eta"], headers["x"], headers["shadow"], properties["priority"]) == (eta.isoformat(), 1, "s", 0)
    assert headers["expires"]
    assert body[2]["callbacks"][0]["options"]["queue"] == "tgtrack.main"


def test_a_naive_eta_is_utc(client):
    """Whatever the server's timezone."""
    EVENT.apply_async(eta=datetime(2030, 1, 1))
    assert message(client)[0]["eta"] == "2030-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    "options",
    [{"foo": 1}, {"queue": "x"}, {"retry": True}, {"serializer": "pickle"}, {"countdown": "5"}, {"countdown": True},
     {"eta": 5},
     {"eta": datetime.now(), "countdown": 1}, {"expires": "soon"}, {"priority": "0"}, {"priority": True},
     {"link": "task"},
     {"link_error": [5]}, {"headers": [1]}, {"headers": {"postback_key_text": "x"}}, {"headers": {1: 2}}, {"task_id": 5},
     {"idempotency_key": 5}, {"ignore_result": 1}],
)  # fmt: skip
@pytest.mark.parametrize("way", ["apply_async", "si"])
def test_wrong_options(client, options, way):
    """A wrong option is a TypeError that names it, and nothing is sent."""
    with pytest.raises(TypeError, match=next(iter(options)).rstrip("s")):
        getattr(EVENT, way)(**options)
    assert client.keys() == []


@pytest.mark.parametrize(
    "options",
    [{"priority": 10}, {"priority": -1}, {"countdown": float("nan")}, {"task_id": ""}, {"idempotency_key": "\ud800"}],
)
def test_options_out_of_range(client, options):
    """A value out of range is a ValueError."""
    with pytest.raises(ValueError, match=next(iter(options))):
        EVENT.apply_async(**options)


def test_a_header_that_is_not_json(client):
    """It is a TypeError, and nothing is sent."""
    with pytest.raises(TypeError):
        EVENT.apply_async(headers={"x": object()})
    assert client.keys() == []


def test_results(client):
    """Waiting for a result that never comes fails at once; a read's result is there."""
    for ask in ("get", "ready"):
        with pytest.raises(NoResult):
            getattr(pickle.loads(pickle.dumps(EVENT.delay())), ask)()
    info = tgtrack.GetUserInfo(user_id="1").delay()
    info.backend.store_result(info.id, {"user_id": "1"}, "SUCCESS")
    assert info.get(timeout=5) == {"user_id": "1"}
    assert 0 < client.ttl(f"celery-task-meta-{info.id}") <= 600
    with pytest.raises(NoResult):
        tgtrack.GetUserInfo(user_id="1").apply_async(ignore_result=True).get()


def test_announced_accounts(client):
    """The only announced account is the default; an unknown one is refused before anything is
    sent.
    """
    client.hset("postback.accounts", "tgtrack.shop", "{}")
    EVENT.delay()
    assert client.llen("tgtrack.shop\x06\x163") == 1
    stranger = tgtrack.AddEvent(user_id="1", event_type="x", account="nope")
    for send in (stranger.delay, lambda: postback.send_many([EVENT, stranger]), stranger.si):
        with pytest.raises(UnknownAccount):
            send()
    assert client.llen("tgtrack.shop\x06\x163") == 1


def test_an_unreadable_announcement_fails_no_send(client):
    """A key of the wrong type where the accounts should be: main is assumed."""
    client.set("postback.accounts", "x")
    EVENT.delay()
    assert client.llen(QUEUE) == 1


def test_the_users_app_is_left_alone(client, monkeypatch):
    """current_app stays the user's, and the user's CELERY_ variables do not reach ours."""
    mine = celery.Celery("mine", broker="amqp://nowhere", set_as_current=True)
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://nowhere")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "db+sqlite://")
    EVENT.delay()
    EVENT.si().apply_async()
    assert client.llen(QUEUE) == 2
    assert celery.current_app._get_current_object() is mine
    assert mine.conf.broker_url == "amqp://nowhere"


def test_a_signature_from_another_app(client, redis_server):
    """As a link of another app's task it carries queue, priority and headers, and leaves the time
    open.
    """
    signature = tonai.Conversion(telegram_user_id="1728125519").si()
    assert signature.immutable
    other = celery.Celery("other", broker=redis_server.url, set_as_current=False)
    celery.signature(json.loads(json.dumps(signature)), app=other).apply_async(("parent's result",))
    headers, (args, kwargs, _), properties = message(client, "tonai.main\x06\x163")
    assert (args, kwargs["account"], properties["priority"]) == ([], "main", 3)
    assert headers["postback_key_text"] == "1728125519"
    assert "postback_at" not in headers
    assert "date" not in EVENT.si().kwargs["event"]


def test_an_event_may_be_a_link(client):
    """It stands for its signature."""
    EVENT.apply_async(link=tonai.Conversion(telegram_user_id="17"), link_error=[EVENT])
    assert message(client)[1][2]["callbacks"][0]["task"] == "tonai.conversion"


def test_adelay(client):
    """The send runs in a thread and returns its result."""
    assert asyncio.run(EVENT.adelay(task_id="x")).id == "x"
    assert client.llen(QUEUE) == 1


def test_delay_on_commit(client, monkeypatch):
    """Nothing is sent before the commit; a wrong option fails at once, not in the hook."""
    hooks = []
    transaction = types.SimpleNamespace(on_commit=lambda hook, using=None: hooks.append(hook))
    monkeypatch.setitem(sys.modules, "django.db.transaction", transaction)
    with pytest.raises(TypeError):
        EVENT.delay_on_commit(foo=1)
    EVENT.delay_on_commit(priority=0)
    assert client.keys() == []
    hooks[0]()
    assert client.llen("tgtrack.main") == 1


def test_kombu_reads_it(client, redis_server):
    """Any Celery worker could: kombu's own channel takes it from the list of its priority."""
    expires = datetime(2100, 1, 1, tzinfo=UTC)
    result = EVENT.apply_async(priority=7, expires=expires, headers={"mine": "é"}, link=EVENT, retries=2)
    with kombu.Connection(redis_server.url) as connection:
        read = connection.default_channel.basic_get("tgtrack.main")
    assert read.decode()[2].keys() == {"callbacks"}
    assert (read.headers["id"], read.headers["mine"], read.headers["retries"]) == (result.id, "é", 2)
    assert read.headers["expires"] == expires.isoformat()
    assert (read.properties["correlation_id"], read.properties["priority"]) == (result.id, 7)
    assert read.delivery_info["routing_key"] == "tgtrack.main"
    assert not {"eta", "group", "stamps", "timelimit"} & read.headers.keys()


def test_send_many(client):
    """All of them, in order, over several pipelines."""
    events = [tgtrack.AddEvent(user_id=str(n), event_type="x") for n in range(many.BATCH_EVENTS + 20)]
    results = postback.send_many(iter(events))
    queued = [json.loads(text)["headers"]["id"] for text in reversed(client.lrange(QUEUE, 0, -1))]
    assert queued == [result.id for result in results]
    assert postback.send_many([]) == []


@pytest.fixture
def at_the_second_pipeline(monkeypatch):
    """Pipelines of 10 events; what is put into it is called before the second one."""
    monkeypatch.setattr(many, "BATCH_EVENTS", 10)
    actions, checks = [], []
    check = connections.Connection.check

    def checked(link):
        checks.append(1)
        check(link)
        if len(checks) == 2:
            actions[0]()

    monkeypatch.setattr(connections.Connection, "check", checked)
    return actions.append


def test_send_many_into_a_full_redis(client, redis_server, at_the_second_pipeline):
    """Redis refuses the second pipeline: the first is in, everything else certainly not."""
    postback.configure(broker_url=redis_server.url, accounts={"tgtrack": ["main"]})
    at_the_second_pipeline(lambda: client.config_set("maxmemory", "1"))
    try:
        with pytest.raises(PartlyEnqueued, match="OutOfMemoryError") as caught:
            postback.send_many([EVENT] * 25)
    finally:
        client.config_set("maxmemory", "0")
    error = caught.value
    assert (error.enqueued, len(error.unknown_ids), len(error.rejected_ids)) == (10, 0, 15)
    assert client.llen(QUEUE) == 10
    assert "body" not in str(error)


def test_send_many_says_how_many(client, redis_server, at_the_second_pipeline):
    """Redis freezes under the second pipeline: the first is certain, the second unknown, the third
    certainly not in.
    """
    postback.configure(broker_url=redis_server.url, accounts={"tgtrack": ["main"]}, send_timeout_s=0.4)
    with ExitStack() as frozen:
        at_the_second_pipeline(lambda: frozen.enter_context(redis_server.frozen()))
        with pytest.raises(PartlyEnqueued) as caught:
            postback.send_many([EVENT] * 25)
    error = caught.value
    assert (error.enqueued, len(error.unknown_ids), len(error.rejected_ids)) == (10, 10, 5)
    assert "body" not in str(error)


def test_send_many_refused_in_part(client, redis_server):
    """Redis refuses one account's events: those before the first refused are in, what lies between
    is not known.
    """
    postback.configure(broker_url=redis_server.url, accounts={"tgtrack": ["a", "b"]})
    client.set("tgtrack.b\x06\x163", "no list")
    events = [tgtrack.AddEvent(user_id="1", event_type="x", account=account) for account in "aaba"]
    with pytest.raises(PartlyEnqueued, match="WRONGTYPE") as caught:
        postback.send_many([*events, events[2]])
    error = caught.value
    assert (error.enqueued, len(error.unknown_ids), len(error.rejected_ids)) == (2, 2, 1)
    with pytest.raises(NotEnqueued, match="WRONGTYPE"):
        events[2].delay()


def test_celerys_signals(client):
    """Tracing adds a header before a message is written, and hears that it was sent; a failed send
    is no sent one.
    """
    heard = []

    @signals.before_task_publish.connect(weak=False)
    def before(sender, headers, properties, routing_key, **_):
        headers["traceparent"] = "00-1-2-01"
        heard.append((sender, headers["id"], properties["correlation_id"], routing_key))

    @signals.after_task_publish.connect(weak=False)
    def after(sender, headers, body, routing_key, **_):
        heard.append((sender, headers["id"], headers["traceparent"], body[1]["account"], routing_key))

    try:
        result = EVENT.delay()
        (other,) = postback.send_many([EVENT])
        client.config_set("maxmemory", "1")
        with pytest.raises(NotEnqueued):
            EVENT.delay()
    finally:
        client.config_set("maxmemory", "0")
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    name, queue = EVENT.task_name, "tgtrack.main"
    assert heard[:2] == [(name, result.id, result.id, queue), (name, result.id, "00-1-2-01", "main", queue)]
    assert [entry[1] for entry in heard[2:]] == [other.id, other.id, heard[-1][1]]
    assert message(client)[0]["traceparent"] == "00-1-2-01"


def test_redis_refuses(client):
    """An answer that says no is certain."""
    EVENT.delay()
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(NotEnqueued):
            EVENT.delay()
    finally:
        client.config_set("maxmemory", "0")
    EVENT.delay()
    assert client.llen(QUEUE) == 2


def test_nothing_listens(client):
    """Connection refused: certain, quick, with the id and without the password."""
    postback.configure(broker_url="redis://:s3cret@127.0.0.1:1/0")
    began = time.monotonic()
    for send in (EVENT.delay, lambda: postback.send_many([EVENT])):
        with pytest.raises(NotEnqueued) as caught:
            send()
        assert "s3cret" not in str(caught.value)
        assert len(caught.value.ids) == 1
        assert caught.value.enqueued == 0
    assert EVENT.si().options["queue"] == "tgtrack.main"
    assert time.monotonic() - began < 2


def test_nobody_answers(silent):
    """A server that accepts and stays silent: not sent, within the time limit."""
    postback.configure(broker_url=f"redis://127.0.0.1:{silent}/0", send_timeout_s=0.4)
    began = time.monotonic()
    with pytest.raises(NotEnqueued):
        EVENT.delay()
    assert time.monotonic() - began < 0.4
    postback.configure()


def test_the_reply_is_lost(client, redis_server):
    """Redis freezes after the command was written: unknown, with the id, within the time limit;
    then it goes on.
    """
    url = redis_server.url
    postback.configure(broker_url=url, send_timeout_s=0.4)
    EVENT.delay()
    began = time.monotonic()
    with redis_server.frozen():
        with pytest.raises(EnqueueUnknown) as caught:
            EVENT.apply_async(task_id="mine")
        took = time.monotonic() - began
        with pytest.raises(NotEnqueued):
            EVENT.delay()
    assert caught.value.id == "mine"
    assert took < 0.4
    EVENT.delay()
    ids = [json.loads(text)["headers"]["id"] for text in client.lrange(QUEUE, 0, -1)]
    assert ids.count("mine") == 1


def test_a_restarted_redis_costs_nothing(client):
    """Sockets that the server closed meanwhile are noticed before anything is written."""
    EVENT.delay()
    client.client_kill_filter(_type="normal", skipme=True)
    EVENT.delay()
    assert client.llen(QUEUE) == 2


def test_threads_share_the_links(client):
    """Eight threads at once lose nothing."""
    threads = [threading.Thread(target=lambda: [EVENT.delay() for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.llen(QUEUE) == 160


def test_a_forked_child_has_its_own_sockets(client):
    """Parent and child send after a fork without reading each other's replies."""
    EVENT.delay()
    child = os.fork()
    if child == 0:
        try:
            EVENT.delay()
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    EVENT.delay()
    assert client.llen(QUEUE) == 3


def test_a_provider_may_have_its_own_redis(client, redis_server, monkeypatch):
    """POSTBACK_TONAI_BROKER_URL moves one provider; send_many serves both."""
    monkeypatch.setenv("POSTBACK_BROKER_URL", redis_server.url)
    monkeypatch.setenv("POSTBACK_TONAI_BROKER_URL", f"redis://127.0.0.1:{redis_server.port}/1")
    postback.configure()
    results = postback.send_many([tonai.Conversion(telegram_user_id="17"), EVENT])
    with redis.Redis(port=redis_server.port, db=1) as second:
        assert message(second, "tonai.main\x06\x163")[0]["id"] == results[0].id
    assert message(client)[0]["id"] == results[1].id
