"""Takes grants from Redis and settles them there (invariants I1 to I5). It uses nothing of kombu.

redis-py's own retries are off. TAKE is repeated under its call id and SETTLE under its grant, so a
lost reply costs nothing.
"""

from __future__ import annotations

from workers.governor.governor import Governor, Look, LookReply, RoundReply
from workers.governor.server import NO_WRITES, Server
from workers.governor.take import State, Taken

__all__ = ["NO_WRITES", "Governor", "Look", "LookReply", "RoundReply", "Server", "State", "Taken"]
