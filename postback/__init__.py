"""Postback: reliable delivery of events to TGTrack, myTracker, Telegram Analytics, TON AI and TonAPI."""

from postback import mytracker, tganalytics, tgtrack, tonai, tonapi
from postback.errors import (
    ConfigurationError,
    EnqueueUnknown,
    InvalidEvent,
    MessageTooLarge,
    NoResult,
    NotEnqueued,
    PartlyEnqueued,
    PostbackError,
    PostbackWarning,
    QueueFull,
    SendError,
    UnknownAccount,
    UnknownEventName,
)
from postback.events import EVENTS, Event, event_class
from postback.fields import UNSET
from postback.producer import configure
from postback.results import EventResult
from postback.sending import send_many

__all__ = [
    "EVENTS",
    "UNSET",
    "ConfigurationError",
    "EnqueueUnknown",
    "Event",
    "EventResult",
    "InvalidEvent",
    "MessageTooLarge",
    "NoResult",
    "NotEnqueued",
    "PartlyEnqueued",
    "PostbackError",
    "PostbackWarning",
    "QueueFull",
    "SendError",
    "UnknownAccount",
    "UnknownEventName",
    "configure",
    "event_class",
    "mytracker",
    "send_many",
    "tganalytics",
    "tgtrack",
    "tonai",
    "tonapi",
]
