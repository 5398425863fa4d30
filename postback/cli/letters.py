"""Dead letters as people read them."""

from __future__ import annotations

import heapq
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from postback._events.event import EVENTS
from postback.cli.output import clean
from postback.cli.terminal import WIDTH, Terminal
from postback.cli.wording import counted, short_duration, shortened
from postback.operations import deadletters
from postback.operations.letters import Filter, Letter
from postback.operations.sites import Site
from postback.wire.time import moment, redis_now_ms

#: Letters that a terminal shows if no ``--limit`` is given.
SHOWN: Final = 50
#: Longest piece of a letter on a terminal, in characters.
ABOUT: Final = 300
#: Widths of a letter's id, event and account, in columns, so that letters stand below each other.
PLACES: Final = (36, 27, 17)


def oldest_first(places: list[Site], chosen: Filter) -> Iterator[tuple[float, Letter]]:
    """Letters of all of the sites' providers, the oldest first, each with the time of its Redis."""

    def of(site: Site, provider: str) -> Iterator[tuple[float, Letter]]:
        with site.asked() as client:
            now_ms = redis_now_ms(client)
            for letter in deadletters.letters(client, provider, chosen):
                yield now_ms, letter

    each = [of(site, provider) for site in places for provider in site.providers]
    merged = heapq.merge(*each, key=lambda pair: moment(pair[1].failed_at) or 0.0)
    return islice(merged, chosen.limit)


def summarize(counts: Mapping[str, Counter[str]], shown: int, terminal: Terminal) -> None:
    """How many there are, and why; of several providers each in a line of its own."""
    total = sum(reasons.total() for reasons in counts.values())
    if total > shown:
        terminal.say((f"… and {total - shown:,} more; --limit N or --json shows them", "dim"))
    by_provider = {
        name: ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
        for name, reasons in counts.items()
    }
    only = by_provider.popitem()[1] if len(by_provider) == 1 else ""
    terminal.say(f"{counted(total, 'dead letter')}{only and ': ' + only}")
    for name, reasons in sorted(by_provider.items()):
        terminal.say(f"  {name}: {reasons}")


def show(letter: Letter, now_ms: float, terminal: Terminal) -> None:
    """What and when; below, why and whose, people's data shortened."""
    failed_s, most = moment(letter.failed_at), ABOUT if terminal.is_terminal else sys.maxsize
    words = (
        shortened(letter.message.id, most) or "(no id)",
        shortened(letter.message.task, most) or "(no task)",
        f"{letter.provider}.{letter.account or '?'}",
        "?" if failed_s is None else f"{short_duration(max(1.0, now_ms / 1000 - failed_s))} ago",
    )
    # Below each other where there is room.
    widths = (*PLACES, 0) if terminal.width >= WIDTH else (PLACES[0], 0, 0, 0)
    padded = [word.ljust(width) for word, width in zip(words, widths, strict=True)]
    attempts = letter.header.get("attempts")
    event = EVENTS.get(letter.message.task)
    parts = (
        " ".join(str(word) for word in (letter.header.get("status"), letter.header.get("detail")) if word),
        counted(attempts, "attempt") if isinstance(attempts, int) else "",
        (event.summary(letter.kwargs.get("event")) or "") if event else "",
    )
    about = shortened(" · ".join(part for part in parts if clean(part).strip()), most)
    duplicate = " possible duplicate" if letter.possible_duplicate else ""
    terminal.say((padded[0], "bold"), " ", " ".join(padded[1:]))
    terminal.say("  ", (letter.reason, "red"), (duplicate, "yellow"), f"  {about}" if about else "")
