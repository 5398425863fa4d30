"""Events for TGTrack (the Russian subscription tracker «Откуда Подписки»).

Source of every field: TGTrack service API, "Методы API – запись", "– глубокие цели" and
"– получение данных".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, TypedDict

from postback._events.fields import ID_CHARS, NAME_CHARS, integer, items, json_object, number, one_of, text
from postback._events.payload import Refused, check_text, compact
from postback._send.event import Event
from postback.errors import InvalidEvent

__all__ = [
    "AddEvent",
    "GetUserInfo",
    "Label",
    "MyBotWasStarted",
    "MyBotWasStopped",
    "MyBothelpWasStarted",
    "OnSendPulseEvent",
    "OnTelegramWebhook",
    "OnToolsyEvent",
    "SambotOnTgWebhook",
    "SendReachGoal",
    "UserDidStartBot",
    "WinWinWasStarted",
]

#: Latest ``date`` in unix seconds. A later one is in milliseconds by mistake.
MAX_DATE = 4294967295
#: Largest payload of another service, in bytes. Decision: a Telegram update has 160,000 if it holds
#: two texts of 4,096 characters, each written as ``\u0431``, 200 entities and a hundred winners.
MAX_PAYLOAD_BYTES = 256_000


class Label(TypedDict):
    """An analytic label of an event. Source: "Описание объектов API", Label."""

    name: str
    value: str


class TgtrackEvent(Event):
    """Base of TGTrack's events."""

    provider: ClassVar[str] = "tgtrack"
    time_bytes: ClassVar[int] = len(',"date":4294967295')


class _Carrier(TgtrackEvent):
    """Base of events that carry what another service sent."""

    max_bytes: ClassVar[int] = MAX_PAYLOAD_BYTES

    payload: Any = json_object()

    @classmethod
    def load(cls, data: Any, *, account: str | None = None) -> Self:
        """Take the other service's JSON object as it is.

        Args:
            data: The decoded JSON object.
            account: The account's name.

        Raises:
            InvalidEvent: It is not a JSON object, or holds what JSON cannot carry.
        """
        return cls._load(data, account)

    @classmethod
    def _load(cls, data: Any, account: str | None) -> Self:
        return super()._load({"payload": data}, account)

    def _wire(self) -> Any:
        return self.payload

    @classmethod
    def summary(cls, wire: Any) -> str:
        """The payload's size. Its content is personal."""
        try:
            return f"bytes={len(compact(wire))}"
        except (TypeError, ValueError):
            return ""


class Opaque(_Carrier):
    """Base of events that carry another service's payload exactly as it came."""

    payload: Mapping[str, Any] = json_object()


class OnTelegramWebhook(_Carrier, method="on_telegram_webhook"):
    """A Telegram update, forwarded as it came.

    Load the request's raw body: it is sent byte for byte. A dict is accepted too, and sent as JSON
    of the same content. Source: on_telegram_webhook ("никак не меняйте вебхук от телеграмма").
    """

    # The whole update: text if it came as text or bytes, else an object.
    payload: Mapping[str, Any] | str | bytes = json_object(or_text=True)

    def __init__(self, *, payload: Mapping[str, Any] | str | bytes, account: str | None = None) -> None:
        super().__init__(payload=_checked_update(payload, self.title()), account=account)

    @classmethod
    def _load(cls, data: Any, account: str | None) -> Self:
        return super()._load(_checked_update(data, cls.title()), account)


def _checked_update(update: Any, title: str) -> Any:
    """A Telegram update as text (bytes decoded) or object, unchanged.

    Raises:
        InvalidEvent: Too long, not UTF-8, not a JSON object, or without ``update_id``.
    """
    if isinstance(update, (bytes, bytearray, memoryview, str)) and len(update) > MAX_PAYLOAD_BYTES:
        raise InvalidEvent(title, {"event": [f"must have at most {MAX_PAYLOAD_BYTES} bytes"]})
    try:
        if isinstance(update, (bytes, bytearray, memoryview)):
            update = bytes(update).decode()
        content = json.loads(check_text(update), parse_constant=_no_constant) if isinstance(update, str) else update
    except UnicodeDecodeError:
        raise InvalidEvent(title, {"event": ["must be UTF-8"]}) from None
    except Refused as refused:
        raise InvalidEvent(title, {"event": [str(refused)]}) from None
    except (ValueError, RecursionError):
        raise InvalidEvent(title, {"event": ["must be a JSON object"]}) from None
    if not isinstance(content, Mapping):
        raise InvalidEvent(title, {"event": ["must be a JSON object"]})
    update_id = content.get("update_id")
    if isinstance(update_id, bool) or not isinstance(update_id, int):
        raise InvalidEvent(title, {"update_id": ["is required" if update_id is None else "must be a whole number"]})
    return update


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class MyBotWasStarted(TgtrackEvent, method="my_bot_was_started"):
    """A user started the bot (limited integration). Source: my_bot_was_started."""

    #: The bot's ``start`` parameter; may be empty or ``auto_detect``.
    start_value: str = text(max_chars=NAME_CHARS)


