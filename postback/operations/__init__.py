"""What operators do, with Redis alone: look, move dead letters, pause, resume, erase.

Each function takes a Redis client whose replies are bytes (:func:`postback.wire.broker.connect`).
So the command line, a remote control command and a test call the same code. Nothing here needs a
live worker.
"""

from postback.operations.account_status import AccountStatus
from postback.operations.deadletters import drop, letters, replay
from postback.operations.erasure import Erased, erase
from postback.operations.letters import Filter, Letter
from postback.operations.pauses import Paused, Resumed, pause, resume
from postback.operations.queues import UnknownProvider
from postback.operations.status import Snapshot, snapshot
from postback.operations.targets import select

__all__ = [
    "AccountStatus",
    "Erased",
    "Filter",
    "Letter",
    "Paused",
    "Resumed",
    "Snapshot",
    "UnknownProvider",
    "drop",
    "erase",
    "letters",
    "pause",
    "replay",
    "resume",
    "select",
    "snapshot",
]
