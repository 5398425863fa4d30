"""What runs in the containers, without Docker: the wheel, the rooms that the image has beside it,
and compose's commands, checks and Redis configuration.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from workers.devkit import (
    ROOT,
    SECRETS,
    Process,
    RedisServer,
    accounts_file,
    end_all,
    environment,
    find_binary,
    free_port,
    until,
)

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
#: Service -> the variable of the port that its check asks.
PORTS = {"tgtrack": "POSTBACK_METRICS_PORT", "metrics": "POSTBACK_EXPORTER_PORT", "flower": "FLOWER_PORT"}


class Container:
    """A service's own command and check, where the image would run them."""

    def __init__(self, service: str, python: Path, folder: Path, broker_url: str) -> None:
        self.service, self.python, self.folder = COMPOSE["services"][service], python, folder
        variable = PORTS[service]
        self.port = str(free_port())
        self.containers_port = self.service["environment"].get(variable, "5555")
        self.env = environment(
            POSTBACK_BROKER_URL=broker_url, POSTBACK_ACCOUNTS=str(folder / "accounts.toml"), **{variable: self.port}
        )
        self.process: Process | None = None

    def start(self) -> Process:
        """Start the service's command."""
        command = [str(self.python), *self.service["command"][1:]]
        self.process = Process(command, self.folder / "service.log", env=self.env, cwd=self.folder)
        return self.process

    def is_healthy(self) -> bool:
        """The answer of the service's check."""
        kind, program, *words = self.service["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")
        assert self.containers_port in words
        words[words.index(self.containers_port)] = self.port
        done = subprocess.run([self.python, *words], env=self.env, capture_output=True, check=False, timeout=30)
        return done.returncode == 0


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The image's working directory, with the rooms that the Dockerfile copies, and an account."""
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    for room in re.findall(r"^COPY (\w+) \1$", image, re.M):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__", "accounts.toml"))
    (tmp_path / "accounts.toml").write_text(accounts_file({"tgtrack.main": SECRETS["tgtrack"]}), encoding="utf-8")
    return tmp_path


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Processes that end with the test."""
    processes: list[Process] = []
    yield processes
    end_all(processes, 0)


@pytest.mark.slow
@pytest.mark.parametrize("service", PORTS)
def test_health(service: str, wheel_python: Path, app: Path, redis_server: RedisServer, started: list[Process]) -> None:
    """A service is healthy once it serves; not before, not while it hangs, and not after its
    end.
    """
    container = Container(service, wheel_python, app, redis_server.url)
    assert not container.is_healthy()
    process = container.start()
    started.append(process)
    until(lambda: process.end() or container.is_healthy(), 60, f"{service} is healthy")
    assert process.alive, process.end()
    process.process.send_signal(signal.SIGSTOP)
    assert not container.is_healthy()
    process.process.send_signal(signal.SIGCONT)
    until(container.is_healthy, 60, f"{service} is healthy again")
    process.kill()
    assert not container.is_healthy()


@pytest.mark.slow
def test_a_worker_without_redis(wheel_python: Path, app: Path, started: list[Process]) -> None:
    """A worker that has not found Redis yet is not healthy; one that has lost it is, since no
    restart would help.
    """
    with RedisServer() as server:
        server.kill()
        container = Container("tgtrack", wheel_python, app, server.url)
        started.append(container.start())
        started[0].wait_for("Cannot connect to")
        assert not container.is_healthy()
        server.start()
        until(container.is_healthy, 60, "the worker is healthy")
        server.kill()
        until(lambda: started[0].text().count("Cannot connect to") > 1, 60, "the worker misses Redis")
        assert container.is_healthy()


@pytest.mark.slow
def test_the_journal(wheel_python: Path, app: Path, redis_server: RedisServer, started: list[Process]) -> None:
    """The journal's command runs in the image, and makes its file where the volume is."""
    service = COMPOSE["services"]["journal"]
    (volume,) = (volume.partition(":")[2] for volume in service["volumes"])
    url = re.fullmatch(r"\$\{POSTBACK_JOURNAL_URL:-(.+)\}", service["environment"]["POSTBACK_JOURNAL_URL"])
    assert url
    path = Path(url[1].removeprefix("sqlite:///"))
    assert str(path.parent) == volume
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"install -d -o postback {volume}" in image
    assert image.count("[worker,journal]") == 2
    env = environment(POSTBACK_BROKER_URL=redis_server.url, POSTBACK_JOURNAL_URL=f"sqlite:///{app / path.name}")
    command = [str(wheel_python), *service["command"][1:]]
    started.append(Process(command, app / "service.log", env=env, cwd=app))
    started[0].wait_for("writes the journal of")
    assert (app / path.name).is_file()


def test_redis(tmp_path: Path, started: list[Process]) -> None:
    """The service's Redis wants its password, writes every second and evicts nothing."""
    service, port = COMPOSE["services"]["redis"], free_port()
    (config,) = service["configs"]
    program, path = service["command"]
    assert (program, path) == ("redis-server", config["target"])
    text = COMPOSE["configs"][config["source"]]["content"].replace("${REDIS_PASSWORD:-}", "s3cret")
    (tmp_path / "redis.conf").write_text(text, encoding="utf-8")
    options = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path))
    started.append(Process([find_binary(), tmp_path / "redis.conf", *options], tmp_path / "redis.log"))
    started[0].wait_for("eady to accept connections")
    with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis(port=port, password="s3cret", decode_responses=True) as client:
        kept = client.config_get("appendonly", "appendfsync", "save", "maxmemory-policy")
    assert kept == {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
