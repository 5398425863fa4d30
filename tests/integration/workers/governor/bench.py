"""The governor's scripts on a real server, with a clock that the test turns.

The scripts ask ``redis.call('TIME')`` and nothing else; here that one call is replaced by a read of
two keys.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis

from postback.wire import keys
from postback.wire.scripts import Script
from postback.wire.windows import padded_ms
from workers.governor.server import script_keys
from workers.governor.take import State, TakenGrant, TakeReply, take_reply

CLOCK: Final = "test.clock"
QUEUE: Final = "tgtrack.main"
UNPACK_GROUPS: Final = """
local out = {}
for _, packed in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  local half = cmsgpack.unpack(packed)
  out[#out + 1] = { half.raws, half.sibling }
end
return out"""
UNPACK_FLIGHT: Final = """
local out = {}
for _, packed in ipairs(redis.call('HVALS', KEYS[1])) do
  local grant = cmsgpack.unpack(packed)
  for _, raws in ipairs({ grant.raws, grant.sibling }) do
    for _, raw in ipairs(raws) do if raw ~= 'postback:missing' then out[#out + 1] = raw end end
  end
end
return out"""
#: What the governor tells each script of an account.
TAKE_SETTINGS: Final = (
    "lease_ms", "batch_max", "max_bytes", "linger_ms", "extra_bytes", "dedup_ms", "outage_after", "max_crashes", "crashed_letter", "windows",
    "run", "notices", "limits",
)  # fmt: skip
SETTLE_SETTINGS: Final = ("backoff_ms", "outage_after", "in_place", "longest_pause_ms", "notices", "windows", "limits")
#: Where the clock begins, in ms of the epoch.
START_MS: Final = 1_700_000_000_000


def _with_test_clock(source: str) -> str:
    assert source.count("redis.call('TIME')") == 1
    return source.replace(
        "redis.call('TIME')", "(function() local us = tonumber(redis.call('GET', 'test.clock')); "
        "return { math.floor(us / 1000000), us % 1000000 } end)()"
    )  # fmt: skip


def again(at: int, after_ms: float, *, duplicate: bool = False, few: bool = False) -> dict[str, Any]:
    """What SETTLE is told of one event: it is tried again."""
    return {"at": at, "verb": "retry", "after_ms": after_ms, "duplicate": duplicate, "few": few}


def poll(at: int, after_ms: float) -> dict[str, Any]:
    """It is looked at again later."""
    return {"at": at, "verb": "poll", "after_ms": after_ms}


def back(at: int, *, keeps_time: bool = False) -> dict[str, Any]:
    """It goes back to the front."""
    return {"at": at, "verb": "back", "keeps_time": keeps_time}


def bury(at: int, letter: str, *, duplicate: bool = False, wrapped: str | None = None) -> dict[str, Any]:
    """It is a dead letter."""
    line = {"at": at, "verb": "dead", "letter": letter, "duplicate": duplicate}
    return line if wrapped is None else {**line, "wrapped": wrapped}


class ClockedScript(Script):
    """A script of the governor's (or another package's) under the test's clock."""

    def __init__(self, name: str, package: str = "workers.governor") -> None:
        super().__init__(package, name)
        self.source = _with_test_clock(self.source)


@contextmanager
def clocked() -> Iterator[type[ClockedScript]]:
    """The class to build scripts with."""
    yield ClockedScript


class Bench:
    """One account on a real server."""

    def __init__(self, client: redis.Redis, queue: str = QUEUE, **account: Any) -> None:
        #: redis-py's types say that any reply may be text; these are bytes.
        self.client: Any = client
        self.queue = queue
        self.quota = self.credential = f"account.{queue.partition('.')[2]}"
        self.settings: dict[str, Any] = {
            "lease_ms": 30_000, "batch_max": 1, "max_bytes": 10_000, "linger_ms": 1000, "extra_bytes": 0, "dedup_ms": 604_800_000,
            "outage_after": 5, "max_crashes": 3, "windows": [], "backoff_ms": 1000, "in_place": False, "longest_pause_ms": 300_000,
            "random": 0.5, "run": "", "notices": False, "crashed_letter": '{"reason": "crashed"}', **account,
        }  # fmt: skip
        self.calls = 0
        #: Most records in the provider's stream of the journal; what SETTLE adds to it.
        self.journal, self.record = 1000, ""
        self.take_script, self.settle_script = ClockedScript("take"), ClockedScript("settle")
        self.set_clock(START_MS)

    def set_clock(self, ms: float) -> None:
        self.now_ms = ms
        self.client.set(CLOCK, int(ms * 1000))

    def advance(self, ms: float) -> None:
        self.set_clock(self.now_ms + ms)

    def push(self, *raws: bytes | str, priority: int = 0) -> None:
        for raw in raws:
            self.client.lpush(keys.priority_list(self.queue, priority), raw)

    @property
    def account(self) -> dict[str, Any]:
        """The account's settings as the scripts are given them."""
        windows = [{"limit": limit, "length_ms": padded_ms(window_s)} for limit, window_s in self.settings["windows"]]
        limits = " ".join(f"{window['limit']}:{window['length_ms']}" for window in windows)
        return {**self.settings, "windows": windows, "limits": limits}

    @property
    def keys(self) -> tuple[str, ...]:
        """KEYS of its scripts."""
        return script_keys(self.queue, self.quota, self.credential)

    @property
    def quota_key(self) -> str:
        return keys.quota(self.queue.partition(".")[0], self.quota)

    @property
    def credential_key(self) -> str:
        return keys.credential(self.queue.partition(".")[0], self.credential)

    def take(self, count: int = 1, *, call: str | None = None, replay: bool = False, due: bool = False) -> TakeReply:
        self.calls += 1
        name, how = call or f"postback:test.{self.calls}", " repeated" if replay else " due" if due else ""
        return take_reply(self.run(self.take_script, f"{name} {count}{how}", TAKE_SETTINGS))

    def run(self, script: Script, text: str, settings: Iterable[str]) -> Any:
        told = json.dumps([{name: self.account[name] for name in settings}])
        (reply,) = script(self.client, self.keys, [told, self.journal, 1, text, self.record])
        if isinstance(reply, redis.RedisError):
            raise reply
        return reply

    def settle(self, grant: TakenGrant | str, *, retry_after_ms: int | None = None, **spec: Any) -> dict[str, Any]:
        answer = {
            "grant": grant if isinstance(grant, str) else grant.id,
            "granted_us": self.now_ms * 1000 if isinstance(grant, str) else grant.granted_us,
            **({} if "health" in spec or isinstance(grant, str) else {"delivered": len(grant.raws)}),
            **spec,
            "random": self.settings["random"],
        }
        if retry_after_ms is not None:
            answer["retry_after_ms"] = retry_after_ms
        return self.settle_text(json.dumps(answer))

    def settle_text(self, text: str) -> dict[str, Any]:
        return {"applied": 1} if self.run(self.settle_script, text, SETTLE_SETTINGS) else {}

    def healthy(self) -> None:
        """As after a healthy answer: more than one request at a time."""
        self.client.hset(self.credential_key, "healthy", 1)

    def meta(self) -> dict[str, str]:
        return self._hash(keys.meta(self.queue))

    def log(self) -> dict[str, str]:
        """Its quota."""
        return self._hash(self.quota_key)

    def health(self) -> dict[str, str]:
        """Its credential's."""
        return self._hash(self.credential_key)

    def _hash(self, key: str) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.client.hgetall(key).items()}

    def queued(self, priority: int = 0) -> list[bytes]:
        """The list's messages, the front first."""
        return list(reversed(self.client.lrange(keys.priority_list(self.queue, priority), 0, -1)))

    def run_till_empty(self, count: int = 1) -> list[bytes]:
        """Take and deliver until nothing is there to take; the messages in the order in which they
        left.
        """
        left: list[bytes] = []
        while True:
            reply = self.take(count)
            if not reply.grants and reply.state is not State.MORE:
                return left
            for grant in reply.grants:
                left += grant.raws
                self.settle(grant)

    def fail(self, grant: TakenGrant, *, back_off_ms: int = 1000, duplicate: bool = False) -> dict[str, Any]:
        """As after a 5xx: every message of the grant is to be tried again."""
        lines = [again(index, back_off_ms, duplicate=duplicate) for index in range(1, len(grant.raws) + 1)]
        return self.settle(grant, health="fail", detail="503", messages=lines)

    def put_back(self, grant: TakenGrant) -> dict[str, Any]:
        """As a worker does with what it has not sent."""
        return self.settle(grant, health="none", messages=[back(index) for index in range(1, len(grant.raws) + 1)])

    def refuse(self, grant: TakenGrant, health: str = "quota", *, retry_after_ms: int | None = None) -> dict[str, Any]:
        """As after a 429 (``quota``) or a 401 (``refused``)."""
        lines = [back(index) for index in range(1, len(grant.raws) + 1)]
        return self.settle(grant, retry_after_ms=retry_after_ms, health=health, detail=health, messages=lines)

    def look(self) -> None:
        """A TAKE that may have nothing: it moves what is due or released."""
        self.take(0)

    def one(self) -> TakenGrant:
        """The one grant that a TAKE of one must give now."""
        reply = self.take(1)
        assert len(reply.grants) == 1, f"TAKE said {reply}"
        return reply.grants[0]

    def paused_ms(self, count: int = 1) -> int | None:
        """What a TAKE says of a pause that there must be: how long it lasts, or None until somebody
        resumes it.
        """
        reply = self.take(count)
        assert (reply.state, reply.grants) == (State.PAUSED, []), f"TAKE said {reply}"
        return reply.wait_ms

    def ids(self, priority: int = 0) -> list[str]:
        """Ids in a list, the front first."""
        return [id_of(raw) for raw in self.queued(priority)]

    def delayed(self) -> dict[bytes, float]:
        """Message -> due time in ms."""
        return dict(self.client.zrange(keys.delayed(self.queue), 0, -1, withscores=True))

    def held(self) -> list[bytes]:
        """Messages held aside in a run of failures, by their first grant."""
        held: list[bytes] = self.client.zrange(keys.held(self.queue), 0, -1)
        return held

    def groups(self) -> list[tuple[list[bytes], list[bytes]]]:
        """Halves of refused batches with their siblings, the next first."""
        halves = self.client.eval(UNPACK_GROUPS, 1, keys.groups(self.queue))
        return [(own, siblings) for own, siblings in reversed(halves)]

    def in_flight(self) -> list[bytes]:
        """Messages of all grants in flight."""
        raws: list[bytes] = self.client.eval(UNPACK_FLIGHT, 1, keys.unacked(self.queue))
        return raws

    def everything(self) -> Counter[str]:
        """Ids of all messages that Redis holds, wherever they are."""
        raws = [raw for step in keys.PRIORITY_STEPS for raw in self.queued(step)]
        raws += [*self.delayed(), *self.held(), *self.in_flight()]
        for own, siblings in self.groups():
            raws += [*own, *siblings]
        raws += self.client.lrange(keys.dead(self.queue.partition(".")[0]), 0, -1)
        return Counter(id_of(raw) for raw in raws)

    def dead(self) -> list[dict[str, Any]]:
        """Dead letters, the oldest first, as parsed messages."""
        return [json.loads(raw) for raw in reversed(self.client.lrange(keys.dead(self.queue.partition(".")[0]), 0, -1))]


def message(
    name: str = "", *, task: str = "tgtrack.add_event", priority: int = 0, body_bytes: int = 0, **headers: Any
) -> bytes:
    """A Celery message as kombu writes it; ``name`` becomes its id."""
    event = {"user_id": name, "pad": "x" * body_bytes}
    return json.dumps(
        {
            "body": json.dumps(
                [
                    [],
                    {"account": "main", "event": event},
                    {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
                ]
            ),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": task,
                "id": name or str(uuid.uuid4()),
                "eta": None,
                "stamps": {},
                "list": [],
                **headers,
            },
            "properties": {"priority": priority, "delivery_tag": str(uuid.uuid4()), "delivery_info": {}},
        }
    ).encode()


def id_of(raw: bytes) -> str:
    """A message's id."""
    found: str = json.loads(raw)["headers"]["id"]
    return found


def state_of(raw: bytes) -> dict[str, int]:
    """A message's delivery state."""
    words = json.loads(raw)["headers"].get("postback", "").split()
    return {name: int(value) for name, value in (word.split("=") for word in words)}
