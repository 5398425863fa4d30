"""One thread posting a batch of 20: the worker's own way, ``requests.Session.post``, and http.client with nothing around it.

``python -m benchmarks.sending [REQUESTS] [ROUNDS]``. All three in turn on the same local server. The ratios are of processor time: the server
shares the machine.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

import requests

from benchmarks import measure
from benchmarks.batching import ACCOUNTS, EVENT
from config.accounts import build_account
from tasks.exchange import HttpRequest
from workers.http import RequestsSender

BODY: Final = json.dumps([EVENT] * 20, separators=(",", ":")).encode()
HEADERS: Final = {"Authorization": "TOKEN", "Content-Type": "application/json"}
PATH: Final = "/v1/customEventBatch/?idApp=666"


def ways(sink: str) -> Mapping[str, Callable[[], object]]:
    """What is compared, by name."""
    account = build_account("mytracker", "game", {"id_app": 666, "token": "TOKEN", "base_url": sink})
    sender, session = RequestsSender(), requests.Session()
    connection = http.client.HTTPConnection(sink.removeprefix("http://"), timeout=10)

    def bare() -> bytes:
        connection.request("POST", PATH, BODY, HEADERS)
        return connection.getresponse().read()

    return {
        "postback": lambda: sender.send(HttpRequest("POST", sink + PATH, HEADERS, BODY), account),
        "requests": lambda: session.post(sink + PATH, data=BODY, headers=HEADERS, timeout=10).raise_for_status(),
        "http.client": bare,
    }


def main(count: int = 2000, rounds: int = 5) -> None:
    """Print the processor time of a request and the ratios of the medians."""
    spent_us: dict[str, list[float]] = {}
    with measure.arena(ACCOUNTS) as (_, sink, _):
        compared = ways(sink)
        for _ in range(rounds):
            for name, send in compared.items():
                send()  # connects
                begun = time.thread_time()
                for _ in range(count):
                    send()
                spent_us.setdefault(name, []).append((time.thread_time() - begun) / count * 1e6)
    median = {name: statistics.median(values) for name, values in spent_us.items()}
    print(", ".join(f"{name} {value:.0f} us" for name, value in median.items()))
    print(f"postback takes {median['postback'] / median['requests']:.2f} x requests.Session.post")
    print(f"postback takes {median['postback'] / median['http.client']:.2f} x http.client")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
