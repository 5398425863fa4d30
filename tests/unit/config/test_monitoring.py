"""Dashboard, scrape configuration, alert rules and their containers fit the metrics that there
are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric

from config.settings import DEFAULTS
from tests.unit.tasks.fakes import Server
from workers.governor import Server as RedisOf
from workers.metrics.exporter import COUNTERS, GAUGES, Exporter
from workers.observe.measurements import Measurements
from workers.worker import Worker

ALERTS = Path("config/monitoring/prometheus/alerts.yml")
PROMETHEUS = Path("config/monitoring/prometheus/prometheus.yml")
DASHBOARD = Path("config/monitoring/grafana/dashboards/postback.json")
#: Labels that Prometheus adds itself.
ADDED = {"instance", "job", "le"}


def worker_metrics() -> dict[str, set[str]]:
    """Series -> labels, of a worker process."""
    measurements = Measurements(200)
    measurements.watch(Worker(RedisOf(redis.Redis), {}, Server()))
    found: dict[str, set[str]] = {}
    for name in ("_events", "_requests", "_seconds", "_fill", "_scripts"):
        metric: Any = getattr(measurements, name)
        (family,) = metric.describe()
        labels = set(metric._labelnames)
        for series in _series(family):
            found[series] = labels
    for family in measurements.registry.collect():
        if family.name.startswith("postback_worker_") and family.type == "gauge":
            found[family.name] = {"provider", "account"}
    return found


def _series(family: Metric) -> list[str]:
    ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
    return [f"{family.name}{end}" for end in ends]


def metrics() -> dict[str, set[str]]:
    """Every series there is -> its labels."""
    return {
        **{name: set(labels) for name, (_, labels) in GAUGES.items()},
        **{f"{name}_total": set(labels) for name, (_, labels) in COUNTERS.items()},
        **worker_metrics(),
    }


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


@pytest.mark.parametrize(("place", "expression"), list(expressions()))
def test_metrics_exist(place: str, expression: str) -> None:
    """Every metric that an alert or a panel names is one of ours, and so are the labels that it
    picks or sums by.
    """
    known = metrics()
    named = set(re.findall(r"\bpostback_\w+", expression))
    assert named <= set(known), (place, named - set(known))
    labels = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression))
    for listed in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        labels |= {label.strip() for label in listed.split(",")}
    allowed = set().union(ADDED, *(known[name] for name in named))
    assert labels <= allowed, (place, labels - allowed)


def test_every_metric_is_described() -> None:
    """What the exporter shows says what it is, and registering it asks no Redis."""
    registry = CollectorRegistry()
    registry.register(Exporter([], 200))
    page = generate_latest(registry).decode()
    for name in (*GAUGES, *(f"{name}_total" for name in COUNTERS)):
        assert f"# HELP {name} " in page


def test_labels_of_annotations() -> None:
    """What an alert says of a label, its expression has: none is shown empty."""
    for rule in rules():
        text = " ".join(rule["annotations"].values())
        known = set().union(ADDED, *(metrics()[name] for name in re.findall(r"\bpostback_\w+", rule["expr"])[:1]))
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= known, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "action"}


@pytest.mark.parametrize(
    "wanted",
    [
        "DeadLetters", "CredentialsRefused", "BacklogOld", "QuotaExhausted", "NoWorker", "QuotaAnswers", "RedisMemory",
        "RedisAway", "ExporterDown", "JournalStopped", "JournalBehind", "JournalLost",
    ],
)  # fmt: skip
def test_alerts(wanted: str) -> None:
    """There is one alert of this name."""
    assert [rule["alert"] for rule in rules()].count(f"Postback{wanted}") == 1


def test_dashboard() -> None:
    """Panels have ids and places of their own, and the source that is chosen."""
    everything = panels()
    assert len({panel["id"] for panel in everything}) == len(everything)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["description"]


def test_scraping() -> None:
    """Prometheus asks the exporter on the port that compose gives it, and finds the workers through
    it.
    """
    compose = yaml.safe_load(Path("docker-compose.yml").read_text())["services"]
    port = compose["metrics"]["environment"]["POSTBACK_EXPORTER_PORT"]
    assert port == DEFAULTS["POSTBACK_EXPORTER_PORT"]
    config = yaml.safe_load(PROMETHEUS.read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["postback"]["static_configs"] == [{"targets": [f"metrics:{port}"]}]
    assert jobs["postback-worker"]["http_sd_configs"][0]["url"] == f"http://metrics:{port}/workers"
    assert config["rule_files"] == [ALERTS.name]


def test_compose() -> None:
    """Monitoring starts on demand, and has no credential of a provider."""
    compose = yaml.safe_load(Path("docker-compose.yml").read_text())
    for name in ("metrics", "prometheus", "grafana"):
        service = compose["services"][name]
        assert service["profiles"] == ["monitoring"]
        assert "env_file" not in service
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert Path(source).exists() if source.startswith(".") else source in compose["volumes"]
    assert compose["services"]["metrics"]["command"][-1] == "workers.metrics"


def test_provisioning() -> None:
    """Grafana finds the dashboard where compose puts it, and the source that it takes by
    default.
    """
    folder = Path("config/monitoring/grafana/provisioning")
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((folder / "dashboards" / "postback.yml").read_text())["providers"]
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    assert variables[0]["current"]["value"] == source["uid"]
    volumes = yaml.safe_load(Path("docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    assert f"./config/monitoring/grafana/dashboards:{provider['options']['path']}:ro" in volumes
