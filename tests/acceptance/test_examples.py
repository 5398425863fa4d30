"""The Django shop, run from the wheel: a real site, a real relay, a real worker, and what the
provider recorded.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from postback.sandbox import Sandbox
from tests.shared.postgres import PostgresServer
from tests.shared.sites import PATIENCE_S, Site, settled, sites_stack
from tests.shared.wheel import run
from workers.devkit import Process, Stack, until


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Shared by the module's tests."""
    with sites_stack() as stack:
        yield stack


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


class Shop(Site):
    """The Django shop with its site running."""

    def relay(self) -> Process:
        """Start a relay."""
        return self.start("manage.py", "postback_relay", "--batch", "500", "--poll-s", "0.1")

    def stop_relays(self) -> None:
        """Leave only the site running."""
        server, *relays = self._processes
        for relay in relays:
            relay.kill()
        self._processes = [server]

    def buy(self, amount: int = 1500) -> int:
        """The status of a checkout."""
        return self.post("/orders", {"user_id": "98765", "amount": amount})[0]

    def fill(self, count: int) -> None:
        """Write orders' events without the site."""
        self.run(
            "manage.py", "shell", "-c",
            "from django.db import transaction\nfrom postback import tgtrack\n"
            "with transaction.atomic():\n"
            f"    for n in range({count}):\n"
            "        tgtrack.AddEvent(user_id='1', event_type='sale',"
            " labels=[{'name': 'order', 'value': str(n)}]).delay_via_outbox()",
        )  # fmt: skip

    def rows(self) -> Counter[str]:
        """The outbox's rows by state."""
        told = self.run(
            "manage.py", "shell", "-c",
            "import json\nfrom postback.contrib.django.models import OutboxEvent\n"
            "print('ROWS', json.dumps(list(OutboxEvent.objects.values_list('state', flat=True))))",
        )  # fmt: skip
        return Counter(json.loads(told.partition("ROWS")[2]))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def served(
    request: pytest.FixtureRequest, stack: Stack, wheel_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """The shop on each database, migrated, its site running."""
    env = {"POSTBACK_BROKER_URL": stack.redis.url, "SHOP_LEASE_S": "2"}
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        env |= {**server.env, "SHOP_DATABASE": "postgresql"}
    site = Shop("django_shop", tmp_path_factory.mktemp(request.param), wheel_python, env)
    try:
        site.run("manage.py", "migrate", "--verbosity", "0")
        site.serve("manage.py", "runserver", "--noreload", f"127.0.0.1:{site.port}")
        yield site
    finally:
        site.stop()


@pytest.fixture
def shop(served: Shop, stack: Stack) -> Iterator[Shop]:
    """The shop without orders, events and relays; Redis is up, the ledger empty."""
    served.run("manage.py", "flush", "--no-input")
    stack.redis.start()
    settled(stack)
    stack.sandbox.reset()
    served.log.write_bytes(b"")
    yield served
    served.stop_relays()
    stack.redis.start()


def orders(sandbox: Sandbox) -> Counter[str]:
    """How often the provider recorded each order."""
    return Counter(event["labels"][0]["value"] for event in sandbox.events("tgtrack", method="add_event"))


# The shop


def test_the_shops_own_tests(wheel_python: Path, tmp_path: Path) -> None:
    """They pass with the wheel and without Redis."""
    site = Shop("django_shop", tmp_path, wheel_python, {"POSTBACK_BROKER_URL": "redis://127.0.0.1:1/0"})
    site.run("manage.py", "test", "--verbosity", "0")


def test_commit_and_rollback(shop: Shop, stack: Stack) -> None:
    """A committed order's event reaches the provider once; a declined order leaves nothing in
    outbox, queue or ledger.
    """
    assert shop.buy() == 201
    assert shop.buy(100_001) == 402
    assert shop.run("manage.py", "postback_relay", "--once") == "1 queued, 0 failed\n"
    settled(stack)
    (event,) = stack.sandbox.events("tgtrack")
    assert (event["user_id"], event["amount"], event["event_result"]) == ("98765", 1500.0, "success")
    assert shop.rows() == {"sent": 1}


def test_a_lead_on_commit(shop: Shop, stack: Stack) -> None:
    """Its goal reaches the provider without any relay."""
    assert shop.post("/leads", {"user_id": "98765", "phone": "+7"})[0] == 201
    stack.sandbox.wait_for(lambda sandbox: sandbox.events("tgtrack", method="send_reach_goal"), PATIENCE_S)


def test_a_lead_while_redis_is_away(shop: Shop, stack: Stack) -> None:
    """The visitor gets the page of a committed lead, and the log says which event was lost."""
    stack.redis.kill()
    assert shop.post("/leads", {"user_id": "98765", "phone": "+7"})[0] == 201
    until(lambda: "was not sent after the commit" in shop.text(), PATIENCE_S, "a line in the log")
    assert "Traceback" not in shop.text()


def test_fifty_commits_while_redis_is_away(shop: Shop, stack: Stack) -> None:
    """With a relay running all the while, the provider has all 50 after Redis is back, each once
    and in order.
    """
    relay = shop.relay()
    stack.redis.kill()
    assert [shop.buy() for _ in range(50)] == [201] * 50
    assert shop.rows() == {"pending": 50}
    stack.redis.start()
    stack.sandbox.wait_for(lambda sandbox: len(orders(sandbox)) == 50, PATIENCE_S)
    settled(stack)
    assert set(orders(stack.sandbox).values()) == {1}
    assert relay.alive
    assert shop.text().count("the outbox waits and tries again") <= 1


def test_a_relay_killed_midway(shop: Shop, stack: Stack) -> None:
    """SIGKILL between two sends: another relay sends all again that were not marked, and the
    provider has each once.
    """
    shop.fill(2000)
    relay = shop.relay()
    stack.sandbox.wait_for(lambda sandbox: sandbox.events("tgtrack"), PATIENCE_S)
    relay.kill()
    assert shop.rows()["pending"] > 0
    shop.relay()
    stack.sandbox.wait_for(lambda sandbox: len(orders(sandbox)) == 2000, PATIENCE_S)
    until(lambda: shop.rows() == {"sent": 2000}, PATIENCE_S, "all rows marked", every_s=0.5)
    settled(stack)
    assert set(orders(stack.sandbox).values()) == {1}


def test_copies_in_the_queue(shop: Shop, stack: Stack) -> None:
    """Two copies of an event that wait side by side, as a killed relay leaves them, are one for the
    provider.
    """
    shop.fill(20)
    stack.sandbox.pause_listening()
    try:
        shop.run("manage.py", "postback_relay", "--once")
        shop.run(
            "manage.py", "shell", "-c",
            "from postback.contrib.django.models import OutboxEvent\n"
            "OutboxEvent.objects.update(state='pending', sent_at=None)",
        )  # fmt: skip
        assert shop.run("manage.py", "postback_relay", "--once") == "20 queued, 0 failed\n"
    finally:
        stack.sandbox.resume_listening()
    stack.sandbox.wait_for(lambda sandbox: len(orders(sandbox)) == 20, PATIENCE_S)
    settled(stack)
    assert set(orders(stack.sandbox).values()) == {1}


# A foreign Celery app


def test_a_raw_clients_event_is_delivered(stack: Stack, wheel_python: Path, tmp_path: Path) -> None:
    """``send_task`` from an app that does not know Postback: the worker validates, dates and
    delivers it.
    """
    stack.redis.start()
    stack.sandbox.reset()
    script = f"""
from celery import Celery
app = Celery("theirs", broker={stack.redis.url!r})
wire = {{"user_id": "1", "event_type": "sale"}}
app.send_task("tgtrack.add_event", kwargs={{"account": "main", "event": wire}}, queue="tgtrack.main")
"""
    run(str(wheel_python), "-c", script, cwd=tmp_path)
    stack.sandbox.wait_for(lambda sandbox: sandbox.events("tgtrack"), PATIENCE_S)
    (event,) = stack.sandbox.events("tgtrack")
    assert event.pop("date") > 0
    assert event == {"user_id": "1", "event_type": "sale"}
