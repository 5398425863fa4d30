from __future__ import annotations

import sys
from types import ModuleType

import pytest

import config.providers
import postback.sandbox.provider
import postback.sandbox.providers
import tasks.provider
import tasks.providers
from config.policy import Policy
from config.providers import POLICIES, PROVIDERS
from postback.errors import ConfigurationError


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


@pytest.mark.parametrize(
    ("provider", "events"), [("mytracker", 20), ("tganalytics", 20), ("tgtrack", 1), ("tonai", 1), ("tonapi", 1)]
)
def test_batching_providers(provider: str, events: int) -> None:
    """MyTracker and Telegram Analytics take twenty events in a request, the others one."""
    assert POLICIES[provider].batch_max == events


def test_in_order() -> None:
    """Providers come in alphabetical order, whatever finds them."""
    assert list(PROVIDERS) == sorted(PROVIDERS)


class TestFinding:
    """What a module of a provider must define."""

    @pytest.fixture
    def shop(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        """An empty module, there for each room."""
        module = ModuleType("shop")
        for room in ("config.providers", "tasks.providers", "postback.sandbox.providers"):
            monkeypatch.setitem(sys.modules, f"{room}.shop", module)
        return module

    @pytest.mark.parametrize("policy", [None, "a text", POLICIES["tonai"]])
    def test_no_policy_of_its_own(self, shop: ModuleType, policy: object) -> None:
        """A module without a policy, or with another provider's, is refused by its file's name."""
        shop.POLICY = policy  # type: ignore[attr-defined]
        with pytest.raises(ConfigurationError, match=r"^config/providers/shop\.py must define POLICY = "):
            config.providers._policy("shop")

    @pytest.mark.parametrize("value", [None, tasks.provider.Provider, type(tasks.providers.PROVIDERS["tonai"])])
    def test_no_delivery_of_its_own(self, shop: ModuleType, value: object) -> None:
        """So is one without a delivery class, with the base alone or with another provider's."""
        shop.Shop = value  # type: ignore[attr-defined]
        with pytest.raises(ConfigurationError, match=r'^tasks/providers/shop\.py must define .* "shop"$'):
            tasks.providers._provider("shop")

    @pytest.mark.parametrize(
        "value", [None, postback.sandbox.provider.Provider, postback.sandbox.providers.provider_classes()["tonai"]]
    )
    def test_no_server_of_its_own(self, shop: ModuleType, value: object) -> None:
        """So is one without a server in the sandbox."""
        shop.Shop = value  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match=r'^postback/sandbox/providers/shop\.py must define .* "shop"$'):
            postback.sandbox.providers._class("shop")
