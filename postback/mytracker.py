"""Events for myTracker's server-to-server API.

Attributes are snake_case, the provider's fields are camelCase. Numbers may be strings of digits, as
in the provider's own examples; they are sent as JSON numbers.

Source of every field and bound: myTracker, "Import events", "Parameters".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from postback._events.fields import ID_CHARS, integer, one_of, text, text_map
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

#: A custom event needs one of them: it names the user or the device. Source: "customEvent",
#: required parameters.
IDENTIFIERS = ("custom_user_id", "instance_id", "lvid", "gaid", "android_id", "app_set_id", "idfa", "ios_vendor_id")


class MytrackerEvent(Event):
    """What all events of myTracker have in common."""

    provider: ClassVar[str] = "mytracker"
    time_field: ClassVar[str | None] = "event_timestamp"
    time_bytes: ClassVar[int] = len(',"eventTimestamp":4294967295')
    max_bytes: ClassVar[int] = MAX_BYTES

    #: Unix seconds; when it happened.
    event_timestamp: int | None = integer(
        low=MIN_TIMESTAMP, high=MAX_TIMESTAMP, default=None, wire="eventTimestamp", digits=True, shown="plain"
    )
    #: The user's id in your app.
    custom_user_id: str | None = text(
        default=None, wire="customUserId", min_chars=1, max_chars=1024, personal=True, label="user"
    )
    ipv4: str | None = text(default=None, max_chars=15)
    ipv6: str | None = text(default=None, max_chars=45)
    #: 0 unknown, 1 man, 2 woman.
    id_gender: Literal[0, 1, 2] | None = one_of(0, 1, 2, default=None, wire="idGender", digits=True, shown="hidden")
    #: Years, 0 … 128.
    age: int | None = integer(low=0, high=128, default=None, digits=True)
    #: 0 unknown, 1 mobile, 2 wi-fi.
    connection_type: Literal[0, 1, 2] | None = one_of(0, 1, 2, default=None, wire="connectionType", digits=True)
    #: 0 unknown, 1 on, 2 off.
    bluetooth_enabled: Literal[0, 1, 2] | None = one_of(0, 1, 2, default=None, wire="bluetoothEnabled", digits=True)
    #: S2S device identifier (mobile).
    instance_id: str | None = text(default=None, wire="instanceId", min_chars=36, max_chars=36, personal=True)
    #: 1 if tracking is permitted.
    ad_tracking_enabled: Literal[0, 1] | None = one_of(0, 1, default=None, wire="adTrackingEnabled", digits=True)
    #: iOS advertising identifier.
    idfa: str | None = text(default=None, min_chars=36, max_chars=36, personal=True)
    ios_vendor_id: str | None = text(default=None, wire="iosVendorId", min_chars=36, max_chars=36, personal=True)
    #: Android advertising identifier.
    gaid: str | None = text(default=None, min_chars=36, max_chars=36, personal=True)
    app_set_id: str | None = text(default=None, wire="appSetId", min_chars=36, max_chars=36, personal=True)
    android_id: str | None = text(default=None, wire="androidId", min_chars=16, max_chars=16, personal=True)
    #: S2S device identifier (web).
    lvid: str | None = text(default=None, min_chars=32, max_chars=32, personal=True)
    #: 1 if an ad blocker is on.
    ad_blocker: Literal[0, 1] | None = one_of(0, 1, default=None, wire="adBlocker", digits=True)
    user_agent: str | None = text(default=None, wire="userAgent", max_chars=2048)
    #: VK id, for VK Mini Apps; goes with ``vk_platform``.
    custom_platform_user_id: str | None = text(
        default=None,
        wire="customPlatformUserId",
        min_chars=1,
        max_chars=ID_CHARS,
        personal=True,
        label="platform_user",
    )
    #: Where in VK the event occurred.
    vk_platform: VkPlatform | None = one_of(*get_args(VkPlatform), default=None, wire="vkPlatform")


class _AccountEvent(MytrackerEvent):
    """Registrations and logins belong to a user."""

    def _rules(self) -> list[tuple[str, str]]:
        if self.custom_user_id is not None:
            return []
        if self.custom_platform_user_id is None and self.vk_platform is None:
            return [("custom_user_id", "is required (in VK Mini Apps customPlatformUserId and vkPlatform instead)")]
        if self.vk_platform is None:
            return [("vk_platform", "is required with customPlatformUserId when there is no customUserId")]
        if self.custom_platform_user_id is None:
            return [("custom_platform_user_id", "is required with vkPlatform when there is no customUserId")]
        return []


class Registration(_AccountEvent, method="registration"):
    """A user registered. Source: registration."""


class Login(_AccountEvent, method="login"):
    """A user logged in. Source: login."""


class CustomEvent(MytrackerEvent, method="custom_event"):
    """Anything else a user or a device did. Source: customEvent."""

    custom_event_name: str = text(wire="customEventName", min_chars=1, max_chars=255, shown="plain")
    #: Any number of them; names and values have 1 to 255 characters.
    custom_event_params: Mapping[str, str] | None = text_map(
        default=None, wire="customEventParams", min_chars=1, max_chars=255
    )

    def _rules(self) -> list[tuple[str, str]]:
        if any(getattr(self, name) is not None for name in IDENTIFIERS):
            return []
        wanted = ", ".join(self._fields[name].wire for name in IDENTIFIERS)
        return [("event", f"needs at least one of {wanted}")]
