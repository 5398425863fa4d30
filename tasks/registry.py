"""The providers' delivery modules by name. A new provider is one more line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tasks.mytracker import MyTracker
from tasks.provider import Provider
from tasks.tganalytics import TGAnalytics
from tasks.tgtrack import TGTrack
from tasks.tonai import TonAI
from tasks.tonapi import TonAPI

PROVIDERS: Final[Mapping[str, Provider]] = {
    provider.name: provider for provider in (TGTrack(), MyTracker(), TGAnalytics(), TonAI(), TonAPI())
}
