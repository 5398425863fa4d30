from __future__ import annotations

import dataclasses
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.accounts import Account, Accounts, build_account, load_accounts
from config.policy import Setting
from config.providers import POLICIES, PROVIDERS
from postback.errors import ConfigurationError
from postback.wire import keys

#: Declares a setting of TGTrack's.
Declare = Callable[[Setting[Any]], None]

SECRET = "s3cr3t-0f-s0m30n3"

#: The least that each provider's account needs.
LEAST: dict[str, dict[str, object]] = {
    "tgtrack": {"api_key": "key"},
    "mytracker": {"id_app": 666, "token": "token"},
    "tganalytics": {"token": "token", "app_name": "docs"},
    "tonai": {"api_key": "key", "environment": "production"},
    "tonapi": {},
}


def make(provider: str = "tgtrack", name: str = "main", **overrides: object) -> Account:
    return build_account(provider, name, LEAST[provider] | overrides)


def refusal(text: str, tmp_path: Path, environ: dict[str, str] | None = None) -> str:
    path = tmp_path / "accounts.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_accounts(path, environ or {})
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


class TestFile:
    """The file as a whole."""

    def test_missing(self, tmp_path: Path) -> None:
        """A missing file is named, with the way to make one."""
        with pytest.raises(
            ConfigurationError, match=r"none\.toml: no such accounts file; copy config/accounts\.example"
        ):
            load_accounts(tmp_path / "none.toml", {})

    def test_directory(self, tmp_path: Path) -> None:
        """A directory, which Docker makes of a missing mount, is told in a sentence."""
        with pytest.raises(ConfigurationError, match="cannot read the accounts file: Is a directory"):
            load_accounts(tmp_path, {})

    def test_not_utf8(self, tmp_path: Path) -> None:
        """A file in another encoding is told in a sentence."""
        path = tmp_path / "accounts.toml"
        path.write_bytes('[tgtrack.main]\napi_key = "ключ"'.encode("cp1251"))
        with pytest.raises(ConfigurationError, match="not UTF-8"):
            load_accounts(path, {})

    def test_not_toml(self, tmp_path: Path) -> None:
        """A syntax error is told with its line and without the line's text."""
        told = refusal(f"[tgtrack.main]\napi_key = {SECRET}", tmp_path)
        assert told.startswith("not valid TOML:")
        assert "line 2" in told
        assert SECRET not in told

    def test_empty(self, tmp_path: Path) -> None:
        """A file without an account is refused."""
        assert refusal("# nothing yet\n", tmp_path).startswith("names no account")

    def test_unknown_provider(self, tmp_path: Path) -> None:
        """A misspelled provider is told with the right spelling."""
        assert "[tgtrak] is not a provider; did you mean tgtrack?" in refusal('[tgtrak.main]\napi_key = "k"', tmp_path)

    def test_no_account_name(self, tmp_path: Path) -> None:
        """Credentials directly under the provider are told what is missing, and not shown."""
        told = refusal(f'[tgtrack]\napi_key = "{SECRET}"', tmp_path)
        assert told == "[tgtrack] api_key: an account needs a name, such as [tgtrack.main]"

    def test_provider_is_no_table(self, tmp_path: Path) -> None:
        """A provider that is not a table is refused without its value."""
        assert (
            refusal(f'tgtrack = "{SECRET}"', tmp_path) == "tgtrack must be a table of accounts such as [tgtrack.main]"
        )

    def test_other_providers_secrets(self, tmp_path: Path) -> None:
        """A worker reads its own provider's tables only: it needs no other provider's secrets."""
        path = tmp_path / "accounts.toml"
        path.write_text('[tgtrack.main]\napi_key = "env:TG"\n[tonai.main]\napi_key = "env:NOT_HERE"\n')
        assert list(load_accounts(path, {"TG": "key"}, provider="tgtrack")) == ["tgtrack.main"]
        with pytest.raises(ConfigurationError, match="NOT_HERE"):
            load_accounts(path, {"TG": "key"})

    def test_one_key_with_two_quotas(self, tmp_path: Path) -> None:
        """A key has one quota: two names for it are a contradiction, which names both accounts and
        no key.
        """
        table = '[tgtrack.{}]\napi_key = "' + SECRET + '"\nquota = "{}"\n'
        text = refusal(table.format("a", "one") + table.format("b", "two"), tmp_path)
        assert text == "[tgtrack.b] quota: has the same key as [tgtrack.a], so it cannot have another quota"

    def test_example(self) -> None:
        """The example file is right and has an account of every provider."""
        example = Path("config/accounts.example.toml")
        environ = dict.fromkeys(re.findall(r'"env:(\w+)"', example.read_text(encoding="utf-8")), "x")
        accounts = load_accounts(example, environ)
        assert {account.provider for account in accounts.values()} == set(PROVIDERS)

    def test_example_names_every_override(self) -> None:
        """The example file shows every key that an account may override, with its default."""
        example = Path("config/accounts.example.toml").read_text(encoding="utf-8")
        identity = {"provider", "name", "credentials", "windows", "own_settings"}
        names = {field.name for field in dataclasses.fields(Account)} - identity
        names |= {setting.name for policy in POLICIES.values() for setting in policy.own}
        assert {name for name in names if f"# {name} = " not in example} == set()

    def test_lookup(self) -> None:
        """Accounts are found by queue, by provider, and by provider and name."""
        accounts = Accounts([make(), make(name="shop"), make("tonapi")])
        assert list(accounts) == ["tgtrack.main", "tgtrack.shop", "tonapi.main"]
        assert [account.name for account in accounts.of("tgtrack")] == ["main", "shop"]
        assert accounts.of("tonai") == ()
        assert accounts.find("tgtrack", "shop") is accounts["tgtrack.shop"]
        assert accounts.find("tgtrack", "none") is None


