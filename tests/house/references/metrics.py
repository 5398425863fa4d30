"""Names of metrics in documents, alerts and dashboards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import chain
from typing import Final

import redis
from prometheus_client.metrics_core import Metric

from tests.house.references.commands import spans
from tests.house.references.project import Finding, Project, Text
from tests.unit.tasks.fakes import Server
from workers.governor import Server as RedisOf
from workers.metrics.exporter import Exporter
from workers.observe.measurements import Measurements
from workers.worker import Worker

#: The document that has every metric.
MONITORING: Final = "docs/guides/monitoring.md"
#: What Prometheus adds to a family's name, by its type.
_ENDS: Final = {"counter": ("_total",), "histogram": ("", "_bucket", "_sum", "_count")}


@cache
def families() -> tuple[Metric, ...]:
    """What the exporter and a worker process show."""
    measurements = Measurements(1)
    measurements.watch(Worker(RedisOf(redis.Redis), {}, Server()))
    shown = chain(Exporter([], 1).describe(), measurements.registry.collect())
    return tuple(family for family in shown if family.name.startswith("postback_"))


def _names(family: Metric) -> list[str]:
    """Names under which a family is asked for; the first is the one to document."""
    return [family.name + end for end in _ENDS.get(family.type, ("",))]


def metrics(project: Project, text: Text) -> Iterator[Finding]:
    """``postback_dead_letters``, ``rate(postback_worker_request_seconds_bucket[5m])``."""
    in_monitoring = text.path.startswith("config/monitoring/")
    if not in_monitoring and not text.path.endswith(".md"):
        return
    series = {name for family in families() for name in _names(family)}
    # A counter's family is a text in the code, and no name to ask for.
    other_words = frozenset() if in_monitoring else project.words - {family.name for family in families()}
    for match in re.finditer(r"(?<![\w.@/-])postback_[a-z0-9_]*[a-z0-9](?![\w*…<])", text.content):
        if match[0] not in series | other_words:
            yield match.start(), match[0], "nothing shows such a metric"


def to_document() -> frozenset[str]:
    """Every metric, a counter with its end."""
    return frozenset(_names(family)[0] for family in families())


def undocumented(_: Project, text: Text) -> Iterator[Finding]:
    """The guide to monitoring has them all."""
    if text.path == MONITORING:
        for name in sorted(to_document() - {span for _, span in spans(text)}):
            yield 0, name, "the guide does not have it"
