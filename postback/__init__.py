"""Reliable delivery of events to TGTrack, myTracker, Telegram Analytics, TON AI and TonAPI."""

import importlib

from postback._events.fields import UNSET
from postback._find import find
from postback._modules import provider_modules
from postback._send.event import EVENTS, Event, event_class
from postback._send.many import send_many
from postback._send.producer import configure
from postback.errors import (
    ConfigurationError,
    DeadLettered,
    EnqueueUnknown,
    InvalidEvent,
    MessageTooLarge,
    NoJournal,
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
from postback.journal.life import Attempt, EventRecord
from postback.results import EventResult

__all__ = [
    "EVENTS",
    "UNSET",
    "Attempt",
    "ConfigurationError",
    "DeadLettered",
    "EnqueueUnknown",
    "Event",
    "EventRecord",
    "EventResult",
    "InvalidEvent",
    "MessageTooLarge",
    "NoJournal",
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
    "find",
    "send_many",
    *provider_modules(),
]

# Each declares its events by being imported: `from postback import tgtrack`.
for _name in provider_modules():
    importlib.import_module(f"{__name__}.{_name}")
