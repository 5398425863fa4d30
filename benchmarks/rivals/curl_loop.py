# /// script
# dependencies = ["pycurl>=7.45,<8"]
# ///
"""No queue: libcurl's multi handle in one thread, handles reused.

The least that a request can cost in Python.
"""

from __future__ import annotations

import json

import pycurl

from benchmarks.rivals import AT_ONCE, EVENTS, URL, event


def handle() -> pycurl.Curl:
    """A handle that is ready but for its body."""
    curl = pycurl.Curl()
    curl.setopt(curl.URL, URL)
    curl.setopt(curl.HTTPHEADER, ["Content-Type: application/json", "Expect:"])
    curl.setopt(curl.WRITEFUNCTION, lambda data: None)
    return curl


def run() -> None:
    """POST all events."""
    multi, idle = pycurl.CurlMulti(), [handle() for _ in range(int(AT_ONCE))]
    begun = done = 0
    while done < EVENTS:
        while idle and begun < EVENTS:
            curl = idle.pop()
            curl.setopt(curl.POSTFIELDS, json.dumps(event(begun)))
            multi.add_handle(curl)
            begun += 1
        multi.perform()
        multi.select(0.1)
        _, finished, failed = multi.info_read()
        assert not failed, failed
        for curl in finished:
            assert curl.getinfo(curl.RESPONSE_CODE) == 200
            multi.remove_handle(curl)
            idle.append(curl)
        done += len(finished)
