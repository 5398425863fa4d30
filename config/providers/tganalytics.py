"""Telegram Analytics: its policy."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from config.policy import Credential, Policy

POLICY: Final = Policy(
    provider="tganalytics",
    # Source: Telegram Analytics, API, POST events: header TGA-Auth-Token; app_name "that you
    # specified when creating the token".
    credentials=(Credential("token", "header"), Credential("app_name", "text")),
    base_urls=MappingProxyType({"": "https://tganalytics.xyz"}),
    version_path="/events",
    # Source: Telegram Analytics, API, Body: "may contain an array", no length given. Decision: 20,
    # as many as the official browser SDK sends.
    batch_max=20,
    # Decision: no limit is documented; beyond 100 one refused event makes too many others wait.
    batch_limit=100,
)
