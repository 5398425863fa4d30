"""TAKE: leave to send, and the messages to be sent, in one step (invariant I1)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any, Final, NamedTuple

import orjson

from config.accounts import Account
from postback.wire.scripts import named
from tasks.dead_letters import letter
from tasks.envelopes import Envelope, open_envelope
from tasks.grants import GRANT_PREFIX, Grant, Grants
from tasks.links import LinkRules
from tasks.providers import PROVIDERS
from workers.governor.identities import Identities, Identity
from workers.governor.pause_news import PauseNews
from workers.governor.server import Call, Server

#: The accounts of this process by queue. It is called each time, since the file may change.
Accounts = Callable[[], Mapping[str, Account]]

#: Workers that may die with a message. Then it is a dead letter ``crashed``.
MAX_CRASHES: Final = 3
#: Seconds after which the scripts' own letter gets a new date.
LETTER_S: Final = 1.0


class State(StrEnum):
    """Why a TAKE brought no more."""

    #: No reason: ask again.
    MORE = "more"
    #: There is nothing to take.
    EMPTY = "empty"
    #: The account pauses.
    PAUSED = "paused"
    #: The next request waits for an answer.
    BLOCKED = "blocked"
    #: A quota window is full.
    SPENT = "spent"
    #: A batch is filling; new events may end the wait.
    FILLING = "filling"
    #: The queue is not due: another worker has just asked.
    CLOSED = "closed"


class TakenGrant(NamedTuple):
    """One grant in TAKE's reply."""

    id: str
    #: Microseconds of Redis' clock.
    granted_us: int
    #: It is a half of a refused batch.
    group: bool
    raws: list[bytes]
    #: Messages of the other half.
    siblings: list[bytes]
    #: For each of its own messages the id of the event that owns its idempotency key, or ''.
    owners: list[bytes]
    #: Numbers of its own messages that are revoked, from 1.
    revoked: list[int]


class TakeReply(NamedTuple):
    """TAKE's reply; see ``workers/governor/lua/take.lua``."""

    state: State
    grants: list[TakenGrant]
    #: How long the state lasts; None if that is not known.
    wait_ms: int | None = None
    #: With :attr:`State.EMPTY`: time until a waiting message is due; None if none waits.
    due_ms: int | None = None
    #: The account is in outage.
    outage: bool = False
    #: Reason, detail and end of a pause, if this worker is to report it.
    pause: dict[str, Any] | None = None


def take_reply(reply: list[Any]) -> TakeReply:
    """Read TAKE's reply."""
    values = named(reply)
    pause = values.get("pause")
    return TakeReply(
        State(values["state"].decode()),
        [_taken_grant(named(grant)) for grant in values["grants"]],
        values.get("wait_ms"),
        values.get("due_ms"),
        "outage" in values,
        named(pause) if pause else None,
    )


def _taken_grant(values: dict[str, Any]) -> TakenGrant:
    text = values["messages"]
    own = values.get("bytes", b"%d" % len(text)).split()
    lengths = [int(length) for length in (*own, *values.get("sibling_bytes", b"").split())]
    raws = [text[end - length : end] for length, end in zip(lengths, accumulate(lengths), strict=True)]
    return TakenGrant(
        values["id"].decode(),
        values["granted_us"],
        "half" in values,
        raws[: len(own)],
        raws[len(own) :],
        values.get("owners") or [b""] * len(own),
        values.get("revoked") or [],
    )


@dataclass(frozen=True, slots=True)
class Taken:
    """The result of one TAKE.

    Attributes:
        grants: Each is one request to send.
        state: Why it brought no more.
        wait_ms: How long a pause that ends by itself, a spent quota or a filling batch lasts;
            else None.
        due_ms: With ``EMPTY``: milliseconds until a waiting message is due; None if none waits.
        pause: The account paused or goes on, and this worker is to report it.
    """

    grants: list[Grant]
    state: State
    wait_ms: int | None = None
    due_ms: int | None = None
    pause: PauseNews | None = None


@dataclass(frozen=True, slots=True)
class TakeCall:
    """A call of TAKE."""

    queue: str
    account: Account
    id: str
    count: int
    #: When it was first made (monotonic).
    begun_s: float
    argument: bytes
    identity: Identity
    settings: bytes

    @property
    def call(self) -> Call:
        """The call of the script."""
        work = self.count * self.account.batch_max
        return Call("take", self.queue, self.argument, self.identity, self.settings, work=work)


@dataclass(frozen=True, slots=True)
class CommonSettings:
    """TAKE's settings that are the same for all accounts."""

    values: dict[str, Any]
    #: When its letter was dated (monotonic).
    dated_s: float


