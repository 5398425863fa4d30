"""What the demo sends, and what must come of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import postback
from postback import mytracker, tganalytics, tgtrack, tonai, tonapi
from postback.sandbox.exchange import fingerprint
from workers.devkit import Stack

#: The step that the sandbox is told to refuse.
REFUSED_STEP: Final = "no-such-step"
#: Seconds for which one event is put off.
COUNTDOWN_S: Final = 5
#: A payment on TON; its trace is final only at the third look.
PAYMENT: Final = "97264395bd65a255a429b11326c84128b7d70ffed7949abae3036d506ba38621"
#: Seconds to wait for the answer to a look-up.
ANSWER_S: Final = 30.0


@dataclass(frozen=True)
class Cast:
    """One account of the demo.

    It says how the account is set up, and what must have become of its events in the end.
    """

    queue: str
    #: The key of its table that holds the generated credential.
    credential: str
    sent: int
    delivered: int
    waiting: int = 0
    dead: int = 0
    dropped: int = 0
    #: Requests that the provider may see, fewest and most.
    requests: tuple[int, int] = (0, 0)
    #: Events that the provider records; the rest of the delivered ones are look-ups.
    recorded: int = 0
    #: Other keys of its table.
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    key: str = field(default_factory=lambda: f"demo-{secrets.token_hex(12)}")

    @property
    def provider(self) -> str:
        """``tgtrack``."""
        return self.queue.partition(".")[0]

    @property
    def fingerprint(self) -> str:
        """How the sandbox names its key."""
        return fingerprint(self.key)


#: Everybody, in the order in which they are shown.
CAST: Final = (
    Cast("tgtrack.main", "api_key", sent=16, delivered=15, dead=1, recorded=14, requests=(16, 16)),
    Cast(
        "tgtrack.shop",
        "api_key",
        sent=30,
        delivered=20,
        waiting=10,
        recorded=20,
        requests=(20, 20),
        settings={"limits": "3/second; 20 per hour"},
        note="its quota of 20 per hour is spent",
    ),
    Cast("tgtrack.old", "api_key", sent=5, delivered=0, waiting=5, requests=(1, 1), note="its key is revoked"),
    Cast("mytracker.game", "token", sent=245, delivered=245, recorded=245, requests=(13, 17)),
    Cast("tganalytics.docs", "token", sent=60, delivered=60, recorded=60, requests=(3, 5)),
    Cast(
        "tonai.main", "api_key", sent=5, delivered=4, dropped=1, recorded=4, requests=(4, 4), note="1 duplicate dropped"
    ),
    Cast("tonapi.main", "token", sent=1, delivered=1, requests=(3, 3), settings={"poll_s": 1}),
)
#: Providers in that order.
PROVIDERS: Final = tuple(dict.fromkeys(cast.provider for cast in CAST))


def prepare(stack: Stack) -> None:
    """Write the accounts file.

    Tell the sandbox whom to limit, whom to refuse, and how the payment goes.
    """
    for cast in CAST:
        stack.account(cast.queue, **{cast.credential: cast.key, **cast.settings})
    shop, old = (next(cast for cast in CAST if cast.queue == f"tgtrack.{name}") for name in ("shop", "old"))
    stack.sandbox.set_limits("tgtrack", shop.settings["limits"], key=shop.key)
    stack.sandbox.revoke("tgtrack", old.key)
    stack.sandbox.refuse("tgtrack", "event_type", REFUSED_STEP)
    stack.sandbox.tonapi_script(PAYMENT, ["not_found", "in_progress", "final"])


@dataclass
class Sent:
    """What the sends returned."""

    user: Any = None
    payment: Any = None
    due_at: float = 0.0


def send(say: Callable[[str], None]) -> Sent:
    """Send everything, as a bot would."""
    sent = Sent()
    say(
        "tgtrack      12 funnel steps in one send_many, a start, a look-up, one step due in 5 s, one that TGTrack will refuse"
    )
    steps: list[postback.Event] = [
        tgtrack.AddEvent(user_id=str(7_000_000 + n), event_type="lesson", amount=10.0 * n, account="main")
        for n in range(12)
    ]
    postback.send_many(steps)
    tgtrack.UserDidStartBot(user_id="7000100", first_name="Anna", start_value="spring", account="main").delay()
    sent.user = tgtrack.GetUserInfo(user_id="7000100", account="main").delay()
    sent.due_at = time.time() + COUNTDOWN_S
    tgtrack.AddEvent(user_id="7000101", event_type="reminder", account="main").apply_async(countdown=COUNTDOWN_S)
    tgtrack.AddEvent(user_id="7000102", event_type=REFUSED_STEP, account="main").delay()

    say("             30 sales of an account with 20 requests an hour, 5 of an account whose key is revoked")
    postback.send_many(
        tgtrack.AddEvent(user_id=str(7_001_000 + n), event_type="sale", account="shop") for n in range(30)
    )
    postback.send_many(tgtrack.AddEvent(user_id=str(7_002_000 + n), event_type="sale", account="old") for n in range(5))

    say("mytracker    220 custom events and 25 logins, in turn")
    events: list[postback.Event] = []
    for n in range(220):
        events.append(
            mytracker.CustomEvent(
                custom_event_name="level", custom_user_id=f"player-{n}", custom_event_params={"level": str(n % 9 + 1)}
            )
        )
        if n < 25:
            events.append(mytracker.Login(custom_user_id=f"player-{n}"))
    postback.send_many(events)

    say("tganalytics  60 events of a Mini App")
    session = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
    postback.send_many(
        tganalytics.Event(user_id=7_003_000 + n, event_name="app-init", session_id=session) for n in range(60)
    )

    say("tonai        3 conversions, and one of them twice")
    for user in ("7004001", "7004002", "7004003", "7004001"):
        tonai.Conversion(telegram_user_id=user).delay()

    say("tonapi       a payment to look up, and a conversion to report once it is final")
    sent.payment = tonapi.GetEvent(event_id=PAYMENT).apply_async(link=tonai.Conversion(telegram_user_id="7004099").si())
    return sent
