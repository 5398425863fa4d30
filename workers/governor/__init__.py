"""Takes grants from Redis and settles them there (invariants I1 to I5). No kombu names here.

All calls are made with redis-py's own retries off: TAKE is repeated under its call id, SETTLE under its grant, so a lost
reply costs nothing.
"""

from __future__ import annotations

from workers.governor.governor import Governor, Look, Round, Seen
from workers.governor.scripts import State
from workers.governor.server import NO_WRITES, Server
from workers.governor.take import Taken

__all__ = ["NO_WRITES", "Governor", "Look", "Round", "Seen", "Server", "State", "Taken"]