class TestEnvironment:
    """Values that are read from the environment."""

    def test_unset(self, tmp_path: Path) -> None:
        """A variable that is not set is named, with the table and the key."""
        told = refusal('[tgtrack.main]\napi_key = "env:TG_KEY"', tmp_path)
        assert told == "[tgtrack.main] api_key: the environment variable TG_KEY is not set"

    @pytest.mark.parametrize("value", ["", "  \n"])
    def test_empty(self, value: str, tmp_path: Path) -> None:
        """An empty variable is no credential."""
        told = refusal('[tgtrack.main]\napi_key = "env:TG_KEY"', tmp_path, {"TG_KEY": value})
        assert told == "[tgtrack.main] api_key: the environment variable TG_KEY is empty"

    @pytest.mark.parametrize(
        "key", ["limits", "timeout_s", "base_url", "environment", "on_ambiguous", "retry_in_place", "id_app"]
    )
    def test_wrong_place(self, key: str, tmp_path: Path) -> None:
        """A secret that is named in the place of another setting is not shown."""
        provider = "mytracker" if key == "id_app" else "tonai"
        rest = 'token = "t"' if key == "id_app" else 'api_key = "k"'
        if key not in ("id_app", "environment"):
            rest += '\nenvironment = "staging"'
        told = refusal(f'[{provider}.main]\n{rest}\n{key} = "env:KEY"', tmp_path, {"KEY": SECRET})
        assert key in told
        assert SECRET not in told

    def test_values(self) -> None:
        """Text, numbers and flags may all come from the environment; a line break at the end is
        dropped.
        """
        environ = {"K": "key\n", "T": "7.5", "B": "true", "L": "9/second"}
        table = {"api_key": "env:K", "timeout_s": "env:T", "retry_in_place": "env:B", "limits": "env:L"}
        account = build_account("tgtrack", "main", table, environ)
        assert account.credentials["api_key"].reveal() == "key"
        assert (account.timeout_s, account.retry_in_place, account.windows[0].limit) == (7.5, True, 9)


