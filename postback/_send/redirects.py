"""Where events go instead of straight to Redis. A test and Django register themselves here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from postback._events.event import EventData
from postback.errors import ConfigurationError
from postback.results import EventResult

__all__ = ["Sink", "redirects"]


class Sink(Protocol):
    """Takes events in place of Redis; see :mod:`postback.testing`."""

    def __call__(self, event: EventData, options: dict[str, Any]) -> EventResult:
        """Take one event with the options of its send."""


#: Writes an event with the options of its send into the open transaction of a database, which is
#: named by its alias. None is the default database.
Outbox = Callable[[EventData, dict[str, Any], str | None], EventResult]


@dataclass(slots=True)
class Redirects:
    """What is registered in this process, for all threads.

    Attributes:
        sink: Takes every event in place of Redis.
        outbox: Keeps the events of :meth:`postback._send.event.Event.delay_via_outbox`.
        problem: What is wrong with this process's settings. With wrong ones an event might go to
            the wrong Redis, so every send is refused where it is called.
    """

    sink: Sink | None = None
    outbox: Outbox | None = None
    problem: str | None = None

    def sink_in_place(self) -> Sink | None:
        """What takes the events of this process; None: Redis does.

        Raises:
            ConfigurationError: The process's settings are wrong.
        """
        if self.problem is not None:
            raise ConfigurationError(self.problem)
        return self.sink

    def set_sink(self, sink: Sink | None) -> Sink | None:
        """Send to a sink instead of Redis; None sends to Redis again.

        Returns:
            The sink before.
        """
        before, self.sink = self.sink, sink
        return before


redirects: Final = Redirects()
