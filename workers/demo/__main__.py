"""``python -m workers.demo``: exit status 0 only if everything happened as it must."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from celery.exceptions import CeleryError
from rich.console import Console

from workers.demo import board
from workers.demo.scenario import ANSWER_S, CAST, PROVIDERS, Sent, prepare, send
from workers.demo.stage import Failed, Stage, Stopped

#: Characters of a result that are shown.
LONGEST: Final = 80


def main() -> int:
    """Run the demo. Returns 0 if all is well, 1 if not, 128 + the signal if it was stopped."""
    console = board.console()
    keep = os.environ.get("KEEP", "").strip().lower() not in ("", "0", "no", "false")
    status = 1
    try:
        with Stage() as stage:
            status = _run(stage, console)
            if keep:
                _stay(stage, console)
    except Stopped as stopped:
        if not keep or status:
            console.print(f"\nStopped by {stopped}; nothing is left running.")
            return 128 + stopped.number
        console.print("\nStopped; nothing is left running.")
    except Failed as failed:
        console.print(f"\n{failed}", style="red", markup=False, highlight=False)
    return status


def _run(stage: Stage, console: Console) -> int:
    begun = time.monotonic()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(
        "A bot's events go to five providers, within their quotas, by ordinary Celery on Redis. Nothing leaves this machine.\n"
    )
    _timed(say, "Redis", stage.start_redis)
    _timed(say, "Sandbox", stage.start_sandbox)
    prepare(stage.stack)
    _timed(say, "Workers", lambda: stage.start_rest(PROVIDERS))

    say("\nSending")
    stage.stack.configure_producer()
    sent = send(lambda text: say(f"  {text}"))
    say("\nDelivering")
    seen = board.watch(stage, console)
    results = _results(sent)
    board.show(seen, console)
    for name, result in results.items():
        say(f"{name} -> {_short(result)}")
    ledger = stage.stack.sandbox.ledger(recorded=True)
    faults = board.faults(seen, ledger, results, sent.due_at) + board.check_flower(stage)
    took = f"{time.monotonic() - begun:.0f} s"
    if faults:
        console.print(f"\nNot as expected, after {took}:", style="bold red")
        for fault in faults:
            say(f"  {fault}")
        return 1
    accounts = seen.accounts.values()
    requests, delivered = sum(now.requests for now in accounts), sum(now.delivered for now in accounts)
    total = sum(cast.sent for cast in CAST)
    console.print(
        f"\nAll as expected: {delivered} of {total} events delivered in {requests} requests, no 429, {took}.",
        style="bold green",
        highlight=False,
    )
    return 0


def _timed(say: Callable[[str], None], what: str, start: Callable[[], str]) -> None:
    begun = time.monotonic()
    summary = start()
    say(f"{what:<8} {summary} ({time.monotonic() - begun:.1f} s)")


def _results(sent: Sent) -> dict[str, Any]:
    """The answers of both look-ups; None for one that is not there."""
    answers: dict[str, Any] = {}
    for name, result in (("tgtrack.GetUserInfo", sent.user), ("tonapi.GetEvent", sent.payment)):
        try:
            answers[name] = result.get(timeout=ANSWER_S)
        except CeleryError:
            answers[name] = None
    return answers


def _short(result: Any) -> str:
    text = json.dumps(result, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def _stay(stage: Stage, console: Console) -> None:
    """Leave everything up until a signal comes."""
    exports = "\n".join(f"  export {name}={value}" for name, value in stage.stack.settings().items())
    console.print(
        f"""
Everything stays up. It has no password, so it listens on this machine only.

  Flower    {stage.flower_url}
  Sandbox   {stage.stack.sandbox.url}/_sandbox/
  Logs      {stage.stack.folder}

Try, in another terminal:

{exports}
  {os.path.join(sys.prefix, "bin", "postback")} status
  {os.path.join(sys.prefix, "bin", "postback")} dead list tgtrack

Ctrl-C stops it and leaves nothing behind.""",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    while True:
        stage.check_alive()
        time.sleep(0.5)


if __name__ == "__main__":
    raise SystemExit(main())
