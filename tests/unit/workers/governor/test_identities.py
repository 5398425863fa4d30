"""Whose key and quota an account has, as a worker finds it (ADR 33)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fakeredis
import pytest

from config.accounts import Account, build_account
from postback.operations.queues import Announced
from postback.wire import keys
from workers.governor.identities import Identities

KEYS: dict[str, dict[str, Any]] = {
    "tgtrack": {"api_key": "Secret-a"},
    "mytracker": {"id_app": 1, "token": "Secret-a"},
    "tonapi": {},
}


def account(queue: str, **table: Any) -> Account:
    provider, _, name = queue.partition(".")
    return build_account(provider, name, {**KEYS[provider], **table})


def served(*accounts: Account) -> dict[str, Account]:
    return {one.queue: one for one in accounts}


def told(queue: str, identities: Identities, one: Account) -> Announced:
    """As another worker announces it."""
    identity = identities.of(one)
    return Announced(queue, 0, one.windows, 1, 0, identity.quota, identity.credential)


@pytest.fixture
def redis() -> fakeredis.FakeRedis:
    return fakeredis.FakeRedis()


@pytest.fixture
def identities(redis: fakeredis.FakeRedis) -> Identities:
    found = Identities()
    found.learn(redis)
    return found


class TestFingerprint:
    def test_of_one_redis(self, redis: fakeredis.FakeRedis, identities: Identities) -> None:
        """Workers that have never heard of each other come to the same name, which tells nothing of
        the key.
        """
        other = Identities()
        assert other.learn(redis)
        name = identities.of(account("tgtrack.a")).credential
        assert other.of(account("tgtrack.b")).credential == name
        assert name.startswith("key.")
        assert "Secret" not in name

    def test_of_another_redis(self, identities: Identities) -> None:
        """The same key has another name there."""
        other = Identities()
        other.learn(fakeredis.FakeRedis())
        assert other.of(account("tgtrack.a")) != identities.of(account("tgtrack.a"))

    def test_a_redis_that_has_forgotten(self, redis: fakeredis.FakeRedis, identities: Identities) -> None:
        """Who knows the key of fingerprints writes it back."""
        before = redis.get(keys.FINGERPRINTS)
        redis.flushall()
        assert not identities.learn(redis)
        assert redis.get(keys.FINGERPRINTS) == before

    def test_somebody_was_faster(self, redis: fakeredis.FakeRedis, identities: Identities) -> None:
        """Of two keys the one that stands in Redis holds, and every name is made anew."""
        one = account("tgtrack.a")
        before = identities.of(one)
        redis.set(keys.FINGERPRINTS, b"another")
        assert identities.learn(redis)
        assert identities.of(one) != before

    @pytest.mark.parametrize("change", [{"token": "Secret-b"}, {"id_app": 2}])
    def test_all_that_it_presents(self, identities: Identities, change: Mapping[str, Any]) -> None:
        """Another token, or the same one for another app, is another credential."""
        one, other = account("mytracker.a"), account("mytracker.b", **change)
        assert identities.of(one).credential != identities.of(other).credential

    def test_no_token_is_no_credential(self, identities: Identities) -> None:
        """Two accounts without a token share nothing."""
        one, other = (identities.of(account(f"tonapi.{name}")) for name in "ab")
        assert (one.quota, other.quota) == ("account.a", "account.b")


class TestQuota:
    def test_of_its_own(self, identities: Identities) -> None:
        """A key has a quota of its own."""
        identity = identities.of(account("tgtrack.a"))
        assert identity.quota == identity.credential

    def test_by_name(self, identities: Identities) -> None:
        """Two keys share a quota, and not their health."""
        accounts = [account(f"tonapi.{name}", token=name, quota="plan") for name in "ab"]
        identities.serve(served(*accounts))
        one, other = map(identities.of, accounts)
        assert one.quota == other.quota == "name.plan"
        assert one.credential != other.credential

    def test_by_the_name_that_another_account_of_the_key_has(self, identities: Identities) -> None:
        """One key has one quota: that of the account which names it."""
        one, other = account("tgtrack.a"), account("tgtrack.b", quota="plan")
        identities.serve(served(one, other))
        assert identities.of(one).quota == identities.of(other).quota == "name.plan"

    def test_by_the_name_that_another_file_has(self, redis: fakeredis.FakeRedis, identities: Identities) -> None:
        """The same across workers."""
        elsewhere = Identities()
        elsewhere.learn(redis)
        one, theirs = account("tgtrack.a"), account("tgtrack.b", quota="plan")
        identities.serve(served(one))
        identities.update({"tgtrack.b": told("tgtrack.b", elsewhere, theirs)})
        assert identities.of(one).quota == "name.plan"

    def test_the_stricter_limits_hold(self, redis: fakeredis.FakeRedis, identities: Identities) -> None:
        """Of each length the smaller one, whoever has it."""
        one = account("tgtrack.a", limits="3/second; 900/hour")
        theirs = account("tgtrack.b", limits="5/second; 500/hour; 5000/day")
        identities.serve(served(one))
        identities.update({"tgtrack.b": told("tgtrack.b", identities, theirs)})
        assert [window.text for window in identities.of(one).windows] == ["3/second", "500/hour", "5000/day"]


class TestWarnings:
    def test_the_same_key(self, identities: Identities) -> None:
        """It names both, once, and no key."""
        accounts = served(account("tgtrack.a"), account("tgtrack.b"))
        identities.serve(accounts)
        (warning,) = identities.update({queue: told(queue, identities, one) for queue, one in accounts.items()})
        assert warning == "tgtrack.a and tgtrack.b have the same key: they share one quota and one health"
        assert (
            identities.update({"tgtrack.c": told("tgtrack.c", identities, account("tgtrack.c", api_key="other"))}) == []
        )

    def test_other_limits(self, identities: Identities) -> None:
        """Accounts that share a quota and disagree."""
        accounts = [
            account(f"tonapi.{name}", token=name, quota="plan", limits=f"{number}/second")
            for number, name in enumerate("ab", 1)
        ]
        identities.serve(served(*accounts))
        (warning,) = identities.update({"tonapi.a": told("tonapi.a", identities, accounts[0])})
        assert warning == (
            "tonapi.a and tonapi.b share one quota and have different limits: the stricter hold (1/second)"
        )

    def test_many(self, identities: Identities) -> None:
        """Of very many a few are named."""
        accounts = served(*(account(f"tgtrack.a{number}") for number in range(10)))
        identities.serve(accounts)
        (warning,) = identities.update({"tgtrack.a0": told("tgtrack.a0", identities, accounts["tgtrack.a0"])})
        assert "tgtrack.a4 and 5 more have the same key" in warning

    @pytest.mark.parametrize("other", ["tgtrack.b", "mytracker.a"])
    def test_nothing_to_warn_of(self, identities: Identities, other: str) -> None:
        """Another key, or the same word at another provider."""
        accounts = served(account("tgtrack.a", api_key="Secret-c"), account(other))
        identities.serve(accounts)
        assert identities.update({queue: told(queue, identities, one) for queue, one in accounts.items()}) == []

    def test_an_account_that_is_gone(self, identities: Identities) -> None:
        """What was removed from the file is no reason for a warning."""
        identities.serve(served(account("tgtrack.a"), account("tgtrack.b")))
        identities.serve(served(account("tgtrack.a")))
        assert (
            identities.update({"tgtrack.x": told("tgtrack.x", identities, account("tgtrack.x", api_key="other"))}) == []
        )
