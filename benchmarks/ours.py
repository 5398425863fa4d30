"""Postback as a contestant: what a rival's script has, and ``send_many``."""

from __future__ import annotations

import os
import time
from typing import Any, Final

import postback
from benchmarks.rivals import REDIS_URL, batch_event, event
from postback import mytracker, tgtrack

#: Most events of one ``send_many``: a million need not be in memory at once.
CHUNK: Final = 10_000
PROVIDER: Final = os.environ.get("BENCH_PROVIDER", "tgtrack")
WORKER: Final = ("workers", PROVIDER)
ACCOUNTS: Final = [f"a{number}" for number in range(int(os.environ.get("BENCH_ACCOUNTS", "1")))]


def made(number: int) -> Any:
    """The event of that number, for one of the accounts in turn."""
    account = ACCOUNTS[number % len(ACCOUNTS)]
    if PROVIDER == "mytracker":
        return mytracker.CustomEvent.load(batch_event(number), account=account)
    return tgtrack.AddEvent(**event(number), account=account)


def send(number: int) -> None:
    """``.delay()``."""
    made(number).delay()


def send_many(count: int) -> None:
    """``send_many``, in as few calls as a producer would."""
    send(0)  # connects
    begun = time.perf_counter()
    for first in range(1, count, CHUNK):
        postback.send_many([made(number) for number in range(first, min(first + CHUNK, count))])
    print("seconds", time.perf_counter() - begun)


postback.configure(broker_url=REDIS_URL, accounts={PROVIDER: ACCOUNTS})