class TestNames:
    """What an account may be called."""

    @pytest.mark.parametrize("name", ["", "a.b", "a b", "имя", "a\n", "a/b", "x" * 65])
    def test_characters(self, name: str) -> None:
        """Other characters than letters, digits, _ and - are refused: a name is part of Redis
        keys.
        """
        with pytest.raises(ConfigurationError, match="the name must have 1 to 64 of the characters"):
            make(name=name)

    @pytest.mark.parametrize("name", sorted(keys.RESERVED_NAMES))
    def test_reserved(self, name: str) -> None:
        """A name that Postback's own keys use is refused."""
        with pytest.raises(ConfigurationError, match=f'the name must not be "{name}"'):
            make(name=name)

    def test_queue(self) -> None:
        """The queue is the provider's and the account's name."""
        assert make("mytracker", "Game_2-x").queue == "mytracker.Game_2-x"


class TestCredentials:
    """Who we are to the provider."""

    @pytest.mark.parametrize(
        ("provider", "key"),
        [
            ("tgtrack", "api_key"),
            ("mytracker", "id_app"),
            ("mytracker", "token"),
            ("tganalytics", "token"),
            ("tganalytics", "app_name"),
            ("tonai", "api_key"),
        ],
    )
    def test_missing(self, provider: str, key: str) -> None:
        """A credential that the provider requires must be there."""
        table = {name: value for name, value in LEAST[provider].items() if name != key}
        with pytest.raises(ConfigurationError, match=rf"^\[{provider}\.main\] {key}: is missing"):
            build_account(provider, "main", table)

    def test_misspelled(self) -> None:
        """A misspelled credential is told as such."""
        with pytest.raises(ConfigurationError, match=r"api_key: is missing; is apikey meant for it\?"):
            build_account("tgtrack", "main", {"apikey": SECRET})

    @pytest.mark.parametrize("value", ["a/b", "a?b", "a#b", "a b", "a%2e", "..", ".", "a\r\nb", "ключ", ""])
    def test_path_segment(self, value: str) -> None:
        """A key that would change the URL's path is refused: it would ask another address."""
        with pytest.raises(ConfigurationError, match="api_key"):
            make(api_key=value)

    @pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a b", "ключ", ""])
    def test_header(self, value: str) -> None:
        """A token that would end its HTTP header is refused, and not shown."""
        with pytest.raises(ConfigurationError, match="token") as caught:
            make("mytracker", token=value)
        assert not value or value not in str(caught.value)

    @pytest.mark.parametrize("value", [0, -1, 1.5, True, "12a", [1]])
    def test_number(self, value: object) -> None:
        """``id_app`` is a whole number, 1 or more."""
        with pytest.raises(ConfigurationError, match=r"\[mytracker\.main\] id_app"):
            make("mytracker", id_app=value)

    @pytest.mark.parametrize("value", [666, "666"])
    def test_number_spellings(self, value: object) -> None:
        """``id_app`` may be a number or its digits in a string."""
        assert make("mytracker", id_app=value).credentials["id_app"].reveal() == "666"

    @pytest.mark.parametrize("value", [1, True, ["k"], {"k": "v"}])
    def test_type(self, value: object) -> None:
        """A credential of another type is refused."""
        with pytest.raises(ConfigurationError, match="api_key: must be a string, not"):
            make(api_key=value)

    def test_not_shown(self) -> None:
        """An account shows no credential, in a log line or a traceback, and cannot be pickled or
        written as JSON.
        """
        account = make(api_key=SECRET)
        assert SECRET not in f"{account} {account!r} {Accounts([account])}"
        with pytest.raises(TypeError):
            pickle.dumps(account)
        with pytest.raises(TypeError):
            json.dumps(vars(account))

    def test_frozen(self) -> None:
        """Neither an account nor its credentials can be changed."""
        account = make()
        with pytest.raises(dataclasses.FrozenInstanceError):
            account.timeout_s = 1.0  # type: ignore[misc]
        with pytest.raises(TypeError):
            account.credentials["api_key"] = account.credentials["api_key"]  # type: ignore[index]


