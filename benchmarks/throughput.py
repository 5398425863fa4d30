"""One POST per event, one worker process, 8 threads, a local server: Postback against stock Celery with ``acks_late``.

``python -m benchmarks.throughput [EVENTS] [ROUNDS]``. The two run in turn on the same Redis and the same server; the ratio is what counts.
"""

from __future__ import annotations

import statistics
import sys
from typing import Any, Final

import postback
from benchmarks import measure
from postback import tgtrack

THREADS: Final = 8
ACCOUNTS: Final = '[tgtrack.main]\napi_key = "KEY"\nbase_url = "{sink}"\nlimits = "100000/second"\n'
EVENT: Final[dict[str, Any]] = {"user_id": "987654321", "event_type": "sale", "amount": 1500.0, "date": 1795000000}


def main(events: int = 4000, rounds: int = 3) -> None:
    """Print both rates of each round and the ratio of the medians."""
    with measure.arena(ACCOUNTS) as (broker, sink, env):
        from benchmarks.stock import add_event

        postback.configure(broker_url=broker.url, accounts={"tgtrack": ["main"]})
        ours, stock = [], []
        for number in range(rounds):
            postback.send_many([tgtrack.AddEvent(**EVENT) for _ in range(events)])
            ours.append(measure.drained(sink, events, measure.ours("tgtrack"), env))
            for _ in range(events):
                add_event.apply_async(kwargs={"account": "main", "event": EVENT})
            stock.append(measure.drained(sink, events, measure.stock("benchmarks.stock", THREADS), env))
            ratio = ours[-1] / stock[-1]
            print(
                f"round {number + 1}: postback {ours[-1]:.0f}/s, stock {stock[-1]:.0f}/s, ratio {ratio:.2f}", flush=True
            )
    ratio = statistics.median(ours) / statistics.median(stock)
    print(f"one POST per event: postback is {ratio:.2f} x stock Celery (threads, acks_late)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
