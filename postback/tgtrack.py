"""Events for TGTrack (the Russian subscription tracker «Откуда Подписки»).

Source of every field: TGTrack service API, "Методы API – запись", "– глубокие цели" and
"– получение данных".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar, Literal, Self, TypedDict, get_args

from postback._events.fields import ID_CHARS, NAME_CHARS, integer, items, json_object, number, one_of, text
from postback._events.payload import check_text, compact
from postback._events.values import Id, Kept, Number, Refused, Text
from postback._send.event import Event

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


#: How a step ended. Source: add_event, event_result.
EventOutcome = Literal["in_progress", "success", "failure"]


class Label(TypedDict):
    """An analytic label of an event. Source: "Описание объектов API", Label.

    Both are kept as text; the value may be a whole number.
    """

    name: Text
    value: Id


class TgtrackEvent(Event):
    """Base of TGTrack's events."""

    provider: ClassVar[str] = "tgtrack"
    time_bytes: ClassVar[int] = len(',"date":4294967295')


class _Carrier(TgtrackEvent):
    """Base of events that carry what another service sent.

    Args:
        payload: The other service's JSON object. It is sent as it came.
    """

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


def _read_update(update: Any) -> Any:
    """A Telegram update as text (bytes decoded) or object, unchanged.

    Raises:
        Refused: Too long, not UTF-8, not a JSON object, or without ``update_id``.
    """
    if isinstance(update, (bytes, bytearray, memoryview, str)) and len(update) > MAX_PAYLOAD_BYTES:
        raise Refused(f"must have at most {MAX_PAYLOAD_BYTES} bytes")
    try:
        if isinstance(update, (bytes, bytearray, memoryview)):
            update = bytes(update).decode()
        content = json.loads(check_text(update), parse_constant=_no_constant) if isinstance(update, str) else update
    except UnicodeDecodeError:
        raise Refused("must be UTF-8") from None
    except Refused:
        raise
    except (ValueError, RecursionError):
        raise Refused("must be a JSON object") from None
    if not isinstance(content, Mapping):
        raise Refused("must be a JSON object")
    update_id = content.get("update_id")
    if isinstance(update_id, bool) or not isinstance(update_id, int):
        raise Refused("must have an update_id, a whole number")
    return update


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class OnTelegramWebhook(_Carrier, method="on_telegram_webhook"):
    """A Telegram update, forwarded as it came.

    Load the request's raw body: it is sent byte for byte. A dict is accepted too, and sent as JSON
    of the same content. Source: on_telegram_webhook ("никак не меняйте вебхук от телеграмма").

    Args:
        payload: The whole update: text if it came as text or bytes, else an object.
    """

    payload: Kept[Mapping[str, Any] | str | bytes, Mapping[str, Any] | str] = json_object(
        or_text=True, read=_read_update, rule="a JSON object with an update_id, as bytes, text or object"
    )


class MyBotWasStarted(TgtrackEvent, method="my_bot_was_started"):
    """A user started the bot (limited integration). Source: my_bot_was_started.

    Args:
        start_value: The bot's ``start`` parameter; may be empty or ``"auto_detect"``.
    """

    start_value: Kept[Text, str] = text(max_chars=NAME_CHARS)


class MyBotWasStopped(TgtrackEvent, method="my_bot_was_stopped"):
    """A user blocked the bot. Source: my_bot_was_stopped.

    Args:
        user_id: Telegram id.
        date: When it happened, in unix seconds. Left out: when it is sent.
    """

    time_field: ClassVar[str | None] = "date"

    user_id: Kept[Id, str] = text(min_chars=1, max_chars=ID_CHARS, whole_numbers=True, personal=True, label="user")
    date: Kept[int | datetime | None, int | None] = integer(low=0, high=MAX_DATE, default=None, shown="plain")


class MyBothelpWasStarted(Opaque, method="my_bothelp_was_started"):
    """BotHelp's payload. Source: my_bothelp_was_started."""


class WinWinWasStarted(Opaque, method="win_win_was_started"):
    """Win Win Bot's payload. Source: win_win_was_started."""


