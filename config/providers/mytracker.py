"""myTracker: its policy."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from config.policy import Credential, Policy

POLICY: Final = Policy(
    provider="mytracker",
    # Source: myTracker, Import events, Methods: ?idApp=N in the URL, the token in the Authorization
    # header.
    credentials=(Credential("id_app", "number"), Credential("token", "header")),
    base_urls=MappingProxyType({"": "https://tracker-s2s.my.com"}),
    version_path="/v1",
    # Source: myTracker, Import events, registrationBatch/loginBatch/customEventBatch: "Array.
    # Maximum size 20".
    batch_max=20,
    batch_limit=20,
    # Source: myTracker, Import events: "Limit on the maximum size of imported data — 10Kb".
    # Decision: 10,000 bytes, right for either meaning of Kb.
    max_bytes=10_000,
    max_bytes_limit=10_000,
)
