"""An upgrade from the first edition: what it has left in Redis (``tests/acceptance/first_edition``)
is carried to its end by the code of today.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from postback import tonai
from postback.operations import resume, snapshot
from postback.wire import keys
from tests.acceptance.evidence import dead_letters, settled
from tests.acceptance.first_edition import restore
from workers.devkit import Stack, until

ACCOUNTS = {
    "tgtrack.main": {},
    "tgtrack.failing": {"api_key": "failing-key-1"},
    "tgtrack.outage": {"api_key": "outage-key-1"},
    "tgtrack.quota": {"api_key": "quota-key-1", "limits": "5 per 3600 seconds"},
    "mytracker.game": {},
    "tganalytics.docs": {},
    "tonai.main": {},
}
#: User -> how often the provider must get an event of theirs. "half-…" are myTracker's.
EXPECTED = Counter(
    [
        *(f"held-{n}" for n in range(2)),
        *(f"outage-{n}" for n in range(5)),
        *(f"delayed-{how}" for how in ("countdown", "raw", "retry", "poll")),
        *(f"flight-{n}" for n in range(2)),
        *(f"waiting-{n}" for n in range(3)),
        *(f"half-{n}" for n in range(6)),
        "waiting-start",
        "quota-5",
    ]
)
#: Those that may have been sent before, and say so.
FLAGGED = {"flight-0", "flight-1", "delayed-retry", "held-0", "held-1"}


@pytest.fixture
def upgraded() -> Iterator[Stack]:
    """An installation with the first edition's Redis; no worker yet."""
    with Stack(limits={"tgtrack": None}) as stack:
        for queue, settings in ACCOUNTS.items():
            stack.account(queue, **{"limits": "100000/second", **settings})
        stack.configure_producer()
        yield stack


def test_everything_is_carried_to_its_end(upgraded: Stack) -> None:
    """Waiting, delayed, held, halves, in flight: each delivered once, flagged where need be; keys,
    pauses and dead letters hold.
    """
    restore(upgraded.redis.client())
    # A larger limit at the upgrade: the quota log grows with what it knows.
    upgraded.account("tgtrack.quota", api_key="quota-key-1", limits="100000/second")
    upgraded.start_workers("tgtrack", "mytracker", "tganalytics", "tonai")
    for queue in [queue for queue in ACCOUNTS if not queue.startswith("tonai")]:
        settled(upgraded, queue, 60)
    arrived: Counter[str] = Counter(event["user_id"] for event in upgraded.sandbox.events("tgtrack"))
    arrived += Counter(event["customUserId"] for event in upgraded.sandbox.events("mytracker"))
    assert arrived == EXPECTED
    assert Counter(event["user_id"] for event in upgraded.sandbox.events("tganalytics")) == {0: 1, 1: 1, 2: 1}
    flagged = upgraded.logs().count("delivered, possible_duplicate")
    assert flagged == len(FLAGGED) + 3
    assert "duplicate of" in upgraded.logs()
    # Dead before, dead now, and good for a replay.
    (letter,) = dead_letters(upgraded, "tgtrack.main")
    assert (letter.reason, letter.event["user_id"]) == ("rejected", "dead")
    # The key was refused: it still waits for somebody.
    assert upgraded.waiting("tonai.main") == 1
    assert upgraded.sandbox.events("tonai") == []
    tonai.Conversion(telegram_user_id="17").delay()
    resume(upgraded.redis.client(), "tonai.main")
    settled(upgraded, "tonai.main")
    assert len(upgraded.sandbox.events("tonai")) == 1


def test_a_replay_of_an_old_dead_letter(upgraded: Stack) -> None:
    """`postback dead list` and `replay` read what the first edition buried."""
    restore(upgraded.redis.client())
    upgraded.start_workers("tgtrack")
    until(lambda: upgraded.postback("dead", "replay", "tgtrack").returncode == 0, 20)
    until(lambda: any(event["user_id"] == "dead" for event in upgraded.sandbox.events("tgtrack")), 20, "it arrives")
    assert upgraded.client().llen(keys.dead("tgtrack")) == 0


def test_an_old_quota_log_binds(upgraded: Stack) -> None:
    """Five of five an hour were spent just before the upgrade: no request goes, and `status` says
    so.
    """
    restore(upgraded.redis.client(), as_of_now=True)
    upgraded.start_workers("tgtrack")
    settled(upgraded, "tgtrack.main", 60)
    settled(upgraded, "tgtrack.failing", 60)
    assert "quota-5" not in {event["user_id"] for event in upgraded.sandbox.events("tgtrack")}
    status = snapshot(upgraded.redis.client()).of("tgtrack.quota")
    assert status.queued == 1
    assert [usage.used for usage in status.usage] == [5]
