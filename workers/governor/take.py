"""TAKE: leave to send, and the messages to be sent, in one step (invariant I1)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from config.accounts import Account
from tasks.envelopes import Envelope, open_envelope
from tasks.grants import GRANT_PREFIX, Grant, Grants
from tasks.letters import letter
from tasks.providers import PROVIDERS
from tasks.signatures import Followers
from workers.governor.identities import Identities, Identity
from workers.governor.pauses import PauseNews
from workers.governor.scripts import State, TakenGrant, take_reply
from workers.governor.server import Call, Server

#: The accounts of this process by queue; asked anew each time, since the file may change.
Accounts = Callable[[], Mapping[str, Account]]

#: Deliveries of a message that ended with the death of its worker; then it is a dead letter ``crashed``.
MAX_CRASHES: Final = 3
#: Seconds after which the scripts' own letter is dated anew.
LETTER_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Taken:
    """What one TAKE brought.

    Attributes:
        grants: Each is one request to send.
        state: Why it brought no more.
        wait_ms: How long that lasts: of a pause that ends by itself, of a spent quota, of a batch that fills; else None.
        due_ms: Where it is empty: milliseconds until something that waits becomes due; None if nothing does.
        pause: What became of the account's pause, if this call is the one that is told.
    """

    grants: list[Grant]
    state: State
    wait_ms: int | None = None
    due_ms: int | None = None
    pause: PauseNews | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """A call of TAKE."""

    queue: str
    account: Account
    id: str
    count: int
    #: When it was made first (monotonic).
    begun_s: float
    argument: bytes
    identity: Identity
    settings: bytes

    @property
    def call(self) -> Call:
        """What asks Redis for it; it moves so many messages at most."""
        work = self.count * self.account.batch_max
        return Call("take", self.queue, self.argument, self.identity, self.settings, work)


@dataclass(frozen=True, slots=True)
class Shared:
    """What TAKE is told beside each account's settings."""

    told: dict[str, Any]
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
        followers: Followers,
        *,
        one_first: bool,
    ) -> None:
        """Nothing is sent yet; see :class:`~workers.governor.governor.Governor`."""
        self._server = server
        self._accounts, self._grants, self._followers = accounts, grants, followers
        self._identities = identities
        self._one_first = one_first
        self._name = f"{GRANT_PREFIX}{uuid.uuid4().hex[:12]}"
        self._calls = 0
        #: Queue -> the call whose reply was lost.
        self._lost: dict[str, Wish] = {}
        self._shared = self._for_all()
        #: Queue -> whose it is, and what TAKE is told of it, as JSON. With another account it is another's.
        self._settings: dict[str, tuple[Identity, Shared, bytes]] = {}

    def wish(self, queue: str, count: int, *, due: bool = False) -> Wish | None:
        """A call that takes up to ``count`` requests of an account; None if there is no such account.

        With ``due``, it takes nothing if the schedule says that the queue cannot be asked yet.

        One whose reply was lost is repeated as it was: what it took is not taken twice.
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
        how = " repeated" if lost else " due" if due else ""
        settings = self._settings_of(account, identity)
        return Wish(queue, account, call_id, count, begun, f"{call_id} {count}{how}".encode(), identity, settings)

    def missed(self, wish: Wish) -> None:
        """Its reply did not come: it may or may not have taken something."""
        self._lost[wish.queue] = wish

    def heard(self, wish: Wish, reply: Any) -> Taken:
        """What it brought."""
        brought = take_reply(reply)
        grants = [self._opened(wish, taken, outage=brought.outage) for taken in brought.grants]
        for grant in grants:
            self._grants.add(grant)
        pause = PauseNews.of(wish.queue, brought.pause) if brought.pause else None
        return Taken(grants, brought.state, brought.wait_ms, brought.due_ms, pause)

    def _opened(self, wish: Wish, taken: TakenGrant, *, outage: bool) -> Grant:
        envelopes = [
            open_envelope(raw, owner.decode(errors="replace") if owner else "", self._followers)
            for raw, owner in zip(taken.raws, taken.owners, strict=True)
        ]
        for number in taken.revoked:
            envelopes[number - 1].revoked = True
        return Grant(
            id=taken.id,
            queue=wish.queue,
            envelopes=envelopes,
            siblings=[Envelope(raw=raw) for raw in taken.siblings],
            group=taken.group,
            outage=outage,
            granted_us=taken.granted_us,
            identity=wish.identity,
            lease_end=wish.begun_s + wish.account.lease_s,
        )

    def _settings_of(self, account: Account, identity: Identity) -> bytes:
        now = self._server.clock()
        shared = self._shared
        if shared.dated_s + LETTER_S < now or shared.told["run"] != self._server.run_id:
            shared = self._shared = self._for_all()
        cached = self._settings.get(account.queue)
        if cached is None or cached[0] is not identity or cached[1] is not shared:
            text = orjson.dumps({**settings_of(account), **quota_settings(identity), **shared.told})
            cached = self._settings[account.queue] = (identity, shared, text)
        return cached[2]

    def _for_all(self) -> Shared:
        detail = f"its worker died {MAX_CRASHES} times with it"
        told = {
            "run": self._server.run_id,
            "one_first": self._one_first,
            "notices": self._server.notices,
            "max_crashes": MAX_CRASHES,
            "crashed_letter": letter(None, "crashed", detail, attempts=MAX_CRASHES, duplicate=True),
        }
        return Shared(told, self._server.clock())


def settings_of(account: Account) -> dict[str, Any]:
    """What TAKE is told of an account; see ``workers/governor/lua/take.lua``."""
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
    """What scripts are told of an account's quota: its windows, the shortest first, and the same as text."""
    windows = [{"limit": window.limit, "length_ms": window.padded_ms} for window in identity.windows]
    return {"windows": windows, "limits": " ".join(f"{one['limit']}:{one['length_ms']}" for one in windows)}
