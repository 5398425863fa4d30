"""The providers' delivery modules by name. A new provider is one more line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tasks.providers.base import Provider
from tasks.providers.mytracker import MyTracker
from tasks.providers.tganalytics import TGAnalytics
from tasks.providers.tgtrack import TGTrack
from tasks.providers.tonai import TonAI
from tasks.providers.tonapi import TonAPI

PROVIDERS: Final[Mapping[str, Provider]] = {
    provider.name: provider for provider in (TGTrack(), MyTracker(), TGAnalytics(), TonAI(), TonAPI())
}
