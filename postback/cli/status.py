"""``postback status``: what is stuck, why, until when."""

from __future__ import annotations

import argparse
import json
import time
from functools import reduce
from operator import add as plus
from typing import Final

from postback.cli.arguments import Commands, command
from postback.cli.connections import RedisAway, sites
from postback.cli.table import draw
from postback.cli.terminal import Console, clean
from postback.operations import status as operation
from postback.operations.alarms import Alarm, alarms

#: Alarms of one kind that are said one by one.
SAID: Final = 50
#: Seconds between two looks of ``--watch``.
WATCH_S: Final = 2.0


def add(commands: Commands, given: list[str]) -> None:
    """Declare the command."""
    parser = command(
        commands,
        "status",
        "Show every account: what waits, how much quota is left and when it returns, pauses, dead letters.",
        "postback status --watch\npostback status --check || alert",
        run,
    )
    parser.add_argument("--json", action="store_true", help="one JSON document for machines; times in ISO 8601 UTC")
    parser.add_argument("--all", action="store_true", help="each account, also where there are hundreds")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_interval,
        const=WATCH_S,
        metavar="SECONDS",
        help=f"look again every few seconds until Ctrl-C (default: {WATCH_S:g})",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="say only what needs a person, and exit 1 if something does: an account without valid credentials or with "
        "events and no worker, an orphaned queue, dead letters, a Redis that is nearly full",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Show it, once or until Ctrl-C."""
    if args.watch is None:
        return _show(args, console)
    code = 0
    try:
        while True:
            try:
                if console.is_terminal and not args.json:
                    console.stream.write("\x1b[H\x1b[2J")
                code = _show(args, console)
            except RedisAway as away:
                console.line(console.paint(clean(str(away)), "red"))
            console.stream.flush()
            time.sleep(args.watch)
    except KeyboardInterrupt:
        return code


def look() -> operation.Snapshot:
    """A snapshot over all Redis servers.

    Raises:
        RedisAway: One of them cannot be asked.
    """
    found = []
    for site in sites():
        with site.asked() as client:
            found.append(operation.snapshot(client, site.providers, url=site.broker.shown))
    return reduce(plus, found)


def _show(args: argparse.Namespace, console: Console) -> int:
    seen = look()
    needed = alarms(seen)
    if args.json:
        document = seen.as_json()
        document["alarms"] = [{"kind": alarm.kind, "place": alarm.place, "text": alarm.text} for alarm in needed]
        console.line(json.dumps(document))
    elif args.check:
        _say(needed, console)
    else:
        for line in draw(seen, console, every=args.all):
            console.line(line)
    return 1 if args.check and needed else 0


def _say(needed: list[Alarm], console: Console) -> None:
    kinds: dict[str, list[Alarm]] = {}
    for alarm in needed:
        kinds.setdefault(alarm.kind, []).append(alarm)
    for alarm in (alarm for some in kinds.values() for alarm in some[:SAID]):
        console.line(f"{console.mark(False)} {console.paint(alarm.place, 'bold')}: {alarm.text}")
    for kind, some in kinds.items():
        if len(some) > SAID:
            console.line(
                f"{console.mark(False)} and {len(some) - SAID:,} more like these ({kind}): `postback status --json`"
            )
    if not needed:
        console.line(f"{console.mark(True)} nothing needs a person")


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return seconds
