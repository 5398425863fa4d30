"""Reads the numbers of the demo, shows them while it works, and judges them at the end.

What was sent and recorded is counted by the sandbox, which is the provider here; what waits and
what is dead stands in Redis.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from postback.sandbox.ledger import Record
from postback.wire import keys
from workers.demo.readings import Reading, read_all
from workers.demo.scenario import CAST, PROVIDERS, Cast
from workers.demo.stage import Failed, Stage

#: Seconds in which everything must have happened.
PATIENCE_S: Final = 90.0
#: Seconds between two looks.
LOOK_S: Final = 0.25
#: Seconds between two lines of a provider where the output is no terminal.
PLAIN_S: Final = 2.0
#: Characters of a bar.
BAR: Final = 24


@dataclass
class Board:
    """The numbers of all accounts at one moment."""

    accounts: dict[str, Reading] = field(default_factory=dict)
    #: Answers with 429, of any account.
    too_many: int = 0

    @property
    def done(self) -> bool:
        """Whether every account is where it must end."""
        return bool(self.accounts) and all(
            (now.delivered, now.waiting, now.in_flight, len(now.dead)) == (cast.delivered, cast.waiting, 0, cast.dead)
            and now.requests >= cast.requests[0]
            for cast in CAST
            for now in (self.accounts[cast.queue],)
        )


def look(stage: Stage) -> Board:
    """Read everything now."""
    stats = stage.stack.sandbox.stats()
    with stage.stack.redis.client() as client:
        readings = read_all(client, stats)
    return Board(readings, int(stats["429"]))


def watch(stage: Stage, console: Console) -> Board:
    """Show one line for each provider until everything has happened, or patience ends.

    Raises:
        Failed: A process has ended.
    """
    deadline = time.monotonic() + PATIENCE_S
    board = look(stage)
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for board in _looks(stage, deadline):
                live.update(_lines(board), refresh=True)
        return board
    shown: dict[str, str] = {}
    shown_at = 0.0
    for board in _looks(stage, deadline):
        if time.monotonic() - shown_at < PLAIN_S and not board.done:
            continue
        shown_at = time.monotonic()
        for provider in PROVIDERS:
            line = _line(board, provider)
            if shown.get(provider) != line:
                shown[provider] = line
                console.print(line, highlight=False)
    return board


def _looks(stage: Stage, deadline: float) -> Iterator[Board]:
    while True:
        stage.check_alive()
        board = look(stage)
        yield board
        if board.done or time.monotonic() > deadline:
            return
        time.sleep(LOOK_S)


def _sums(board: Board, provider: str) -> Counter[str]:
    counts = Counter[str]()
    for cast in CAST:
        if cast.provider == provider:
            now = board.accounts[cast.queue]
            dead = len(now.dead)
            counts.update(
                sent=cast.sent,
                delivered=now.delivered,
                dead=dead,
                requests=now.requests,
                left=cast.sent - cast.dropped - now.delivered - dead,
            )
    return counts


def _line(board: Board, provider: str) -> str:
    counts = _sums(board, provider)
    return (
        f"  {provider:<12} {counts['delivered']:>3} of {counts['sent']:>3} delivered, {counts['left']:>3} to go, "
        f"{counts['dead']} dead, {counts['requests']:>3} requests"
    )


def _lines(board: Board) -> Table:
    table = Table.grid(padding=(0, 2))
    for provider in PROVIDERS:
        counts = _sums(board, provider)
        sent = counts["sent"]
        full = BAR * counts["delivered"] // sent
        lost = (BAR * counts["dead"] + sent - 1) // sent
        bar = Text("█" * full, "green") + Text("█" * lost, "red") + Text("░" * max(0, BAR - full - lost), "dim")
        table.add_row(
            Text(f"  {provider}", "bold"),
            bar,
            f"{counts['delivered']}/{sent} delivered",
            f"{counts['left']} to go" if counts["left"] else "",
            Text(f"{counts['dead']} dead", "red") if counts["dead"] else "",
            f"{counts['requests']} requests",
        )
    return table


# The end


def show(board: Board, console: Console) -> None:
    """Print the table of all accounts and the dead letters."""
    table = Table(
        title="What became of every event",
        title_justify="left",
        header_style="bold",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("account", "sent", "delivered", "waiting", "dead", "requests", "batch", "429"):
        table.add_column(name, justify="left" if name == "account" else "right", no_wrap=True)
    table.add_column("why", justify="left")
    for cast in CAST:
        now = board.accounts[cast.queue]
        fill = f"{now.recorded / now.recording:.1f}" if now.recording else "-"
        table.add_row(
            cast.queue, str(cast.sent), str(now.delivered), str(now.waiting or "-"), str(len(now.dead) or "-"),
            str(now.requests), fill, str(now.too_many), "; ".join(_why(cast, now)),
        )  # fmt: skip
    console.print()
    console.print(table, highlight=False)


def _why(cast: Cast, now: Reading) -> Iterator[str]:
    if now.waiting:
        until = (
            "until an operator resumes it"
            if now.until is None
            else f"until {datetime.fromtimestamp(now.until):%H:%M:%S}"
        )
        yield f"waiting {until}: {cast.note or now.reason}" if now.reason else f"waiting: {cast.note}"
    elif cast.note:
        yield cast.note
    yield from (f"dead: {reason}" for reason in now.dead)


def faults(board: Board, ledger: Sequence[Record], results: dict[str, Any], due_at: float) -> list[str]:
    """Whatever did not happen as it must have; empty if all is well.

    Args:
        board: The numbers at the end.
        ledger: Requests that recorded something.
        results: The answers of the look-ups.
        due_at: When the event with a countdown was due, seconds of the epoch.
    """
    faults = []
    for cast in CAST:
        now = board.accounts[cast.queue]
        for what, is_, must in (
            ("delivered", now.delivered, cast.delivered),
            ("recorded by the provider", now.recorded, cast.recorded),
            ("waiting", now.waiting, cast.waiting),
            ("in flight", now.in_flight, 0),
            ("dead", len(now.dead), cast.dead),
            ("429 answers", now.too_many, 0),
        ):
            if is_ != must:
                faults.append(f"{cast.queue}: {is_} {what}, not {must}")
        if not cast.requests[0] <= now.requests <= cast.requests[1]:
            faults.append(f"{cast.queue}: {now.requests} requests, not {cast.requests[0]} to {cast.requests[1]}")
    if board.too_many:
        faults.append(f"{board.too_many} answers were 429")
    shop, old = board.accounts["tgtrack.shop"], board.accounts["tgtrack.old"]
    if shop.until is None or shop.until < time.time() + 60:
        faults.append("tgtrack.shop: waits, but not for its hour")
    if old.reason != "credentials":
        faults.append(f"tgtrack.old: paused for {old.reason or 'nothing'}, not for its credentials")
    if not all(reason.startswith("rejected") for reason in board.accounts["tgtrack.main"].dead):
        faults.append("tgtrack.main: its dead letter has another reason than rejected")
    faults += [f"{name}: no result" for name, result in results.items() if not isinstance(result, dict)]
    return faults + _ledger_faults(ledger, due_at)


def _ledger_faults(ledger: Sequence[Record], due_at: float) -> list[str]:
    """Events that the providers have twice, and the one that came too early."""
    faults = []
    bodies = Counter(
        json.dumps([record.provider, record.key, event], sort_keys=True) for record in ledger for event in record.events
    )
    twice = sum(count - 1 for count in bodies.values())
    if twice:
        faults.append(f"{twice} events were recorded twice")
    for record in ledger:
        early_s = due_at - record.at
        if early_s > 0.05 and any(event.get("event_type") == "reminder" for event in record.events):
            faults.append(f"the event with a countdown came {early_s:.1f} s early")
    return faults


def check_flower(stage: Stage) -> list[str]:
    """Queues that Flower's Broker page must list and does not.

    Raises:
        Failed: A process has ended.
    """
    names = [cast.queue for cast in CAST] + [keys.dead(provider) for provider in PROVIDERS]

    def missing() -> list[str]:
        page = stage.flower_page("/broker")
        return [name for name in names if f">{name}<" not in page]

    deadline = time.monotonic() + PATIENCE_S / 3
    while missing():
        stage.check_alive()
        if time.monotonic() > deadline:
            return [f"Flower does not list {', '.join(missing())}"]
        time.sleep(LOOK_S)
    return []


def console() -> Console:
    """The terminal, or whatever stands for it; wide enough for the table where that is a file."""
    return Console() if sys.stdout.isatty() else Console(width=120)


__all__ = ["Board", "Failed", "check_flower", "console", "faults", "look", "show", "watch"]
