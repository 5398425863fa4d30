"""``make bench``: every line of the table, or ``make bench ONLY=singles``.

``python -m benchmarks [--only LINE …] [--rounds N] [--scale 0.1] [--out FILE]``
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks import contestants
from benchmarks.arena import Void
from benchmarks.lines import journal, posting, waiting
from benchmarks.provider import Provider
from benchmarks.table import Line, Sample, rows
from workers.devkit import ROOT, RedisServer

LINES: Final = {line.name: line for line in (*posting.LINES, *waiting.LINES, *journal.LINES)}
#: Times that a round is repeated if it was void.
REPEATS: Final = 2
HEADER: Final = """# Results of `make bench`

Median (smallest–largest) of {rounds} rounds; contestants take turns in each. A ratio is Postback's figure divided by the rival's, round by round.
*Behind* is where Postback loses to a rival, *missed* where it is not yet as good as its goal. Every event arrived exactly once, or the round is
void; but *crash* wants second arrivals of what was on the wire, and *million* delivers only a part and looks for doubles alone; *idle* and *start*
send one event. How and why: [ADR 26](../docs/adr/0026-what-is-measured.md).

{facts}

| line | measured | who | figure | Postback ÷ it | goal | |
|---|---|---|---|---|---|---|
"""


def measured(line: Line, rounds: int, scale: float, voids: list[str]) -> list[Sample]:
    """All samples of a line; a void round is repeated, and ``voids`` gets its reason."""
    samples: list[Sample] = []
    for number in range(rounds):
        for attempt in range(REPEATS + 1):
            try:
                samples += list(line.measure(scale))
                break
            except Void as void:
                voids.append(f"{line.name}, round {number + 1}: {void}")
                print(f"void: {voids[-1]}", flush=True)
                if attempt == REPEATS:
                    raise
        print(f"{line.name}: round {number + 1} of {rounds}", flush=True)
    return samples


def facts(command: str, taken_s: float, voids: Sequence[str]) -> Iterator[str]:
    """What the figures depend on."""
    with RedisServer() as server:
        redis_version = server.client().info("server")["redis_version"]
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(": ")[2] for line in cpuinfo.splitlines() if line.startswith("model name")), "")
    yield f"- Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {taken_s / 60:.0f} minutes"
    yield f"- Command: `{command}`"
    yield from (f"- Void and repeated: {void}" for void in voids)
    yield f"- Machine: {os.cpu_count()} × {model or platform.machine()}, {platform.system()} {platform.release()}"
    yield f"- Provider: {Provider.name()}; Redis {redis_version}; Python {platform.python_version()}"
    ours = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "redis", "urllib3", "hiredis"))
    yield f"- Postback {version('postback')}: {ours}"
    for rival in contestants.RIVALS:
        yield f"- {rival.name}: {contestants.versions(rival)}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--only", nargs="+", choices=LINES, default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual events, to try a script out")
    parser.add_argument("--out", type=Path, help="default: RESULTS.md, if all lines are measured")
    options = parser.parse_args(argv)
    # Stopped in the middle, it takes its servers and workers along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    contestants.install()
    begun = time.monotonic()
    table: list[str] = []
    voids: list[str] = []
    for name in options.only or LINES:
        line = LINES[name]
        for row in rows(line, measured(line, options.rounds, options.scale, voids)):
            table.append(row)
            print(row, flush=True)
    out: Path | None = options.out or (None if options.only else ROOT / "benchmarks" / "RESULTS.md")
    if not out:
        return
    command = "python -m benchmarks " + shlex.join(sys.argv[1:] if argv is None else argv)
    text = HEADER.format(rounds=options.rounds, facts="\n".join(facts(command, time.monotonic() - begun, voids)))
    out.write_text(text + "\n".join(table) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
