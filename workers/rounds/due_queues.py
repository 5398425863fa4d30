"""The queues of a process that may be asked now: its view of the schedule in Redis (ADR 29).

Times are of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from workers.governor import Look, LookReply, State

#: Longest time between two looks, seconds: another worker may have died, or be too busy.
LONGEST_WAIT_S: Final = 1.0
#: Most queues in the reply to a look.
LOOKED_AT: Final = 128
#: With so many due queues it does not look for more.
ENOUGH: Final = 16


class Page:
    """The part of a provider's schedule that a process has read."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self.due: list[str] = []
        #: Queues at the front that are skipped, since this process cannot ask them now.
        self.passed = 0
        #: The reply was full: there may be more due queues behind.
        self.full = False
        self.next_look = 0.0


class DueQueues:
    """The due queues of a process's accounts."""

    def __init__(self) -> None:
        """It has no accounts yet."""
        self.queues: frozenset[str] = frozenset()
        self._pages: dict[str, Page] = {}
        #: Queues whose last TAKE by this process said that there is more.
        self._hot: dict[str, None] = {}
        #: Queue -> until when it is not asked, since Redis refuses its TAKE.
        self._refused: dict[str, float] = {}

    def serve(self, queues: Iterable[str]) -> None:
        """Serve these accounts only from now on. Grants of other accounts are finished."""
        self.queues = frozenset(queues)
        providers = {queue.partition(".")[0] for queue in self.queues}
        self._pages = {provider: self._pages.get(provider) or Page() for provider in sorted(providers)}

    def due(self, now: float) -> list[str]:
        """The queues that may be asked; the one that waits longest is the first."""
        due = dict.fromkeys(queue for page in self._pages.values() for queue in page.due)
        if not self.more_behind:
            due.update(self._hot)  # else they are in the schedule, too, and wait for their turn
        return [queue for queue in due if queue in self.queues and self._refused.get(queue, now) <= now]

    @property
    def more_behind(self) -> bool:
        """More queues are due than were read. Then each is asked for one request at a time."""
        return any(page.full for page in self._pages.values())

    def asked(self, queue: str, state: State | None, now: float) -> None:
        """Note that a queue was asked. The state is None if Redis refused."""
        self._hot.pop(queue, None)
        self._refused.pop(queue, None)
        page = self._pages.get(queue.partition(".")[0])
        if page and queue in page.due:
            page.due.remove(queue)
        if state is State.MORE:
            self._hot[queue] = None
        elif state is None:
            self._refused[queue] = now + LONGEST_WAIT_S

    def look_again(self) -> None:
        """Read from the front at once: a change may let this process ask queues that it skipped."""
        for page in self._pages.values():
            page.next_look, page.passed = 0.0, 0

    def looks(self, now: float, asking: int) -> list[Look]:
        """The looks to make now.

        Args:
            now: The time.
            asking: Number of queues that are asked in the same round trip. If it is 0 although
                queues are due, this process cannot ask these: it reads on behind them.
        """
        looks = []
        for provider, page in self._pages.items():
            if asking and len(page.due) - asking >= ENOUGH:
                continue
            if not asking and page.full:
                looks.append(Look(provider, page.passed + len(page.due), LOOKED_AT))
            elif page.next_look <= now:
                looks.append(Look(provider, page.passed, LOOKED_AT))
        return looks

    def receive(self, look: Look, reply: LookReply, now: float) -> None:
        """Take over the reply to a look."""
        page = self._pages.get(look.provider)
        if page is not None:
            page.due, page.full = reply.due, len(reply.due) == look.most
            page.passed = look.passed if page.full else 0
            page.next_look = now + min(LONGEST_WAIT_S if reply.wait_s is None else reply.wait_s, LONGEST_WAIT_S)

    def soonest(self, now: float) -> float:
        """Seconds until the next look."""
        return min((page.next_look for page in self._pages.values()), default=now + LONGEST_WAIT_S) - now
