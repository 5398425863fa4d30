"""What a process knows of the schedule in Redis (ADR 29): which of its queues may be asked now. Times are of a monotonic clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from workers.governor import Look, Seen, State

#: Longest time between two looks, seconds: another worker may have died, or be busy with what is due.
LONGEST_WAIT_S: Final = 1.0
#: Queues that one look brings.
LOOKED_AT: Final = 128
#: As long as it knows of so many that are due it does not look for more.
ENOUGH: Final = 16


class Page:
    """Where a process reads a provider's schedule."""

    def __init__(self) -> None:
        """Nobody has looked yet."""
        self.due: list[str] = []
        #: Places from the front that are passed by: of queues that this process cannot ask now.
        self.passed = 0
        #: It brought as many queues as it could: there may be more behind.
        self.full = False
        self.next_look = 0.0


class Schedule:
    """The accounts of a process."""

    def __init__(self) -> None:
        """No account yet."""
        self.queues: frozenset[str] = frozenset()
        self._pages: dict[str, Page] = {}
        #: Queues of which the last TAKE of this process said that there is more.
        self._hot: dict[str, None] = {}
        #: Queue -> until when it is left alone: Redis refuses its TAKE.
        self._refused: dict[str, float] = {}

    def serve(self, queues: Iterable[str]) -> None:
        """Serve these accounts from now on, and no other; what was taken of others is finished."""
        self.queues = frozenset(queues)
        providers = {queue.partition(".")[0] for queue in self.queues}
        self._pages = {provider: self._pages.get(provider) or Page() for provider in sorted(providers)}

    def due(self, now: float) -> list[str]:
        """The queues that may be asked, those first that have waited longest."""
        found = dict.fromkeys(queue for page in self._pages.values() for queue in page.due)
        if not self.more_behind:
            found.update(self._hot)  # else they stand there, too, in their turn
        return [queue for queue in found if queue in self.queues and self._refused.get(queue, now) <= now]

    @property
    def more_behind(self) -> bool:
        """More queues may be asked than this process has read of: each is asked for one request at a time."""
        return any(page.full for page in self._pages.values())

    def asked(self, queue: str, state: State | None, now: float) -> None:
        """An account was asked; the state is None if Redis refused."""
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
        """Something may have changed: what could not be asked can perhaps, and those in front have waited longest."""
        for page in self._pages.values():
            page.next_look, page.passed = 0.0, 0

    def looks(self, now: float, asking: int) -> list[Look]:
        """Looks that are due.

        Args:
            now: The time.
            asking: How many queues are asked in the same round trip. None, and there are some that are due: this process
                cannot ask them, and others may stand behind them.
        """
        found = []
        for provider, page in self._pages.items():
            if asking and len(page.due) - asking >= ENOUGH:
                continue
            if not asking and page.full:
                found.append(Look(provider, page.passed + len(page.due), LOOKED_AT))
            elif page.next_look <= now:
                found.append(Look(provider, page.passed, LOOKED_AT))
        return found

    def seen(self, look: Look, seen: Seen, now: float) -> None:
        """What a look has brought."""
        page = self._pages.get(look.provider)
        if page is not None:
            page.due, page.full = seen.due, len(seen.due) == look.most
            page.passed = look.passed if page.full else 0
            page.next_look = now + min(LONGEST_WAIT_S if seen.wait_s is None else seen.wait_s, LONGEST_WAIT_S)

    def soonest(self, now: float) -> float:
        """Seconds until the next look."""
        return min((page.next_look for page in self._pages.values()), default=now + LONGEST_WAIT_S) - now
