"""One policy per provider: where it is, what it asks for, how fast it may be asked and when to give up.

These are the defaults of every account; the accounts file may override most of them. Each number has its ``Source:`` (a
provider's document and section) or says that it is a decision of ours. "PROVIDERS" below is the provider's own document
as read in ``docs/``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from config.windows import Window, parse_windows

#: Seconds in a day.
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Credential:
    """A key of the accounts file that says who we are to the provider."""

    name: str
    #: Where it travels, hence which characters it may have: a URL path segment, an HTTP header, a JSON text, or a whole
    #: number in a URL.
    place: Literal["path", "header", "text", "number"]
    required: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What holds for all accounts of one provider unless an account overrides it. Times are in seconds."""

    provider: str
    credentials: tuple[Credential, ...]
    #: Environment name -> scheme and host. A provider with one host has it under ``""``; a provider with several has no
    #: default among them.
    base_urls: Mapping[str, str]
    #: Path that people may append to ``base_url``, as providers' documents do; it is taken off, the task adds it.
    version_path: str = ""

    #: Quota windows of an account with all its credentials; empty: the provider names no limit.
    windows: tuple[Window, ...] = ()
    #: Quota windows of an account that leaves an optional credential out.
    anonymous_windows: tuple[Window, ...] = ()

    #: Events in one request, default and most; 1 and 1 where the provider has no batch form.
    batch_max: int = 1
    batch_limit: int = 1
    #: Bytes of a batch's JSON body as sent (UTF-8), default and most. A single event goes out whatever its size: the
    #: event's class has checked it. Decision for all but myTracker: one cap for everyone, small enough to log, store
    #: and replay.
    max_bytes: int = 10_000
    max_bytes_limit: int = 1_000_000
    #: How long an incomplete batch waits for companions. Decision: unnoticed by people, and 20 times fewer requests
    #: under load.
    linger_s: float = 1.0

    #: Decision: no provider names a time limit. A healthy answer takes under a second; ten of them show a provider that
    #: will not answer.
    connect_timeout_s: float = 5.0
    #: The whole request, name look-up to the last byte.
    timeout_s: float = 10.0
    #: How long a taken message is held before it counts as lost with its worker. Decision: timeout_s, the pool's wait,
    #: and room for a slow settle.
    lease_s: float = 30.0

    #: Attempts of one event that failed by its own fault or the provider's; waiting for a quota is none. Decision: with
    #: doubling from 1 s, some minutes.
    max_attempts: int = 8
    #: First back-off; it doubles, with full jitter, up to ``backoff_max_s``. Decision.
    backoff_s: float = 1.0
    backoff_max_s: float = 300.0
    #: Failures in a row after which the account counts as in outage and is probed instead of tried. Decision: two could
    #: be chance, five are not.
    outage_after: int = 5
    #: True: after a failure the account pauses for the back-off and the same event is tried again before any other one.
    retry_in_place: bool = False

    #: First and longest wait between two looks at an answer that is not final; doubling. Decision: a TON trace takes
    #: some 5 to 30 s.
    poll_s: float = 2.0
    poll_max_s: float = 30.0
    #: When a look-up that is still not final is given up (``not_final``). Decision.
    deadline_s: float = 600.0
    #: When an event that never got through is given up (``exhausted``). Decision: longer than a holiday, shorter than
    #: anyone's interest.
    max_age_s: float = 7 * DAY_S
    #: Whether an event without a trustworthy answer is sent again (at least once) or becomes a dead letter (at most
    #: once). Decision: a lost conversion costs more than a double one, which is flagged ``possible_duplicate``.
    on_ambiguous: Literal["send", "dead"] = "send"
    #: How long an idempotency key is remembered. Decision: as long as an event may live.
    dedup_s: float = 7 * DAY_S
    #: Days after a user's start in which a goal still counts (TGTrack).
    #: Source: TGTrack service API, send_reach_goal: «Цель можно передавать в течение 21 дня с момента подписки … или
    #: старта вашего бота».
    goal_days: int = 21

    def windows_for(self, given: Collection[str]) -> tuple[Window, ...]:
        """Quota windows of an account with the credentials ``given`` (names)."""
        complete = all(credential.name in given for credential in self.credentials)
        return self.windows if complete else self.anonymous_windows