class Taker:
    """Takes grants. In one thread."""

    def __init__(
        self,
        server: Server,
        accounts: Accounts,
        grants: Grants,
        identities: Identities,
        link_rules: LinkRules,
        *,
        one_first: bool,
    ) -> None:
        """Nothing is sent yet; see :class:`~workers.governor.governor.Governor`."""
        self._server = server
        self._accounts, self._grants, self._link_rules = accounts, grants, link_rules
        self._identities = identities
        self._one_first = one_first
        self._name = f"{GRANT_PREFIX}{uuid.uuid4().hex[:12]}"
        self._calls = 0
        #: Queue -> the call whose reply was lost.
        self._lost: dict[str, TakeCall] = {}
        self._common = self._common_settings()
        #: Queue -> TAKE's settings of it as JSON, and what they were made of.
        self._settings: dict[str, tuple[Identity, CommonSettings, bytes]] = {}

    def call(self, queue: str, count: int, *, due: bool = False) -> TakeCall | None:
        """A call that takes up to ``count`` requests of an account; None without such an account.

        With ``due`` it takes nothing if the queue is not yet due in the schedule. A call whose
        reply was lost is repeated under its id, so that nothing is taken twice.
        """
        accounts = self._accounts()
        self._identities.serve(accounts)
        account = accounts.get(queue)
        if account is None:
            return None
        identity = self._identities.of(account)
        lost = self._lost.pop(queue, None)
        if lost:
            call_id, count, begun = lost.id, lost.count, lost.begun_s
        else:
            self._calls += 1
            call_id, begun = f"{self._name}.{self._calls}", self._server.clock()
        mode = " repeated" if lost else " due" if due else ""
        settings = self._settings_of(account, identity)
        return TakeCall(queue, account, call_id, count, begun, f"{call_id} {count}{mode}".encode(), identity, settings)

    def lose(self, call: TakeCall) -> None:
        """Keep a call without a reply: it may or may not have taken something."""
        self._lost[call.queue] = call

    def receive(self, call: TakeCall, reply: Any) -> Taken:
        """Hold the grants of a reply."""
        read = take_reply(reply)
        grants = [self._opened(call, taken, outage=read.outage) for taken in read.grants]
        for grant in grants:
            self._grants.add(grant)
        pause = PauseNews.of(call.queue, read.pause) if read.pause else None
        return Taken(grants, read.state, read.wait_ms, read.due_ms, pause)

    def _opened(self, call: TakeCall, taken: TakenGrant, *, outage: bool) -> Grant:
        envelopes = [
            open_envelope(raw, owner.decode(errors="replace") if owner else "", self._link_rules)
            for raw, owner in zip(taken.raws, taken.owners, strict=True)
        ]
        for number in taken.revoked:
            envelopes[number - 1].revoked = True
        return Grant(
            id=taken.id,
            queue=call.queue,
            envelopes=envelopes,
            siblings=[Envelope(raw=raw) for raw in taken.siblings],
            group=taken.group,
            outage=outage,
            granted_us=taken.granted_us,
            identity=call.identity,
            lease_end=call.begun_s + call.account.lease_s,
        )

    def _settings_of(self, account: Account, identity: Identity) -> bytes:
        now = self._server.clock()
        common = self._common
        if common.dated_s + LETTER_S < now or common.values["run"] != self._server.run_id:
            common = self._common = self._common_settings()
        cached = self._settings.get(account.queue)
        if cached is None or cached[0] is not identity or cached[1] is not common:
            text = orjson.dumps({**settings_of(account), **quota_settings(identity), **common.values})
            cached = self._settings[account.queue] = (identity, common, text)
        return cached[2]

    def _common_settings(self) -> CommonSettings:
        detail = f"its worker died {MAX_CRASHES} times with it"
        values = {
            "run": self._server.run_id,
            "one_first": self._one_first,
            "notices": self._server.notices,
            "max_crashes": MAX_CRASHES,
            "crashed_letter": letter(None, "crashed", detail, attempts=MAX_CRASHES, duplicate=True),
        }
        return CommonSettings(values, self._server.clock())


def settings_of(account: Account) -> dict[str, Any]:
    """TAKE's settings of an account; see ``workers/governor/lua/take.lua``."""
    provider = PROVIDERS.get(account.provider)
    return {
        "lease_ms": int(account.lease_s * 1000),
        "batch_max": account.batch_max,
        "max_bytes": account.max_bytes,
        "linger_ms": int(account.linger_s * 1000),
        "extra_bytes": provider.extra_bytes_for(account) if provider else 0,
        "dedup_ms": int(account.dedup_s * 1000),
        "outage_after": account.outage_after,
    }


def quota_settings(identity: Identity) -> dict[str, Any]:
    """The scripts' settings of a quota: its windows, the shortest first, and the same as text."""
    windows = [{"limit": window.limit, "length_ms": window.padded_ms} for window in identity.windows]
    limits = " ".join(f"{window['limit']}:{window['length_ms']}" for window in windows)
    return {"windows": windows, "limits": limits}
