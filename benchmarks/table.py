"""Samples become one table.

Medians with their spread, Postback's ratio to each rival, goals, and where it loses.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.contestants import POSTBACK


@dataclass(frozen=True)
class Quantity:
    """What is measured."""

    name: str
    more_is_better: bool


RATE: Final = Quantity("events/s", True)
CPU: Final = Quantity("µs of the worker's processor time per event", False)
REDIS: Final = Quantity("µs of Redis' processor time per event", False)
SCRIPTS: Final = Quantity("µs of Redis' scripts per event", False)
MEMORY: Final = Quantity("MB of memory", False)
ENQUEUED: Final = Quantity("events/s enqueued by one process", True)


@dataclass(frozen=True)
class Sample:
    """One figure of one round."""

    quantity: Quantity
    who: str
    value: float


@dataclass(frozen=True)
class Goal:
    """What Postback must reach: a figure, or a ratio to a rival's."""

    quantity: Quantity
    limit: float
    who: str = POSTBACK.name
    #: The rival to whose figure ``limit`` is a ratio.
    against: str | None = None

    def reached(self, value: float) -> bool:
        """Whether a figure or ratio is good enough."""
        return value >= self.limit if self.quantity.more_is_better else value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.quantity.more_is_better else "≤"
        whose = f" ({self.who})" if self.against and self.who != POSTBACK.name else ""
        return f"{sign} {self.limit:,g}" + (f" ×{whose}" if self.against else "")


@dataclass(frozen=True)
class Line:
    """One line of the bench.

    ``measure`` makes one round; its argument scales how much is sent, 1.0 for figures that count.
    """

    name: str
    title: str
    measure: Callable[[float], Iterator[Sample]]
    goals: Sequence[Goal] = ()


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median, and smallest to largest."""
    low, high = shown(min(values)), shown(max(values))
    return f"{shown(statistics.median(values))}{unit}" + (f" ({low}–{high})" if low != high else "")


def shown(value: float) -> str:
    """Three digits or all of a whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def rows(line: Line, samples: Sequence[Sample]) -> Iterator[str]:
    """The line's rows, in Markdown.

    Rounds are paired: a ratio's spread is that of the rounds' ratios.
    """
    values: dict[tuple[Quantity, str], list[float]] = {}
    for sample in samples:
        values.setdefault((sample.quantity, sample.who), []).append(sample.value)
    title = line.title
    for (quantity, who), measured in values.items():
        goals = [goal for goal in line.goals if goal.quantity == quantity and (goal.against or goal.who) == who]
        is_rival = not who.startswith(POSTBACK.name)
        ratios = []
        if is_rival or any(goal.against for goal in goals):
            whose = next((goal.who for goal in goals if goal.against), POSTBACK.name)
            ours = values.get((quantity, whose), [])
            ratios = [our / rival for our, rival in zip(ours, measured, strict=False) if rival > 0]
        ratio = spread(ratios, " ×") if ratios else ""
        verdict = ""
        if is_rival and ratios:
            verdict = "ahead" if (statistics.median(ratios) >= 1) == quantity.more_is_better else "**behind**"
        for goal in goals:
            value = statistics.median(ratios if goal.against else measured)
            verdict = ", ".join(filter(None, (verdict, "reached" if goal.reached(value) else "**missed**")))
        goal_text = ", ".join(map(str, goals))
        yield f"| {title} | {quantity.name} | {who} | {spread(measured)} | {ratio} | {goal_text} | {verdict} |"
        title = ""