_TGTRACK: Final = Policy(
    provider="tgtrack",
    # Source: TGTrack service API, «Запрос к API»: https://bot-api.tgtrack.ru/v1/API_КЛЮЧ/МЕТОД_API, one key per channel
    # or bot.
    credentials=(Credential("api_key", "path"),),
    base_urls=MappingProxyType({"": "https://bot-api.tgtrack.ru"}),
    version_path="/v1",
    # Source: TGTrack service API, «Лимиты на использование API»: by default 3 requests a second, 500 an hour, 5000 a
    # day for each key.
    windows=parse_windows("3/second; 500/hour; 5000/day"),
)

_MYTRACKER: Final = Policy(
    provider="mytracker",
    # Source: myTracker, Import events, Methods: ?idApp=N in the URL, the token in the Authorization header.
    credentials=(Credential("id_app", "number"), Credential("token", "header")),
    base_urls=MappingProxyType({"": "https://tracker-s2s.my.com"}),
    version_path="/v1",
    # Source: myTracker, Import events, registrationBatch/loginBatch/customEventBatch: "Array. Maximum size 20".
    batch_max=20,
    batch_limit=20,
    # Source: myTracker, Import events: "Limit on the maximum size of imported data — 10Kb". Decision: 10,000 bytes,
    # right for either meaning of Kb.
    max_bytes=10_000,
    max_bytes_limit=10_000,
)

_TGANALYTICS: Final = Policy(
    provider="tganalytics",
    # Source: Telegram Analytics, API, POST events: header TGA-Auth-Token; app_name "that you specified when creating
    # the token".
    credentials=(Credential("token", "header"), Credential("app_name", "text")),
    base_urls=MappingProxyType({"": "https://tganalytics.xyz"}),
    version_path="/events",
    # Source: Telegram Analytics, API, Body: "may contain an array", no length given. Decision: 20, as many as the
    # official browser SDK sends.
    batch_max=20,
    # Decision: no limit is documented; beyond 100 one refused event makes too many others wait.
    batch_limit=100,
)

_TONAI: Final = Policy(
    provider="tonai",
    # Source: TON AI, API for Reporting Conversion Events, Request Parameters: header x-api-key.
    credentials=(Credential("api_key", "header"),),
    # Source: TON AI, Service Host Address. Its own curl example uses staging, so neither is a default.
    base_urls=MappingProxyType({"production": "https://app.ton.ai", "staging": "https://staging.ton.ai"}),
    # Source: TON AI, Important Considerations: "you may retry shortly, but avoid excessive retries". Decision: two
    # retries, after 2 s and 4 s.
    max_attempts=3,
    backoff_s=2.0,
    # Decision: the account pauses with the event, so that an outage costs a handful of requests and not three for each
    # event of a backlog.
    outage_after=3,
    retry_in_place=True,
)

_TONAPI: Final = Policy(
    provider="tonapi",
    credentials=(Credential("token", "header", required=False),),
    # Source: TonAPI, Get event: GET https://tonapi.io/v2/events/{event_id}.
    base_urls=MappingProxyType({"": "https://tonapi.io"}),
    version_path="/v2",
    # Source: TonAPI, rate limits (public site): 1 request per 4 seconds without a token, the plan's requests per second
    # with one; the smallest is 1.
    windows=parse_windows("1/second"),
    anonymous_windows=parse_windows("1 per 4 seconds"),
)

#: Provider -> its policy, in the order in which providers are shown.
POLICIES: Final[Mapping[str, Policy]] = MappingProxyType(
    {policy.provider: policy for policy in (_TGTRACK, _MYTRACKER, _TGANALYTICS, _TONAI, _TONAPI)}
)

#: Names of all providers, in the order in which they are shown.
PROVIDERS: Final[tuple[str, ...]] = tuple(POLICIES)
