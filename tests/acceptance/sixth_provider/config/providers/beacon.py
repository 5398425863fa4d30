"""Beacon: its policy."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from config.policy import Credential, Policy, Setting
from postback.wire.windows import parse_windows

#: Where Beacon keeps an account's visits. Source: Beacon, "Regions".
REGION: Final = Setting("region", "eu", words=("eu", "us"))

POLICY: Final = Policy(
    provider="beacon",
    # Source: Beacon, "Keys": the header X-Beacon-Key.
    credentials=(Credential("key", "header"),),
    # Source: Beacon, "Reporting visits".
    base_urls=MappingProxyType({"": "https://api.beacon.example"}),
    # Source: Beacon, "Limits": five requests a second and 3000 an hour for each key.
    windows=parse_windows("5/second; 3000/hour"),
    own=(REGION,),
)
