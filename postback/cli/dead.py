"""``postback dead list | replay | drop``."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from typing import Final

import redis

from postback._events.event import EVENTS
from postback.cli.arguments import Commands, add_provider, age, command, whole
from postback.cli.connections import Site, site_of
from postback.cli.terminal import WIDTH, Console, clean, counted, cut, duration, left, say_error
from postback.operations import deadletters, status
from postback.operations.deadletters import Moved
from postback.operations.letters import Filter, Letter
from postback.wire import keys
from postback.wire.time import moment, redis_now_ms

#: Letters that the table shows if no ``--limit`` is given.
SHOWN: Final = 50


def add(commands: Commands, given: list[str]) -> None:
    """Declare the commands."""
    parser = command(
        commands,
        "dead",
        "List, replay or drop dead letters.",
        "postback dead list tgtrack --reason rejected\npostback dead replay tgtrack --older-than 1h --dry-run",
        lambda args, console: 2,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    look = command(
        actions,
        "list",
        "Show dead letters, the oldest first, with people's data shortened.",
        "postback dead list tgtrack --account main --json",
        run_list,
    )
    look.add_argument("--json", action="store_true", help="one object a line, with the whole event")
    again = command(
        actions,
        "replay",
        "Put dead letters back into their queues, the oldest first; the quota holds for them.",
        "postback dead replay tgtrack --reason exhausted --dry-run",
        run_replay,
    )
    away = command(
        actions,
        "drop",
        "Delete dead letters for good.",
        "postback dead drop tgtrack --older-than 30d",
        run_drop,
    )
    for one in (look, again, away):
        add_provider(one)
        one.add_argument("--id", action="append", default=[], metavar="ID", help="this event; may be repeated")
        one.add_argument("--reason", action="append", default=[], metavar="R", help="this reason; may be repeated")
        one.add_argument("--account", metavar="A", help="of this account")
        one.add_argument("--older-than", type=age, metavar="AGE", help="dead for longer than 45s, 90m, 12h, 30d, 2w")
        one.add_argument("--limit", type=whole, metavar="N", help="at most so many, the oldest first")
    for one in (again, away):
        one.add_argument("--dry-run", action="store_true", help="only say what would be done")
    away.add_argument("--yes", "--all", action="store_true", help="do not ask, even if everything is to go")


def run_list(args: argparse.Namespace, console: Console) -> int:
    """List them."""
    with site_of(args.provider).asked() as client:
        if args.json:
            found = False
            for letter in deadletters.letters(client, args.provider, _filter(args)):
                console.line(json.dumps(letter.as_json()))
                found = True
            return 0 if found or not args.id else _not_found(args.provider, args.id)
        return _table(client, args, console)


def run_replay(args: argparse.Namespace, console: Console) -> int:
    """Replay them, and say how long delivering will take."""
    site = site_of(args.provider)
    with site.asked() as client:
        moved = deadletters.replay(client, args.provider, _filter(args), dry_run=args.dry_run)
    word = "would be replayed" if args.dry_run else "replayed"
    console.line(f"{counted(moved.total, 'dead letter')} {word}")
    if moved.expired:
        told = "its `expires` has passed and is" if moved.expired == 1 else "their `expires` has passed and is"
        console.line(f"  {moved.expired:,} had expired: {told} taken off")
    for line in _forecast(site, moved, args.dry_run):
        console.line(line)
    return _not_found(args.provider, moved.missing) if moved.missing else 0


def run_drop(args: argparse.Namespace, console: Console) -> int:
    """Drop them, after a question if it is about all."""
    chosen = _filter(args)
    with site_of(args.provider).asked() as client:
        if chosen.is_empty and not args.yes and not args.dry_run:
            total = min(client.llen(keys.dead(args.provider)), args.limit or sys.maxsize)
            if not total:
                console.line("0 dead letters dropped")
                return 0
            if not sys.stdin.isatty():
                say_error(f"this would drop all dead letters of {args.provider}: add --yes, or a filter")
                return 2
            console.stream.write(f"Drop {counted(total, 'dead letter')} of {args.provider} for good? [y/N] ")
            console.stream.flush()
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                console.line("nothing dropped")
                return 1
        moved = deadletters.drop(client, args.provider, chosen, dry_run=args.dry_run)
    console.line(f"{counted(moved.total, 'dead letter')} {'would be dropped' if args.dry_run else 'dropped'}")
    return _not_found(args.provider, moved.missing) if moved.missing else 0


def _filter(args: argparse.Namespace) -> Filter:
    return Filter(frozenset(args.id), frozenset(args.reason), args.account, args.older_than, args.limit)


def _not_found(provider: str, ids: frozenset[str] | list[str]) -> int:
    say_error(f"no dead letter of {provider} has the id {', '.join(cut(clean(one), 64) for one in sorted(ids))}")
    return 1


def _forecast(site: Site, moved: Moved, dry_run: bool) -> list[str]:
    """How long delivering takes, account by account, with what waits there already."""
    if not moved.total:
        return []
    with site.asked() as client:
        seen = status.snapshot(client, site.providers)
    lines = []
    for queue, count in moved.by_queue.items():
        account = seen.of(queue)
        text = f"  {queue}: {counted(count, 'event')}"
        if account is None or not account.announced:
            lines.append(f"{text}; no worker has announced this account, so nobody reads its queue")
            continue
        share_s, eta_s = account.share_s(count), account.eta_s(count if dry_run else 0)
        text += f": {duration(share_s)} of quota" if share_s >= 1 else ""
        if eta_s is None and account.paused:
            text += f"; the account is paused ({account.paused.reason}): they wait until `postback resume {queue}`"
        elif eta_s is not None:
            behind = account.queued + account.delayed - (0 if dry_run else count)
            others = f" behind {counted(behind, 'other')}" if behind > 0 else ""
            text += f"; the last one leaves in {duration(eta_s)}{others}" if eta_s >= 1 else "; they leave at once"
        if not account.served:
            text += "; no live worker serves it"
        lines.append(text)
    return lines


def _table(client: redis.Redis, args: argparse.Namespace, console: Console) -> int:
    now_ms = redis_now_ms(client)
    shown, more, reasons = 0, 0, Counter[str]()
    for letter in deadletters.letters(client, args.provider, _filter(args)):
        reasons[letter.reason] += 1
        if args.limit is None and shown >= SHOWN:
            more += 1
            continue
        shown += 1
        for line in _lines(letter, now_ms, console):
            console.line(line)
    if args.id and not shown:
        return _not_found(args.provider, args.id)
    if more:
        console.line(console.paint(f"… and {more:,} more; --limit N or --json shows them", "dim"))
    told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
    console.line(f"{counted(shown + more, 'dead letter')}{': ' + told if told else ''}")
    return 0


def _lines(letter: Letter, now_ms: float, console: Console) -> list[str]:
    """Two lines: what and when; why and whose, people's data shortened."""
    failed_s = moment(letter.failed_at)
    ago = "?" if failed_s is None else f"{duration(max(0.0, now_ms / 1000 - failed_s))} ago"
    attempts = letter.told.get("attempts")
    tries = counted(attempts, "attempt") if isinstance(attempts, int) else ""
    place = f"{letter.provider}.{letter.account or '?'}"
    first = (
        left(console.paint(cut(clean(letter.message.id) or "(no id)", 36), "bold"), 37)
        + left(cut(clean(letter.message.task) or "(no task)", 28), 28)
        + left(cut(place, 17), 18)
        + ago
    )
    words = " ".join(str(word) for word in (letter.told.get("status"), letter.told.get("detail")) if word)
    event = EVENTS.get(letter.message.task)
    summary = event.summary(letter.kwargs.get("event")) if event else ""
    about = " · ".join(part for part in (clean(words), tries, clean(summary)) if part)
    flag = console.paint(" possible duplicate", "yellow") if letter.possible_duplicate else ""
    room = WIDTH - 4 - len(letter.reason) - (19 if letter.possible_duplicate else 0)
    return [first, f"  {console.paint(letter.reason, 'red')}{flag}  {cut(about, room)}"]
