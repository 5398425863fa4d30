from __future__ import annotations

import pytest

from config.policies import POLICIES, PROVIDERS, Policy


@pytest.mark.parametrize("policy", POLICIES.values(), ids=PROVIDERS)
class TestEveryPolicy:
    """What must hold for any provider, also one that is added later."""

    def test_lease(self, policy: Policy) -> None:
        """A lease outlasts the request and the pool's wait."""
        assert policy.lease_s > policy.timeout_s + 5
        assert policy.connect_timeout_s <= policy.timeout_s

    def test_batches(self, policy: Policy) -> None:
        """The default batch is within the provider's limit."""
        assert 1 <= policy.batch_max <= policy.batch_limit
        assert policy.max_bytes <= policy.max_bytes_limit

    def test_waits(self, policy: Policy) -> None:
        """Waits grow from their first to their longest."""
        assert policy.backoff_s <= policy.backoff_max_s
        assert policy.poll_s <= policy.poll_max_s < policy.deadline_s < policy.max_age_s

    def test_urls(self, policy: Policy) -> None:
        """Addresses are https, without a slash or a version: the tasks add the path."""
        for url in policy.base_urls.values():
            assert url.startswith("https://")
            assert url.count("/") == 2

    def test_immutable(self, policy: Policy) -> None:
        """A policy cannot be changed at run time."""
        with pytest.raises(AttributeError):
            policy.timeout_s = 1.0  # type: ignore[misc]
        with pytest.raises(TypeError):
            policy.base_urls["x"] = "y"  # type: ignore[index]


def test_tonai_is_careful() -> None:
    """TON AI asks for few retries: at most two, and the account waits with the event."""
    policy = POLICIES["tonai"]
    assert (policy.max_attempts, policy.backoff_s, policy.retry_in_place) == (3, 2.0, True)
    assert not any(other.retry_in_place for other in POLICIES.values() if other is not policy)


def test_batching_providers() -> None:
    """Only myTracker and Telegram Analytics take several events in a request."""
    assert {name for name, policy in POLICIES.items() if policy.batch_max > 1} == {"mytracker", "tganalytics"}