class MyBotWasStopped(TgtrackEvent, method="my_bot_was_stopped"):
    """A user blocked the bot. Source: my_bot_was_stopped."""

    time_field: ClassVar[str | None] = "date"

    #: Telegram id, as a string.
    user_id: str = text(min_chars=1, max_chars=ID_CHARS, personal=True, label="user")
    #: Unix seconds.
    date: int | None = integer(low=0, high=MAX_DATE, default=None, shown="plain")


class MyBothelpWasStarted(Opaque, method="my_bothelp_was_started"):
    """BotHelp's payload. Source: my_bothelp_was_started."""


class WinWinWasStarted(Opaque, method="win_win_was_started"):
    """Win Win Bot's payload. Source: win_win_was_started."""


class SambotOnTgWebhook(TgtrackEvent, method="sambot_on_tg_webhook"):
    """A Telegram webhook by way of SamBot. Source: sambot_on_tg_webhook."""

    max_bytes: ClassVar[int] = MAX_PAYLOAD_BYTES

    #: The full Telegram webhook, an object or its text. It is sent as it came.
    webhook: Mapping[str, Any] | str = json_object(or_text=True)


class OnToolsyEvent(Opaque, method="on_toolsy_event"):
    """Toolsy's payload (payments and subscriptions). Source: on_toolsy_event."""


class OnSendPulseEvent(Opaque, method="on_send_pulse_event"):
    """SendPulse's payload. Source: on_send_pulse_event."""


class UserDidStartBot(TgtrackEvent, method="user_did_start_bot"):
    """A user started the bot. It is for platforms that know the user but not the webhook.

    Source: user_did_start_bot.
    """

    #: Telegram id, as a string.
    user_id: str = text(min_chars=1, max_chars=ID_CHARS, personal=True, label="user")
    first_name: str = text(max_chars=NAME_CHARS)
    last_name: str | None = text(max_chars=NAME_CHARS, default=None)
    username: str | None = text(max_chars=NAME_CHARS, default=None)
    full_name: str | None = text(max_chars=NAME_CHARS, default=None)
    #: The bot's ``start`` parameter.
    start_value: str | None = text(max_chars=NAME_CHARS, default=None)


class SendReachGoal(TgtrackEvent, method="send_reach_goal"):
    """A goal for the advertising system that the user came from. It counts for 21 days.

    Source: send_reach_goal.
    """

    #: Telegram id, as a string.
    user_id: str = text(min_chars=1, max_chars=ID_CHARS, personal=True, label="user")
    #: The goal's identifier in the advertising system.
    target: str = text(min_chars=1, max_chars=NAME_CHARS, shown="plain")


class AddEvent(TgtrackEvent, method="add_event"):
    """A step of a subscriber's life: a funnel step, a sale, a qualification. Source: add_event."""

    time_field: ClassVar[str | None] = "date"

    #: Telegram id, as a string.
    user_id: str = text(min_chars=1, max_chars=ID_CHARS, personal=True, label="user")
    #: The step's name in the reports.
    event_type: str = text(min_chars=1, max_chars=NAME_CHARS, shown="plain")
    #: Without it TGTrack assumes ``in_progress``.
    event_result: Literal["in_progress", "success", "failure"] | None = one_of(
        "in_progress", "success", "failure", default=None
    )
    #: Unix seconds.
    date: int | None = integer(low=0, high=MAX_DATE, default=None, shown="plain")
    #: Goal for the advertising system. It works for 21 days after the start.
    conversion_target: str | None = text(max_chars=NAME_CHARS, default=None, shown="plain")
    #: Revenue; negative for costs.
    amount: float | None = number(default=None)
    labels: Sequence[Label] | None = items("name", "value", max_chars=NAME_CHARS, default=None)


class GetUserInfo(TgtrackEvent, method="get_user_info", reads=True):
    """Asks what TGTrack knows about a user; ``.get()`` returns a dict. Source: get_user_info."""

    #: Telegram id, as a string.
    user_id: str = text(min_chars=1, max_chars=ID_CHARS, personal=True, label="user")
