"""Settings, system checks, sending on commit, the command, the admin and tests of a Django
project.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import transaction
from django.test import override_settings

import postback
from postback import ConfigurationError, NoResult, tgtrack
from postback._send.producer import current
from postback.testing import collect
from postback.wire import keys
from tests.integration.postback.contrib.queues import messages
from tests.integration.postback.contrib.transactions import rolled_back
from workers.devkit import RedisServer

EVENT = tgtrack.AddEvent(user_id="987654321", event_type="sale")


def told(given: Any) -> list[str]:
    """What the system checks say about these settings."""
    from postback.contrib.django.checks import check_settings

    with override_settings(POSTBACK=given):
        return [f"{message.id} {message.msg}" for message in check_settings(None)]


# Settings


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "postback.E001 POSTBACK must be a dict, not list."),
        ({"BROKER": "redis://x"}, "postback.E001 POSTBACK has an unknown key 'BROKER': did you mean 'BROKER_URL'?"),
        ({"outbox": {}}, "postback.E001 POSTBACK has an unknown key 'outbox': did you mean 'OUTBOX'?"),
        ({"zzz": 1}, "known are ACCOUNTS, BROKER_URL, OUTBOX, SEND_TIMEOUT_S."),
        ({7: 1}, "POSTBACK has an unknown key 'int'"),
        ({"BROKER_URL": 6379}, "POSTBACK['BROKER_URL'] must be a URL such as redis://127.0.0.1:6379/0, not int."),
        ({"BROKER_URL": "amqp://u:s3cret@host"}, "POSTBACK['BROKER_URL'] must be a URL that begins with redis://"),
        ({"BROKER_URL": "redis://:s3/cret@host/0"}, "POSTBACK['BROKER_URL'] cannot be read: percent-encode"),
        ({"ACCOUNTS": 5}, "POSTBACK['ACCOUNTS'] must be a path or a dict of provider to account names, not int."),
        ({"ACCOUNTS": "/nowhere.toml"}, "POSTBACK['ACCOUNTS']: cannot read /nowhere.toml: No such file"),
        ({"ACCOUNTS": {"tgtrak": ["main"]}}, "has an unknown provider 'tgtrak': did you mean 'tgtrack'?"),
        ({"ACCOUNTS": {"tgtrack": "main"}}, "POSTBACK['ACCOUNTS'] must give a list of names for 'tgtrack', not str."),
        (
            {"ACCOUNTS": {"tgtrack": ["a.b"]}},
            "POSTBACK['ACCOUNTS']: a name for 'tgtrack' must have 1 to 64 of the characters",
        ),
        ({"SEND_TIMEOUT_S": "2"}, "POSTBACK['SEND_TIMEOUT_S'] must be a number above 0 and at most 3600, not str."),
        ({"SEND_TIMEOUT_S": 0}, "POSTBACK['SEND_TIMEOUT_S'] must be a number above 0 and at most 3600."),
        ({"OUTBOX": 5}, "POSTBACK['OUTBOX'] must be a dict, not int."),
        ({"OUTBOX": {"BATCHES": 5}}, "POSTBACK['OUTBOX'] has an unknown key 'BATCHES': did you mean 'BATCH'?"),
        ({"OUTBOX": {"BATCH": True}}, "POSTBACK['OUTBOX']['BATCH'] must be a whole number from 1 to 500, not bool."),
        ({"OUTBOX": {"BATCH": 501}}, "POSTBACK['OUTBOX']['BATCH'] must be a whole number from 1 to 500."),
        ({"OUTBOX": {"POLL_S": float("nan")}}, "POSTBACK['OUTBOX']['POLL_S'] must be a number above 0"),
        ({"OUTBOX": {"KEEP_DAYS": -1}}, "POSTBACK['OUTBOX']['KEEP_DAYS'] must be a number from 0 to 36500."),
    ],
)
def test_wrong_settings(site: None, given: Any, sentence: str) -> None:
    """Each is one error that names the key and holds no secret."""
    (message,) = told(given)
    assert sentence in message
    assert "cret" not in message


def test_everything_wrong_is_told_at_once(site: None) -> None:
    """Nobody mends one key after the other."""
    assert len(told({"A": 1, "SEND_TIMEOUT_S": 0, "OUTBOX": {"B": 1, "BATCH": 0}})) == 4


def test_right_settings(site: None, tmp_path: Path) -> None:
    """Nothing is said about them, and None leaves a value to the environment."""
    (tmp_path / "accounts.toml").write_text("[tgtrack.main]\napi_key = 'x'\n")
    assert told({"BROKER_URL": "redis://h", "ACCOUNTS": tmp_path / "accounts.toml", "SEND_TIMEOUT_S": None}) == []
    assert told({"BROKER_URL": "rediss://h", "ACCOUNTS": {"tgtrack": ("main", "shop")}, "OUTBOX": {"BATCH": 1}}) == []


def test_nobody_says_where_redis_is(site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning names the default; a broker in the environment will do."""
    monkeypatch.delenv("POSTBACK_BROKER_URL", raising=False)
    assert told({})[0].startswith("postback.W001 POSTBACK has no 'BROKER_URL' and POSTBACK_BROKER_URL is not set")
    monkeypatch.setenv("POSTBACK_BROKER_URL", "redis://127.0.0.1/0")
    assert told({}) == []