class TestQuotas:
    @pytest.mark.parametrize("value", ["", "a b", "ä", "x" * 65, 5, "meta"])
    def test_no_name(self, value: object) -> None:
        """A quota's name is made like an account's."""
        with pytest.raises(ConfigurationError, match=r"\[tgtrack\.main\] quota: "):
            make(quota=value)

    def test_named(self) -> None:
        """Absent: the key's own."""
        assert (make(quota="plan").quota, make().quota) == ("plan", "")


class TestOverrides:
    """Numbers and words that an account may set for itself."""

    @pytest.mark.parametrize(
        ("key", "meant"), [("timout_s", "timeout_s"), ("limit", "limits"), ("max_attempt", "max_attempts")]
    )
    def test_unknown_key(self, key: str, meant: str) -> None:
        """A misspelled key is told with the right spelling."""
        with pytest.raises(
            ConfigurationError, match=rf"\[tgtrack\.main\] {key}: .* no such key; did you mean {meant}\?"
        ):
            make(**{key: 1})

    @pytest.mark.parametrize(
        ("provider", "key"),
        [("tgtrack", "environment"), ("tgtrack", "token"), ("tonapi", "id_app"), ("tonai", "goal_days")],
    )
    def test_other_providers_key(self, provider: str, key: str) -> None:
        """Another provider's key is unknown here."""
        with pytest.raises(ConfigurationError, match=f"{key}: {provider} accounts have no such key"):
            make(provider, **{key: "production"})

    @pytest.mark.parametrize(
        "key", ["timeout_s", "lease_s", "linger_s", "max_attempts", "backoff_s", "poll_s", "deadline_s", "max_age_s"]
    )
    @pytest.mark.parametrize("value", ["10", True, -1, float("nan"), float("inf"), 10**400, [], {}])
    def test_not_a_number(self, key: str, value: object) -> None:
        """Strings, flags, negative, infinite and endless numbers are refused, naming the key."""
        with pytest.raises(ConfigurationError, match=rf"^\[tgtrack\.main\] {key}: "):
            make(**{key: value})

    @pytest.mark.parametrize("key", ["max_attempts", "batch_max", "outage_after", "max_bytes"])
    @pytest.mark.parametrize("value", [0, 1.5])
    def test_not_whole(self, key: str, value: float) -> None:
        """Counts are whole and not zero."""
        with pytest.raises(ConfigurationError, match=rf"\[mytracker\.main\] {key}: "):
            make("mytracker", **{key: value})

    @pytest.mark.parametrize("value", [-1, 1.5, 10**10, "9", True])
    def test_no_cap_of_waiting_events(self, value: object) -> None:
        """`max_queued` is a whole number, 0 for none."""
        with pytest.raises(ConfigurationError, match=r"\[mytracker\.main\] max_queued: "):
            make("mytracker", max_queued=value)

    @pytest.mark.parametrize(
        ("provider", "key", "value"),
        [
            ("mytracker", "batch_max", 21),
            ("mytracker", "max_bytes", 10_001),
            ("tgtrack", "batch_max", 2),
            ("tonapi", "batch_max", 20),
        ],
    )
    def test_over_the_providers_limit(self, provider: str, key: str, value: int) -> None:
        """What the provider would refuse is refused here."""
        with pytest.raises(ConfigurationError, match=key):
            make(provider, **{key: value})

    @pytest.mark.parametrize("overrides", [{"lease_s": 15}, {"timeout_s": 25}, {"timeout_s": 60, "lease_s": 65}])
    def test_short_lease(self, overrides: dict[str, object]) -> None:
        """A lease that could end while its request is on the way is refused: the event would be
        sent twice.
        """
        with pytest.raises(ConfigurationError, match=r"lease_s: .* must exceed timeout_s"):
            make(**overrides)

    @pytest.mark.parametrize(
        "overrides", [{"backoff_s": 10, "backoff_max_s": 9}, {"poll_s": 10, "poll_max_s": 9}, {"connect_timeout_s": 11}]
    )
    def test_order(self, overrides: dict[str, object]) -> None:
        """A most below its least is refused."""
        with pytest.raises(ConfigurationError, match="is not between"):
            make(**overrides)

    @pytest.mark.parametrize("value", ["0/second", "3/fortnight", "", 3, ["3/second"]])
    def test_bad_limits(self, value: object) -> None:
        """A limits notation that means nothing is refused, naming the key."""
        with pytest.raises(ConfigurationError, match=r"^\[tgtrack\.main\] limits: "):
            make(limits=value)

    @pytest.mark.parametrize("value", ["keep", "", 1, True])
    def test_bad_choice(self, value: object) -> None:
        """``on_ambiguous`` is one of two words."""
        with pytest.raises(ConfigurationError, match='on_ambiguous: must be "send" or "dead"'):
            make(on_ambiguous=value)

    def test_effect(self) -> None:
        """What an account sets holds, and what it leaves out is the policy's."""
        account = make("mytracker", batch_max=5, linger_s=0, on_ambiguous="dead", limits="9/minute", timeout_s=3)
        assert (account.batch_max, account.linger_s, account.on_ambiguous, account.timeout_s) == (5, 0.0, "dead", 3.0)
        assert account.connect_timeout_s == 3.0
        assert [window.text for window in account.windows] == ["9/minute"]
        assert account.max_attempts == POLICIES["mytracker"].max_attempts


