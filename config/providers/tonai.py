"""TON AI: its policy."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from config.policy import Credential, Policy

POLICY: Final = Policy(
    provider="tonai",
    # Source: TON AI, API for Reporting Conversion Events, Request Parameters: header x-api-key.
    credentials=(Credential("api_key", "header"),),
    # Source: TON AI, Service Host Address. Its own curl example uses staging, so neither is a
    # default.
    base_urls=MappingProxyType({"production": "https://app.ton.ai", "staging": "https://staging.ton.ai"}),
    # Source: TON AI, Important Considerations: "you may retry shortly, but avoid excessive
    # retries". Decision: two retries, after 2 s and 4 s.
    max_attempts=3,
    backoff_s=2.0,
    # Decision: the account pauses with the event, so that an outage costs a handful of requests and
    # not three for each event of a backlog.
    outage_after=3,
    retry_in_place=True,
)
