"""``postback status``: what is stuck, why, until when."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from operator import add
from typing import Final

import click
from rich.console import Group, RenderableType
from rich.live import Live

from postback.cli.overview import overview
from postback.cli.parameters import example
from postback.cli.terminal import Terminal, assemble, columns, mark, plain
from postback.operations.alarms import Alarm, alarms
from postback.operations.sites import RedisAway, Site, sites
from postback.operations.status import Snapshot, snapshot

#: Alarms of one kind that are said one by one.
SAID: Final = 50
#: Seconds between two looks of ``--watch``.
WATCH_S: Final = 2.0

#: Puts something on the terminal.
Show = Callable[[RenderableType], object]


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise click.BadParameter(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return seconds


@click.command(epilog=example("postback status --watch", "postback status --check || alert"))
@click.option("--json", "as_json", is_flag=True, help="One JSON document for machines; times in ISO 8601 UTC.")
@click.option("--all", "every", is_flag=True, help="Every account, even if there are hundreds.")
@click.option(
    "--watch",
    "watch_s",
    is_flag=False,
    flag_value=str(WATCH_S),
    type=_interval,
    metavar="[SECONDS]",
    help=f"Look again every few seconds until Ctrl-C.  [default: {WATCH_S:g}]",
)
@click.option(
    "--check",
    is_flag=True,
    help="Say only what needs a person, and exit 1 if something does: an account without valid credentials or with "
    "events and no worker, an orphaned queue, dead letters, a Redis that is nearly full, a journal that is behind.",
)
@click.pass_obj
def status(environ: Mapping[str, str], as_json: bool, every: bool, watch_s: float | None, check: bool) -> int:
    """Show what waits, why and until when.

    For every account: its queue, how much quota is left and when it returns, its pause, its dead
    letters.
    """
    # Its clients stay, however often it looks.
    terminal, places = Terminal(), sites(environ)

    def look(show: Show) -> int:
        seen = _snapshot(places)
        needed = alarms(seen)
        if as_json:
            document = seen.as_json()
            document["alarms"] = [{"kind": alarm.kind, "place": alarm.place, "text": alarm.text} for alarm in needed]
            click.echo(json.dumps(document))
        else:
            show(_needed(needed, terminal) if check else overview(seen, terminal, every=every))
        return 1 if check and needed else 0

    if watch_s is None:
        return look(terminal.print)
    if as_json or not terminal.is_interactive:
        return _watch(look, terminal, terminal.print, watch_s)
    with Live(console=terminal, auto_refresh=False) as live:
        return _watch(look, terminal, partial(live.update, refresh=True), watch_s)


def _watch(look: Callable[[Show], int], terminal: Terminal, show: Show, watch_s: float) -> int:
    """Look until Ctrl-C; the exit code is that of the last look."""
    code = 0
    try:
        while True:
            terminal.width = columns()
            try:
                code = look(show)
            except RedisAway as away:
                show(plain(str(away), "red"))
            time.sleep(watch_s)
    except KeyboardInterrupt:
        return code


def _snapshot(places: Sequence[Site]) -> Snapshot:
    """A snapshot over all Redis servers.

    Raises:
        RedisAway: One of them cannot be asked.
    """
    snapshots = []
    for site in places:
        with site.asked() as client:
            snapshots.append(snapshot(client, site.providers, url=site.broker.shown))
    return reduce(add, snapshots)


def _needed(needed: list[Alarm], terminal: Terminal) -> Group:
    if not needed:
        return Group(assemble(mark(True), " nothing needs a person"))
    lines = []
    for kind in dict.fromkeys(alarm.kind for alarm in needed):
        same = [alarm for alarm in needed if alarm.kind == kind]
        lines += [assemble(mark(False), " ", (alarm.place, "bold"), f": {alarm.text}") for alarm in same[:SAID]]
        if len(same) > SAID:
            more = f" and {len(same) - SAID:,} more like these ({kind}): `postback status --json`"
            lines.append(assemble(mark(False), more))
    return Group(*map(terminal.hung, lines))