class TestOwnSettings:
    """Settings that one provider declares for its accounts."""

    #: One of each kind, the value that an account gives it, and values that it cannot have.
    KINDS = (
        (Setting("days", 21, low=1, high=30), 7, [0, 31, 1.5, "7", True]),
        (Setting("share", 0.5, low=0, high=1), 0.25, [-0.1, 2, "0.25", False]),
        (Setting("test_mode", False), True, [1, "true", []]),
        (Setting("region", "eu", words=("eu", "us")), "us", ["asia", "", 5]),
    )
    each_kind = pytest.mark.parametrize(
        ("setting", "value", "wrong"), KINDS, ids=[setting.name for setting, *_ in KINDS]
    )

    @pytest.fixture
    def declare(self, monkeypatch: pytest.MonkeyPatch) -> Declare:
        """Makes TGTrack's policy declare a setting and no other."""

        def declare(setting: Setting[Any]) -> None:
            policies = {**POLICIES, "tgtrack": dataclasses.replace(POLICIES["tgtrack"], own=(setting,))}
            monkeypatch.setattr("config.accounts.POLICIES", policies)

        return declare

    @each_kind
    def test_value(self, declare: Declare, setting: Setting[Any], value: object, wrong: list[object]) -> None:
        """An account's value holds, and its declared default where it has none."""
        declare(setting)
        assert make(**{setting.name: value}).own(setting) == value
        assert make().own(setting) == setting.default

    @each_kind
    def test_wrong(self, declare: Declare, setting: Setting[Any], value: object, wrong: list[object]) -> None:
        """A value of another kind or out of bounds is refused, naming the key."""
        declare(setting)
        for one in wrong:
            with pytest.raises(ConfigurationError, match=rf"^\[tgtrack\.main\] {setting.name}: "):
                make(**{setting.name: one})

    @each_kind
    def test_elsewhere(self, declare: Declare, setting: Setting[Any], value: object, wrong: list[object]) -> None:
        """Another provider's account has no such key, and no such value."""
        declare(setting)
        with pytest.raises(ConfigurationError, match=f"{setting.name}: tonapi accounts have no such key"):
            make("tonapi", **{setting.name: value})
        with pytest.raises(KeyError):
            make("tonapi").own(setting)

    def test_misspelled(self) -> None:
        """A misspelled one is told with the right spelling."""
        with pytest.raises(ConfigurationError, match=r"goal_day: .* did you mean goal_days\?"):
            make(goal_day=3)