def test_manage_check_fails(site: None) -> None:
    """``manage.py check`` ends with the sentence."""
    with override_settings(POSTBACK={"BROKER": 1}), pytest.raises(SystemCheckError, match="did you mean 'BROKER_URL'"):
        call_command("check")


def test_missing_tables(site: None) -> None:
    """``check --database`` says what to run; a migrated database is fine."""
    from postback.contrib.django.checks import check_tables

    (warning,) = check_tables(None, databases=["default", "empty"])
    assert warning.id == "postback.W002"
    assert "'empty'" in warning.msg
    assert warning.hint == "Run manage.py migrate postback."


def test_no_changes_without_a_migration(site: None) -> None:
    """The models and the shipped migrations agree."""
    call_command("makemigrations", "postback", check=True, dry_run=True, verbosity=0)


def test_the_words_change_no_table(site: None) -> None:
    """The migration for the words that the admin shows runs no statement on a large table."""
    out = io.StringIO()
    call_command("sqlmigrate", "postback", "0002", stdout=out)
    statements = [line for line in out.getvalue().splitlines() if line and not line.startswith("--")]
    assert statements == ["BEGIN;", "COMMIT;"]


@pytest.mark.parametrize("way", ["delay", "delay_via_outbox"])
def test_wrong_settings_send_nothing(alias: str, rows: Any, way: str) -> None:
    """A process that runs no checks refuses to send: it would send to the wrong Redis."""
    with (
        override_settings(POSTBACK={"BROKER": "redis://h"}),
        pytest.raises(ConfigurationError, match="did you mean 'BROKER_URL'"),
    ):
        getattr(EVENT, way)()
    assert rows.count() == 0


def test_settings_are_applied(broker: redis.Redis, site: None, redis_server: RedisServer) -> None:
    """Events go where the settings say, only to accounts that they name; override_settings ends
    with its block.
    """
    with override_settings(POSTBACK={"BROKER_URL": redis_server.url, "ACCOUNTS": {"tgtrack": ["shop"]}}):
        EVENT.delay()
        with pytest.raises(postback.UnknownAccount):
            tgtrack.AddEvent(user_id="1", event_type="x", account="main").delay()
    assert len(messages(broker, "tgtrack.shop")) == 1
    with pytest.raises(postback.NotEnqueued):
        EVENT.delay()


# Sending on commit


def test_commit_sends(alias: str, broker: redis.Redis) -> None:
    """Not before, and with the options."""
    with transaction.atomic(using=alias):
        EVENT.delay_on_commit(using=alias, task_id="mine", idempotency_key="order-17")
        assert messages(broker) == []
    (sent,) = messages(broker)
    assert (sent.id, sent.key) == ("mine", "order-17")