class SambotOnTgWebhook(TgtrackEvent, method="sambot_on_tg_webhook"):
    """A Telegram webhook by way of SamBot. Source: sambot_on_tg_webhook.

    Args:
        webhook: The full Telegram webhook, an object or its text. It is sent as it came.
    """

    max_bytes: ClassVar[int] = MAX_PAYLOAD_BYTES

    webhook: Mapping[str, Any] | str = json_object(or_text=True)


class OnToolsyEvent(Opaque, method="on_toolsy_event"):
    """Toolsy's payload (payments and subscriptions). Source: on_toolsy_event."""


class OnSendPulseEvent(Opaque, method="on_send_pulse_event"):
    """SendPulse's payload. Source: on_send_pulse_event."""


class UserDidStartBot(TgtrackEvent, method="user_did_start_bot"):
    """A user started the bot. It is for platforms that know the user but not the webhook.

    Source: user_did_start_bot.

    Args:
        user_id: Telegram id.
        first_name: The user's first name.
        last_name: The user's last name.
        username: The user's name in Telegram, without @.
        full_name: First and last name together.
        start_value: The bot's ``start`` parameter.
    """

    user_id: Kept[Id, str] = text(min_chars=1, max_chars=ID_CHARS, whole_numbers=True, personal=True, label="user")
    first_name: Kept[Text, str] = text(max_chars=NAME_CHARS)
    last_name: Kept[Text | None, str | None] = text(max_chars=NAME_CHARS, default=None)
    username: Kept[Text | None, str | None] = text(max_chars=NAME_CHARS, default=None)
    full_name: Kept[Text | None, str | None] = text(max_chars=NAME_CHARS, default=None)
    start_value: Kept[Text | None, str | None] = text(max_chars=NAME_CHARS, default=None)


class SendReachGoal(TgtrackEvent, method="send_reach_goal"):
    """A goal for the advertising system that the user came from. It counts for 21 days.

    Source: send_reach_goal.

    Args:
        user_id: Telegram id.
        target: The goal's identifier in the advertising system.
    """

    user_id: Kept[Id, str] = text(min_chars=1, max_chars=ID_CHARS, whole_numbers=True, personal=True, label="user")
    target: Kept[Text, str] = text(min_chars=1, max_chars=NAME_CHARS, shown="plain")


class AddEvent(TgtrackEvent, method="add_event"):
    """A step of a subscriber's life: a funnel step, a sale, a qualification. Source: add_event.

    Args:
        user_id: Telegram id.
        event_type: The step's name in the reports.
        event_result: How the step ended. Left out: TGTrack assumes ``in_progress``.
        date: When it happened, in unix seconds. Left out: when it is sent.
        conversion_target: Goal for the advertising system. It works for 21 days after the start.
        amount: Revenue; negative for costs.
        labels: Analytic labels.
    """

    time_field: ClassVar[str | None] = "date"

    user_id: Kept[Id, str] = text(min_chars=1, max_chars=ID_CHARS, whole_numbers=True, personal=True, label="user")
    event_type: Kept[Text, str] = text(min_chars=1, max_chars=NAME_CHARS, shown="plain")
    event_result: Kept[EventOutcome | Enum | None, EventOutcome | None] = one_of(*get_args(EventOutcome), default=None)
    date: Kept[int | datetime | None, int | None] = integer(low=0, high=MAX_DATE, default=None, shown="plain")
    conversion_target: Kept[Text | None, str | None] = text(max_chars=NAME_CHARS, default=None, shown="plain")
    amount: Kept[Number | None, float | None] = number(default=None)
    labels: Sequence[Label] | None = items("name", "value", max_chars=NAME_CHARS, default=None)


class GetUserInfo(TgtrackEvent, method="get_user_info", reads=True):
    """Asks what TGTrack knows about a user; ``.get()`` returns a dict. Source: get_user_info.

    Args:
        user_id: Telegram id.
    """

    user_id: Kept[Id, str] = text(min_chars=1, max_chars=ID_CHARS, whole_numbers=True, personal=True, label="user")
