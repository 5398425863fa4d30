"""``python -m workers.journal`` as a process: started wrongly, without a database, cut off."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from postback.journal.location import journal_url
from postback.journal.query import Query
from postback.journal.store import Store
from postback.wire import keys
from tests.shared.postgres import PostgresServer
from workers.devkit import ROOT, Stack, environment, until

STREAM = keys.journal("tgtrack")


def write(client: Any, name: str) -> None:
    at_ms = int(time.time() * 1000)
    record = {
        "grant": f"g-{name}",
        "at": at_ms,
        "queue": "tgtrack.main",
        "outcome": "delivered",
        "events": [{"id": name}],
    }
    client.xadd(STREAM, {"record": json.dumps(record)})


def ids(url: str) -> set[str]:
    store = Store.reading(url)
    try:
        return {entry.id for entry in store.entries(Query())}
    finally:
        store.close()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("POSTBACK_JOURNAL_URL", "mysql://root:Secret-pw-91@db/journal"),
        ("POSTBACK_JOURNAL_URL", "sqlite://"),
        ("POSTBACK_JOURNAL_URL", "Secret-pw-91"),
        ("POSTBACK_JOURNAL_DAYS", "0"),
        ("POSTBACK_BROKER_URL", "http://x"),
    ],
)
def test_a_wrong_setting(variable: str, value: str, tmp_path: Path) -> None:
    """It ends with 2 and one sentence that names the variable, without its value."""
    done = subprocess.run(
        [sys.executable, "-m", "workers.journal"], cwd=ROOT, env=environment(**{variable: value}),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"postback: {variable}")
    assert "Secret" not in done.stdout + done.stderr


def test_a_newer_form(tmp_path: Path) -> None:
    """A database that a newer Postback has written is left alone."""
    import sqlalchemy as sa

    url = f"sqlite:///{tmp_path / 'journal.sqlite3'}"
    Store.writing(url).close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE postback_journal_version SET version_num = '9999'")
    engine.dispose()
    done = subprocess.run(
        [sys.executable, "-m", "workers.journal"], cwd=ROOT, env=environment(POSTBACK_JOURNAL_URL=url),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "is a newer Postback's" in done.stderr


def test_it_ends_when_told(tmp_path: Path) -> None:
    """SIGTERM: it ends with 0, and another one writes at once."""
    with Stack() as stack:
        first = stack.start_journal()
        assert first.stop(15) == 0
        begun = time.monotonic()
        stack.start_journal()
        assert time.monotonic() - begun < 8  # less than the right of a killed one lasts


def test_two_of_them() -> None:
    """One writes; when it is killed, the other one goes on."""
    with Stack() as stack:
        client = stack.client()
        first = stack.start_journal()
        second = stack.launch_journal().wait_for("stands by")
        first.kill()
        write(client, "after")
        second.wait_for("writes the journal of", 20)
        until(lambda: client.xlen(STREAM) == 0, 20, "the record is moved")
        assert ids(stack.journal_url) == {"after"}


def test_redis_goes_and_comes() -> None:
    """It says so once, and goes on by itself."""
    with Stack(appendonly=True) as stack:
        journal = stack.start_journal()
        stack.redis.kill()
        journal.wait_for("is away", 30)
        stack.redis.start()
        client = stack.client()
        write(client, "later")
        until(lambda: client.xlen(STREAM) == 0, 40, "the record is moved")
        assert ids(stack.journal_url) == {"later"}
        assert journal.alive
        assert "Traceback" not in journal.text()


def test_postgres_comes_later() -> None:
    """Without its database it waits, and says so once, without the password."""
    server = PostgresServer()
    url = server.url.replace("postback@", "postback:Secret-pg-7f2@")
    with Stack() as stack:
        client = stack.client()
        write(client, "early")
        journal = stack.launch_journal(POSTBACK_JOURNAL_URL=url)
        journal.wait_for("records wait in Redis", 60)
        assert client.xlen(STREAM) == 1
        try:
            server.start()
            until(lambda: client.xlen(STREAM) == 0, 60, "the record is moved")
            assert ids(journal_url({"POSTBACK_JOURNAL_URL": url})) == {"early"}
        finally:
            journal.process.send_signal(signal.SIGKILL)
            server.stop()
        assert journal.text().count("records wait in Redis") == 1
        assert "Secret-pg-7f2" not in journal.text()


def test_a_password_in_the_log(tmp_path: Path) -> None:
    """What a driver says of a refused password has none in it."""
    url = "postgresql://ann:Secret-pw-91@127.0.0.1:1/journal"
    with Stack() as stack:
        journal = stack.launch_journal(POSTBACK_JOURNAL_URL=url)
        journal.wait_for("records wait in Redis", 60)
        assert "Secret-pw-91" not in journal.text()
        done = stack.postback("find", "--id", "x", POSTBACK_JOURNAL_URL=url)
        assert done.returncode == 2
        assert "cannot be used now" in done.stderr
        assert "Secret-pw-91" not in done.stderr + done.stdout
