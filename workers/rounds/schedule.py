"""When each account is worth asking. Redis is not asked here; times are of a monotonic clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from workers.governor import State, Taken

#: Seconds between two looks for new events of idle accounts; half of it is the mean latency that it adds.
IDLE_S: Final = 0.02
#: Longest wait between two looks at a batch that is filling, seconds.
FILLING_S: Final = 0.1
#: Seconds after which an account is asked again whatever TAKE said: another worker may have died, an
#: operator may have resumed it.
LONGEST_WAIT_S: Final = 1.0


class Schedule:
    """The accounts of a process."""

    def __init__(self) -> None:
        """No account yet."""
        self.queues: frozenset[str] = frozenset()
        #: Queue -> when it is worth asking. Those that are not in it are idle and only looked at.
        self._next: dict[str, float] = {}
        #: Idle queue -> when something that waits in it becomes due, as far as this process knows.
        self._due: dict[str, float] = {}
        #: Queue that waits for an answer to a request on its way -> seconds until it is asked again without one.
        self._blocked: dict[str, float] = {}

    def serve(self, queues: Iterable[str]) -> None:
        """Serve these accounts from now on, and no other; what was taken of others is finished."""
        served = frozenset(queues)
        for gone in self.queues - served:
            for known in (self._next, self._due, self._blocked):
                known.pop(gone, None)
        self._next.update(dict.fromkeys(served - self.queues, 0.0))
        self.queues = served

    def ask(self, queue: str) -> None:
        """Ask an account at once, whatever TAKE said before."""
        if queue in self.queues:
            self._next[queue] = 0.0
            self._due.pop(queue, None)

    def ask_idle(self, queues: Iterable[str], now: float) -> None:
        """Ask these if they are idle: something may wait in them."""
        for queue in queues:
            if queue in self.queues:
                self._next.setdefault(queue, now)

    def answered(self, now: float) -> None:
        """An answer is in: what was blocked by one may go on."""
        for queue in self._blocked:
            if queue in self._next:
                self._next[queue] = now
        self._blocked.clear()

    def heard(self, queue: str, taken: Taken, now: float) -> None:
        """What TAKE said of an account."""
        self._due.pop(queue, None)
        if taken.state is State.BLOCKED or (taken.state is State.PAUSED and taken.wait_ms is None):
            wait_s = self._blocked.get(queue, IDLE_S)
            self._next[queue] = now + wait_s
            self._blocked[queue] = min(wait_s * 2, LONGEST_WAIT_S)
            return
        self._blocked.pop(queue, None)
        if taken.state is State.EMPTY:
            self._next.pop(queue, None)
            if taken.due_ms is not None:
                self._due[queue] = now + taken.due_ms / 1000
        else:
            longest_s = FILLING_S if taken.state is State.FILLING else LONGEST_WAIT_S
            self._next[queue] = now + min((taken.wait_ms or 0) / 1000, longest_s)

    def put_off(self, queue: str, now: float) -> None:
        """It cannot be asked now; an answer may change that."""
        self._next[queue] = now + LONGEST_WAIT_S
        self._blocked.setdefault(queue, IDLE_S)

    def refused(self, queue: str, now: float) -> None:
        """Something is wrong with its keys; the others go on."""
        self._next[queue] = now + LONGEST_WAIT_S

    def due(self, now: float) -> list[str]:
        """The accounts to be asked now."""
        for queue, at in list(self._due.items()):
            if at <= now:
                del self._due[queue]
                self._next[queue] = 0.0
        return [queue for queue, at in self._next.items() if at <= now]

    @property
    def idle(self) -> list[str]:
        """The accounts that are only looked at."""
        return [queue for queue in self.queues if queue not in self._next]

    def soonest(self, now: float) -> float:
        """Seconds until an account is to be asked."""
        return min((*self._next.values(), *self._due.values()), default=now + LONGEST_WAIT_S) - now
