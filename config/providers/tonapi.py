"""TonAPI: its policy."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from config.policy import Credential, Policy
from postback.wire.windows import parse_windows

POLICY: Final = Policy(
    provider="tonapi",
    credentials=(Credential("token", "header", required=False),),
    # Source: TonAPI, Get event: GET https://tonapi.io/v2/events/{event_id}.
    base_urls=MappingProxyType({"": "https://tonapi.io"}),
    version_path="/v2",
    # Source: TonAPI, rate limits (public site): 1 request per 4 seconds without a token, the plan's
    # requests per second with one; the smallest is 1.
    windows=parse_windows("1/second"),
    anonymous_windows=parse_windows("1 per 4 seconds"),
)