class TestLimits:
    """Default quotas."""

    def test_tgtrack(self) -> None:
        """TGTrack's three windows hold without being configured."""
        assert [window.text for window in make().windows] == ["3/second", "500/hour", "5000/day"]

    @pytest.mark.parametrize(("table", "text"), [({}, "1 per 4 seconds"), ({"token": "t"}, "1/second")])
    def test_tonapi(self, table: dict[str, object], text: str) -> None:
        """TonAPI's quota depends on whether there is a token."""
        assert [window.text for window in make("tonapi", **table).windows] == [text]

    @pytest.mark.parametrize("provider", ["mytracker", "tganalytics", "tonai"])
    def test_none(self, provider: str) -> None:
        """A provider that names no limit has no window."""
        assert make(provider).windows == ()


class TestBaseUrl:
    """Where the requests go."""

    @pytest.mark.parametrize(
        "value", ["", "127.0.0.1:8900", "ftp://host", "http://", "http://ho st", "http://h:99999", "redis://h", 8900]
    )
    def test_not_http(self, value: object) -> None:
        """Only an http(s) address will do."""
        with pytest.raises(ConfigurationError, match="base_url"):
            make(base_url=value)

    @pytest.mark.parametrize("value", [f"https://u:{SECRET}@h", f"https://h/?key={SECRET}", f"https://h/#{SECRET}"])
    def test_secrets_in_it(self, value: str) -> None:
        """An address with a user, a query or a fragment is refused, and not shown."""
        with pytest.raises(ConfigurationError, match="base_url: must have no user") as caught:
            make(base_url=value)
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize(
        ("provider", "version"),
        [("tgtrack", "/v1"), ("mytracker", "/v1"), ("tonapi", "/v2"), ("tganalytics", "/events"), ("tonai", "")],
    )
    @pytest.mark.parametrize("slash", ["", "/"])
    @pytest.mark.parametrize("root", ["http://127.0.0.1:8900", "https://proxy.example/postback"])
    def test_spellings(self, provider: str, version: str, slash: str, root: str) -> None:
        """With or without the API version, with or without a slash: the same address."""
        assert make(provider, base_url=root + version + slash).base_url == root
        assert make(provider, base_url=root + slash).base_url == root

    def test_tonai_is_never_guessed(self) -> None:
        """TON AI's environment is required: a conversion sent to the wrong one is lost or real."""
        with pytest.raises(ConfigurationError, match='environment: is missing; it must be "production" or "staging"'):
            build_account("tonai", "main", {"api_key": "k"})

    @pytest.mark.parametrize("value", ["prod", "", "Production", 1])
    def test_tonai_bad_environment(self, value: object) -> None:
        """Another word is refused, with a base_url too."""
        for extra in ({}, {"base_url": "http://h"}):
            with pytest.raises(ConfigurationError, match="environment"):
                build_account("tonai", "main", {"api_key": "k", "environment": value, **extra})

    @pytest.mark.parametrize(
        ("table", "url"),
        [
            ({"environment": "production"}, "https://app.ton.ai"),
            ({"environment": "staging"}, "https://staging.ton.ai"),
            ({"base_url": "http://h"}, "http://h"),
            ({"base_url": "http://h", "environment": "production"}, "http://h"),
        ],
    )
    def test_tonai(self, table: dict[str, object], url: str) -> None:
        """The environment chooses the host; a base_url wins and needs none."""
        assert build_account("tonai", "main", {"api_key": "k", **table}).base_url == url