def test_rollback_sends_nothing(alias: str, broker: redis.Redis) -> None:
    """The event is gone with the order."""
    with rolled_back(alias):
        EVENT.delay_on_commit(using=alias)
    assert messages(broker) == []


def test_redis_is_away_at_the_commit(alias: str, site: None, caplog: pytest.LogCaptureFixture) -> None:
    """The commit stands, the hooks behind it run, nothing is raised, and one ERROR line names the
    event's id.
    """
    postback.configure(broker_url="redis://:s3cret@127.0.0.1:1/0")
    after: list[int] = []
    with transaction.atomic(using=alias):
        EVENT.delay_on_commit(using=alias, task_id="mine")
        transaction.on_commit(lambda: after.append(1), using=alias)
    assert after == [1]
    (record,) = [record for record in caplog.records if record.name == "postback"]
    assert record.levelname == "ERROR"
    assert "mine was not sent after the commit" in record.getMessage()
    assert "s3cret" not in caplog.text
    assert "987654321" not in caplog.text


def test_a_full_account_at_the_commit(alias: str, broker: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    """The commit stands, and one ERROR line names the event's id, the account and its cap."""
    broker.hset(keys.ACCOUNTS, "tgtrack.main", '{"max_queued": 1}')
    for task_id in ("first", "second"):
        with transaction.atomic(using=alias):
            EVENT.delay_on_commit(using=alias, task_id=task_id)
    (record,) = [record for record in caplog.records if record.name == "postback"]
    assert record.levelname == "ERROR"
    assert "second was not sent after the commit" in record.getMessage()
    assert "tgtrack.main has its max_queued of 1 events waiting" in record.getMessage()
    assert "987654321" not in caplog.text
    assert len(messages(broker)) == 1


def test_a_wrong_option_fails_before_the_commit(alias: str, broker: redis.Redis) -> None:
    """So that the order is rolled back, as for any other mistake in the view."""
    with pytest.raises(TypeError), transaction.atomic(using=alias):
        EVENT.delay_on_commit(using=alias, foo=1)


def test_what_is_on_commit_has_an_id(alias: str, broker: redis.Redis) -> None:
    """The result names the event before it is sent, and is that of the message."""
    with transaction.atomic(using=alias):
        result = EVENT.delay_on_commit(using=alias)
        assert messages(broker) == []
    assert [message.id for message in messages(broker)] == [result.id]
    assert (result.provider, result.has_result) == ("tgtrack", False)


WAYS = ["delay_on_commit", "delay_via_outbox"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("known_by", ["workers", "code"])
def test_an_unknown_account_fails_before_the_commit(
    alias: str, broker: redis.Redis, rows: Any, redis_server: RedisServer, way: str, known_by: str
) -> None:
    """The view hears of it while it can still roll back, with what was meant."""
    if known_by == "workers":
        broker.hset(keys.ACCOUNTS, "tgtrack.shop", "{}")
    else:
        postback.configure(broker_url=redis_server.url, accounts={"tgtrack": ["shop"]})
    event = tgtrack.AddEvent(user_id="987654321", event_type="x", account="shp")
    with pytest.raises(postback.UnknownAccount, match=r"did you mean shop\?"), transaction.atomic(using=alias):
        getattr(event, way)(using=alias)
    assert messages(broker) == []
    assert not rows.exists()


@pytest.mark.parametrize("way", WAYS)
def test_an_account_is_not_checked_while_redis_is_away(
    alias: str, site: None, rows: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The transaction goes on, and waits for Redis once, not at each event."""
    postback.configure(broker_url="redis://127.0.0.1:1/0")
    asked: list[str] = []
    producer = current("tgtrack")
    choose = producer.accounts.choose
    monkeypatch.setattr(producer.accounts, "choose", lambda *names: (asked.append(names[0]), choose(*names))[1])
    with rolled_back(alias):
        for _ in range(5):
            assert getattr(EVENT, way)(using=alias).id
    assert asked == ["tgtrack"]


@pytest.mark.parametrize("way", WAYS)
def test_wrong_settings_fail_before_the_commit(alias: str, broker: redis.Redis, rows: Any, way: str) -> None:
    """A process without system checks loses no event in a hook."""
    with override_settings(POSTBACK={"BROKR_URL": ""}), transaction.atomic(using=alias):
        with pytest.raises(postback.ConfigurationError, match="BROKER_URL"):
            getattr(EVENT, way)(using=alias)
        assert not rows.exists()


def test_on_commit_without_django() -> None:
    """The error says what to install."""
    code = "import sys; sys.modules['django'] = None" + SEND.replace("delay_via_outbox", "delay_on_commit")
    assert run(code).startswith("delay_on_commit needs Django: install postback with the extra [django]")


# The command


def test_once(alias: str, broker: redis.Redis, redis_server: RedisServer) -> None:
    """``--once`` moves what is there and says how much."""
    EVENT.delay_via_outbox(using=alias)
    out = io.StringIO()
    call_command("postback_relay", once=True, database=alias, stdout=out, skip_checks=True)
    assert out.getvalue() == "1 queued, 0 failed\n"
    assert len(messages(broker)) == 1


def test_once_without_redis(alias: str, site: None) -> None:
    """Cron hears of it by the exit status and one sentence."""
    postback.configure(broker_url="redis://:s3cret@127.0.0.1:1/0")
    EVENT.delay_via_outbox(using=alias)
    with pytest.raises(CommandError, match="is not in the queue") as caught:
        call_command("postback_relay", once=True, database=alias, stdout=io.StringIO())
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch": 0}, "--batch must be a whole number from 1 to 500"),
        ({"poll_s": 0.0}, "--poll-s must be a number above 0 and at most 3600"),
        ({"database": "nowhere"}, "DATABASES has no 'nowhere'"),
        ({"database": "empty"}, "run manage.py migrate postback --database empty"),
    ],
)
def test_wrong_usage(site: None, options: dict[str, Any], sentence: str) -> None:
    """One sentence and no traceback."""
    with pytest.raises(CommandError, match=re.escape(sentence)):
        call_command("postback_relay", once=True, **options)


def test_wrong_settings_stop_the_relay(site: None) -> None:
    """It would move the events to the wrong Redis."""
    with override_settings(POSTBACK={"BROKER": 1}), pytest.raises(CommandError, match="did you mean 'BROKER_URL'"):
        call_command("postback_relay", once=True, skip_checks=True)


# The admin


@pytest.fixture
def admin(site: None) -> Any:
    """A browser with an operator in it."""
    from django.contrib.auth.models import User
    from django.test import Client

    user, _ = User.objects.get_or_create(username="op", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(user)
    return client


PAGE = "/admin/postback/outboxevent/"


@pytest.fixture
def failed(site: None) -> Any:
    """One failed event and one that is queued."""
    from postback.contrib.django.models import OutboxEvent

    OutboxEvent.objects.all().delete()
    EVENT.delay_via_outbox(using="default", task_id="queued-one")
    OutboxEvent.objects.update(state="sent")
    row_id = EVENT.delay_via_outbox(using="default").id
    OutboxEvent.objects.filter(event_id=row_id).update(state="failed", error="UnknownAccount: …", attempts=1)
    return OutboxEvent.objects.get(event_id=row_id)


def test_the_list_hides_people(admin: Any, failed: Any) -> None:
    """State, reason and a shortened user are there; the user's id and the wire form are not, also
    on the event's page.
    """
    for page in (PAGE, f"{PAGE}{failed.seq}/change/"):
        html = admin.get(page).content.decode()
        assert "98…21" in html
        assert "UnknownAccount" in html
        assert "987654321" not in html


def test_the_pages_say_queued(admin: Any, failed: Any) -> None:
    """What Redis has is queued. Sent would claim that it is delivered."""
    queued = type(failed).objects.get(event_id="queued-one")
    for page in (PAGE, f"{PAGE}{queued.seq}/change/"):
        text = re.sub(r"<[^>]*>", " ", admin.get(page).content.decode())
        assert re.search(r"\bqueued\b", text)
        assert not re.search(r"\bsent\b", text, re.IGNORECASE)


def test_the_list_filters(admin: Any, failed: Any) -> None:
    """By state, and by id in the search field."""
    assert "queued-one" not in admin.get(PAGE + "?state__exact=failed").content.decode()
    html = admin.get(PAGE + "?q=queued-one").content.decode()
    assert "1 outbox event" in html


def test_queue_again(admin: Any, failed: Any) -> None:
    """Failed events wait for the relay again; a queued one is left alone."""
    from postback.contrib.django.models import OutboxEvent

    chosen = [str(seq) for seq in OutboxEvent.objects.values_list("seq", flat=True)]
    answer = admin.post(PAGE, {"action": "queue_again", "_selected_action": chosen}, follow=True).content.decode()
    assert "Will be queued again: 1." in answer
    assert "Left alone, already in Redis: 1." in answer
    failed.refresh_from_db()
    assert (failed.state, failed.error, failed.attempts) == ("pending", "", 0)


def test_nothing_is_added_or_changed_by_hand(admin: Any, failed: Any) -> None:
    """Events come from code: there is no form for a new one, and a page's fields are text."""
    assert admin.get(PAGE + "add/").status_code == 403
    admin.post(f"{PAGE}{failed.seq}/change/", {"state": "sent", "task": "x"})
    failed.refresh_from_db()
    assert failed.state == "failed"


# Tests of a project


@pytest.mark.parametrize("way", ["delay_on_commit", "delay_via_outbox"])
def test_collected_on_commit(alias: str, rows: Any, way: str) -> None:
    """postback.testing collects what a committed transaction sends, however it sends it; nothing is
    written or sent.
    """
    with collect() as outbox:
        with transaction.atomic(using=alias):
            getattr(EVENT, way)(using=alias, priority=0)
            assert outbox == []
        assert outbox == [EVENT]
        assert outbox.sent[0].options["priority"] == 0
    assert rows.count() == 0


@pytest.mark.parametrize("way", ["delay_on_commit", "delay_via_outbox"])
def test_not_collected_on_rollback(alias: str, way: str) -> None:
    """As it would not be sent."""
    with collect() as outbox:
        with rolled_back(alias):
            getattr(EVENT, way)(using=alias)
        assert outbox == []


def test_collected_in_djangos_test_case(site: None) -> None:
    """Where the test's own transaction never commits, captureOnCommitCallbacks runs the hooks."""
    from django.test import TestCase

    with collect() as outbox, TestCase.captureOnCommitCallbacks(execute=True), transaction.atomic():
        EVENT.delay_via_outbox()
    assert outbox == [EVENT]


def test_the_id_is_known_at_once(alias: str) -> None:
    """A collected event has the id that the caller got, and no result to wait for."""
    with collect() as outbox:
        result = EVENT.delay_via_outbox(using=alias)
        with pytest.raises(NoResult):
            result.get()
    assert outbox.sent[0].id == result.id


# Without the app


def run(script: str) -> str:
    """What a Python process says to a script."""
    import subprocess
    import sys

    root = Path(__file__).parents[4]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("POSTBACK_", "DJANGO_"))}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SEND = """
from postback import tgtrack, ConfigurationError
try:
    tgtrack.AddEvent(user_id="1", event_type="x").delay_via_outbox()
except ConfigurationError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "before",
    [
        "",
        "import django; from django.conf import settings; settings.configure(INSTALLED_APPS=[]); django.setup()",
        "import sys; sys.modules['django'] = None",
    ],
)
def test_without_the_app(before: str) -> None:
    """The error says what to install."""
    assert run(before + SEND).startswith(
        "delay_via_outbox needs Django (install postback with the extra [django]) with 'postback.contrib.django'"
    )
