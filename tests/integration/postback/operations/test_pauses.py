"""Pause and resume against the workers' own scripts."""

from __future__ import annotations

import time

import pytest

import postback
from config.accounts import build_account
from postback import tgtrack
from postback.operations import pause, resume, snapshot
from postback.wire import keys
from tasks.envelopes import open_envelope
from tasks.rulings import PUT_BACK, Again
from tests.integration.workers.governor.crew import Given, answer
from workers.governor import Governor, State
from workers.upkeep.announce import announce_accounts

QUEUE = "tgtrack.main"


@pytest.fixture
def governor(govern):
    return govern(QUEUE)


def settle(governor: Governor, given: Given) -> None:
    (grant,) = governor.grants
    grant.settlement = given.to(grant)
    governor.settle(grant)


def test_pause_and_resume(desk, governor, command):
    """A paused account gives nothing to its workers; a resumed one gives one request first."""
    desk.announce(QUEUE)
    postback.send_many([tgtrack.AddEvent(user_id="1", event_type="sale")] * 3)
    assert command("pause", QUEUE, "--detail", "new key") == 0
    taken = governor.take(QUEUE, 3)
    assert (taken.grants, taken.state, taken.wait_ms) == ([], State.PAUSED, None)
    (account,) = snapshot(desk.client).accounts
    assert (account.paused.reason, account.paused.detail, account.paused.until_ms) == ("operator", "new key", None)
    assert command("resume", QUEUE) == 0
    assert "it was paused: operator" in command.out
    assert len(governor.take(QUEUE, 3).grants) == 1


def test_a_429_does_not_end_it(desk, governor):
    """An answer that comes after the pause does not shorten it."""
    postback.send_many([tgtrack.AddEvent(user_id="1", event_type="sale")] * 3)
    governor.take(QUEUE, 1)
    pause(desk.client, QUEUE)
    settle(governor, answer(PUT_BACK, health="quota", retry_after_s=0.0))
    assert governor.take(QUEUE, 1).state is State.PAUSED


def test_events_held_aside(desk, governor):
    """Events of a run of failures go first after a resume, the oldest first, and keep their
    attempts.
    """
    ids = [tgtrack.AddEvent(user_id="1", event_type="sale").delay().id for _ in range(4)]
    for _ in range(2):
        governor.take(QUEUE, 1)
        settle(governor, answer(Again(60, ""), health="fail", detail="503"))
    assert desk.client.zcard(keys.held(QUEUE)) == 2
    done = resume(desk.client, QUEUE)
    assert (done.was_paused, done.released) == (False, 2)
    governor.take(QUEUE, 0)
    assert desk.queued_ids() == ids
    state = open_envelope(desk.client.lindex(keys.priority_list(QUEUE, 3), -1)).state
    assert (state.attempts, state.tries) == (1, 0)
    assert desk.client.hget(keys.meta(QUEUE), "fails") is None


def test_refused_credentials(desk, governor, command):
    """A pause for refused credentials ends by resume; pausing it again keeps its reason."""
    desk.announce(QUEUE)
    tgtrack.AddEvent(user_id="1", event_type="sale").delay()
    governor.take(QUEUE, 1)
    settle(governor, answer(PUT_BACK, health="refused", detail="401"))
    assert command("pause", QUEUE) == 0
    assert "was already paused (credentials)" in command.out
    assert snapshot(desk.client).of(QUEUE).paused.reason == "credentials"
    assert resume(desk.client, QUEUE).reason == "credentials"
    assert len(governor.take(QUEUE, 1).grants) == 1


def test_a_refused_key_of_two_accounts(desk, govern):
    """Resuming one account ends the pause of its key: the other is asked at once, too."""
    accounts = {f"tgtrack.{name}": build_account("tgtrack", name, {"api_key": "k"}) for name in ("main", "shop")}
    for account in accounts.values():
        tgtrack.AddEvent(user_id="1", event_type="sale", account=account.name).delay()
    main, shop = (govern(queue) for queue in accounts)
    main.take(QUEUE, 1)
    settle(main, answer(PUT_BACK, health="refused", detail="401"))
    assert shop.take("tgtrack.shop", 1).grants == []
    announce_accounts(desk.client, accounts, main.identities, "test")
    assert {snapshot(desk.client).of(queue).paused.reason for queue in accounts} == {"credentials"}
    place = keys.schedule("tgtrack")
    assert desk.client.zscore(place, "tgtrack.shop") > time.time() * 1000 + 30_000
    assert resume(desk.client, QUEUE).reason == "credentials"
    assert desk.client.zscore(place, "tgtrack.shop") < time.time() * 1000 + 1000
    assert len(shop.take("tgtrack.shop", 1).grants) == 1


def test_a_whole_provider(desk, command):
    """A provider's name means all of its accounts, announced or not."""
    desk.announce(QUEUE)
    desk.client.lpush("tgtrack.ghost", b"x")
    assert command("pause", "tgtrack") == 0
    assert [account.paused.reason for account in snapshot(desk.client).accounts] == ["operator", "operator"]
    assert command("resume", "tgtrack") == 0
    assert [account.paused for account in snapshot(desk.client).accounts] == [None, None]


@pytest.mark.parametrize("verb", ["pause", "resume"])
@pytest.mark.parametrize(
    ("target", "code", "told"),
    [
        ("tgtrack.mian", 2, "tgtrack has no account 'mian'; did you mean main?"),
        ("tgtrack.dead", 2, "tgtrack has no account 'dead'; accounts are main"),
        ("tgtrack.", 2, "tgtrack has no account ''"),
        ("tonapi.ghosts", 2, "tonapi has no account 'ghosts'; did you mean ghost?"),
        ("tonai.dead", 2, "tonai has no account 'dead'; accounts are not known yet"),
        ("tonai", 1, "tonai has no account yet"),
        ("nobody.main", 2, "no such provider 'nobody'"),
    ],
)
def test_wrong_names(verb, target, code, told, desk, command):
    """A name that is none is refused with the nearest, and nothing is written."""
    desk.announce(QUEUE)
    desk.client.lpush("tonapi.ghost", b"x")
    before = sorted(desk.client.keys())
    assert command(verb, target) == code
    assert told in command.err
    assert len(command.err.splitlines()) == 1
    assert sorted(desk.client.keys()) == before


def test_before_its_worker_ever_ran(desk, command):
    """An account may be paused where nothing is known of its provider yet."""
    assert command("pause", QUEUE) == 0
    assert desk.client.hget(keys.meta(QUEUE), "paused") == b"-1"


def test_an_orphan(desk, command):
    """An account that no worker has announced, but that has events or dead letters, is one."""
    desk.announce(QUEUE)
    desk.client.lpush("tgtrack.ghost", b"x")
    desk.sales(1, account="shop")
    for queue in ("tgtrack.ghost", "tgtrack.shop"):
        assert command("pause", queue) == 0
        assert command("resume", queue) == 0
