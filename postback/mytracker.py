"""Events for myTracker's server-to-server API.

Attributes are snake_case, the provider's fields are camelCase. Numbers may be strings of digits, as
in the provider's own examples; they are sent as JSON numbers.

Source of every field and bound: myTracker, "Import events", "Parameters".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import ClassVar, Literal, get_args
from uuid import UUID

from postback._events.fields import ID_CHARS, integer, one_of, text, text_map
from postback._events.values import Id, Kept, Text
from postback._send.event import Event

__all__ = ["CustomEvent", "Login", "Registration", "VkPlatform"]

#: Bounds of ``eventTimestamp`` in unix seconds. Source: "Parameters", Common.
MIN_TIMESTAMP, MAX_TIMESTAMP = 946674000, 4294967295
#: Largest request body in bytes. Source: "Limit on the maximum size of imported data — 10Kb", read
#: as 10,000.
MAX_BYTES = 10_000

VkPlatform = Literal[
    "desktop_web",
    "mobile_web",
    "mobile_android",
    "mobile_android_messenger",
    "mobile_ipad",
    "mobile_iphone",
    "mobile_iphone_messenger",
]

#: What stands for a small number: its digits, as in the provider's examples, or an enum's member.
Digit = str | Enum
#: A device's identifier, 36 characters.
Device = str | UUID

#: A custom event needs one of them: it names the user or the device. Source: "customEvent",
#: required parameters.
IDENTIFIERS = ("custom_user_id", "instance_id", "lvid", "gaid", "android_id", "app_set_id", "idfa", "ios_vendor_id")


class MytrackerEvent(Event):
    """What all events of myTracker have in common.

    Args:
        event_timestamp: When it happened, in unix seconds. Left out: when it is sent.
        custom_user_id: The user's id in your app.
        ipv4: The user's IPv4 address.
        ipv6: The user's IPv6 address.
        id_gender: 0 unknown, 1 man, 2 woman.
        age: Years.
        connection_type: 0 unknown, 1 mobile, 2 wi-fi.
        bluetooth_enabled: 0 unknown, 1 on, 2 off.
        instance_id: S2S device identifier (mobile).
        ad_tracking_enabled: 1 if tracking is permitted.
        idfa: iOS advertising identifier.
        ios_vendor_id: iOS vendor identifier.
        gaid: Android advertising identifier.
        app_set_id: Android identifier, unique within a Google Play developer account.
        android_id: Android identifier.
        lvid: S2S device identifier (web).
        ad_blocker: 1 if an ad blocker is on.
        user_agent: The browser's User-Agent.
        custom_platform_user_id: VK id, for VK Mini Apps; goes with ``vk_platform``.
        vk_platform: Where in VK the event occurred.
    """

    provider: ClassVar[str] = "mytracker"
    time_field: ClassVar[str | None] = "event_timestamp"
    time_bytes: ClassVar[int] = len(',"eventTimestamp":4294967295')
    max_bytes: ClassVar[int] = MAX_BYTES

    event_timestamp: Kept[int | str | datetime | None, int | None] = integer(
        low=MIN_TIMESTAMP, high=MAX_TIMESTAMP, default=None, wire="eventTimestamp", digits=True, shown="plain"
    )
    custom_user_id: Kept[Id | None, str | None] = text(
        default=None,
        wire="customUserId",
        min_chars=1,
        max_chars=1024,
        whole_numbers=True,
        personal=True,
        label="user",
    )
    ipv4: Kept[Text | None, str | None] = text(default=None, max_chars=15)
    ipv6: Kept[Text | None, str | None] = text(default=None, max_chars=45)
    id_gender: Kept[Literal[0, 1, 2] | Digit | None, int | None] = one_of(
        0, 1, 2, default=None, wire="idGender", digits=True, shown="hidden"
    )
    age: Kept[int | Digit | None, int | None] = integer(low=0, high=128, default=None, digits=True)
    connection_type: Kept[Literal[0, 1, 2] | Digit | None, int | None] = one_of(
        0, 1, 2, default=None, wire="connectionType", digits=True
    )
    bluetooth_enabled: Kept[Literal[0, 1, 2] | Digit | None, int | None] = one_of(
        0, 1, 2, default=None, wire="bluetoothEnabled", digits=True
    )
    instance_id: Kept[Device | None, str | None] = text(
        default=None, wire="instanceId", min_chars=36, max_chars=36, personal=True
    )
    ad_tracking_enabled: Kept[Literal[0, 1] | Digit | None, int | None] = one_of(
        0, 1, default=None, wire="adTrackingEnabled", digits=True
    )
    idfa: Kept[Device | None, str | None] = text(default=None, min_chars=36, max_chars=36, personal=True)
    ios_vendor_id: Kept[Device | None, str | None] = text(
        default=None, wire="iosVendorId", min_chars=36, max_chars=36, personal=True
    )
    gaid: Kept[Device | None, str | None] = text(default=None, min_chars=36, max_chars=36, personal=True)
    app_set_id: Kept[Device | None, str | None] = text(
        default=None, wire="appSetId", min_chars=36, max_chars=36, personal=True
    )
    android_id: Kept[Text | None, str | None] = text(
        default=None, wire="androidId", min_chars=16, max_chars=16, personal=True
    )
    lvid: Kept[Text | None, str | None] = text(default=None, min_chars=32, max_chars=32, personal=True)
    ad_blocker: Kept[Literal[0, 1] | Digit | None, int | None] = one_of(
        0, 1, default=None, wire="adBlocker", digits=True
    )
    user_agent: Kept[Text | None, str | None] = text(default=None, wire="userAgent", max_chars=2048)
    custom_platform_user_id: Kept[Id | None, str | None] = text(
        default=None,
        wire="customPlatformUserId",
        min_chars=1,
        max_chars=ID_CHARS,
        whole_numbers=True,
        personal=True,
        label="platform_user",
    )
    vk_platform: Kept[VkPlatform | Enum | None, VkPlatform | None] = one_of(
        *get_args(VkPlatform), default=None, wire="vkPlatform"
    )


class _AccountEvent(MytrackerEvent):
    """Registrations and logins belong to a user."""

    def _rules(self, names: Mapping[str, str]) -> list[tuple[str, str]]:
        if self.custom_user_id is not None:
            return []
        user, vk_user, platform = names["custom_user_id"], names["custom_platform_user_id"], names["vk_platform"]
        if self.custom_platform_user_id is None and self.vk_platform is None:
            return [("custom_user_id", f"is required (in VK Mini Apps {vk_user} and {platform} instead)")]
        if self.vk_platform is None:
            return [("vk_platform", f"is required with {vk_user} when there is no {user}")]
        if self.custom_platform_user_id is None:
            return [("custom_platform_user_id", f"is required with {platform} when there is no {user}")]
        return []


class Registration(_AccountEvent, method="registration"):
    """A user registered. Source: registration."""


class Login(_AccountEvent, method="login"):
    """A user logged in. Source: login."""


class CustomEvent(MytrackerEvent, method="custom_event"):
    """Anything else a user or a device did. Source: customEvent.

    Args:
        custom_event_name: The event's name in the reports.
        custom_event_params: Any number of them. Values may be whole numbers; they are kept as text.
    """

    custom_event_name: Kept[Text, str] = text(wire="customEventName", min_chars=1, max_chars=255, shown="plain")
    custom_event_params: Kept[Mapping[str, Id] | None, Mapping[str, str] | None] = text_map(
        default=None, wire="customEventParams", min_chars=1, max_chars=255
    )

    def _rules(self, names: Mapping[str, str]) -> list[tuple[str, str]]:
        if any(getattr(self, name) is not None for name in IDENTIFIERS):
            return []
        wanted = ", ".join(names[name] for name in IDENTIFIERS)
        return [("event", f"needs at least one of {wanted}")]
