"""Commands of a contestant.

``python -m benchmarks.rivals SCRIPT work | run | enqueue COUNT | pace COUNT``.

A script is imported and never run as ``__main__``, since some queues name a task after its module.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any


async def send_all(send: Callable[[int], Any], count: int, pause_s: float = 0.0) -> None:
    """Send events one by one.

    Print the seconds that it took, and with a pause between them when each was sent.
    """
    begun = time.perf_counter()
    for number in range(count):
        if pause_s:
            time.sleep(pause_s + number % 7 * 0.003)  # at any phase of whoever polls
            print(number, time.time(), flush=True)
        sent = send(number)
        if inspect.isawaitable(sent):
            await sent
        if number == 0:
            begun = time.perf_counter()  # the first one connects
    print("seconds", time.perf_counter() - begun)


def main(script: str, *command: str) -> None:
    """Run a command of a script of this folder, or of :mod:`benchmarks.ours`."""
    module = importlib.import_module("benchmarks.ours" if script == "ours" else f"benchmarks.rivals.{script}")
    match command:
        case ["work"]:
            os.execv(sys.executable, [sys.executable, "-m", *module.WORKER])
        case ["run", *arguments]:
            module.run(*arguments)
            signal.pause()  # its processor time is read while it lives
        case ["send_many", count]:
            module.send_many(int(count))
        case ["enqueue", count]:
            asyncio.run(send_all(module.send, int(count)))
        case ["pace", count]:
            asyncio.run(send_all(module.send, int(count), 0.03))


if __name__ == "__main__":
    main(*sys.argv[1:])
