"""The files around the code, which nothing would miss until the day they are needed."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.contestants import RIVALS, Contestant, requirements
from config.flower import flower_options
from config.providers import PROVIDERS
from config.settings import DEFAULTS, load_settings
from docs.reference.generate import page
from postback._send import producer
from postback.errors import ConfigurationError
from tests.house.references import Project
from workers.flower import check_read_only


def example() -> dict[str, str]:
    lines = Path(".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(Path("docker-compose.yml").read_text(encoding="utf-8"))
    return document


class TestEnvExample:
    """``.env.example``."""

    def test_in_step(self) -> None:
        """It has every variable of the settings and of the producers, with its default, and no
        other.
        """
        ours = {name: value for name, value in example().items() if name.startswith("POSTBACK_")}
        assert ours == {**DEFAULTS, producer.TIMEOUT_VARIABLE: f"{producer.SEND_TIMEOUT_S:g}"}

    def test_nothing_else_is_read(self) -> None:
        """Every POSTBACK_ variable that some module names is in it."""
        rooms = [path for room in ("postback", "config", "tasks", "workers") for path in Path(room).rglob("*.py")]
        named = {
            name
            for path in rooms
            for name in re.findall(r"\bPOSTBACK_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8"))
        }
        assert named <= set(example()), named - set(example())

    def test_works_as_it_is(self) -> None:
        """Copied without a change it changes nothing."""
        assert load_settings(example()) == load_settings({})
        assert flower_options(example()) == flower_options({})


class TestCompose:
    """``docker-compose.yml``."""

    def test_services(self) -> None:
        """Redis, the journal and Flower always run, a worker where its provider is chosen."""
        profiles = {name: service.get("profiles") for name, service in compose()["services"].items()}
        assert {name for name, names in profiles.items() if names is None} == {"redis", "journal", "flower"}
        assert {name: profiles[name] for name in PROVIDERS} == {name: [name] for name in PROVIDERS}

    @pytest.mark.parametrize("variable", ["COMPOSE_PROFILES", "REDIS_PASSWORD", "FLOWER_BASIC_AUTH"])
    def test_required(self, variable: str) -> None:
        """Compose refuses to start without it, and says in what form to set it."""
        assert f"${{{variable}:?set it in .env to " in Path("docker-compose.yml").read_text(encoding="utf-8")

    def test_variables(self) -> None:
        """Every variable that it reads is in ``.env.example``."""
        read = set(re.findall(r"\$\{([A-Z_]+)", Path("docker-compose.yml").read_text(encoding="utf-8")))
        assert read <= set(example()), read - set(example())

    def test_published(self) -> None:
        """What is published, Redis for applications too, is published on loopback only."""
        ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]
        assert "127.0.0.1:${REDIS_PORT:-6379}:6379" in ports
        assert all(port.startswith("127.0.0.1:") for port in ports)

    def test_flower_may_be_read_only(self) -> None:
        """FLOWER_READ_ONLY of ``.env`` reaches Flower; a Flower that does not obey it does not
        start.
        """
        assert compose()["services"]["flower"]["environment"]["FLOWER_READ_ONLY"] == "${FLOWER_READ_ONLY:-}"
        with pytest.raises(ConfigurationError, match=r"FLOWER_READ_ONLY needs Flower 2\.2; 2\.1\.0"):
            check_read_only(True, "2.1.0")
        check_read_only(True, "2.2.0")
        check_read_only(False, "2.1.0")

    def test_redis_keeps_events(self) -> None:
        """Redis keeps its file in a volume."""
        assert compose()["services"]["redis"]["volumes"] == ["redis-data:/data"]
        assert "redis-data" in compose()["volumes"]

    def test_the_journal_keeps_records(self) -> None:
        """The file is in a volume, where the command reads it; .env may name a database."""
        services = compose()["services"]
        url = services["journal"]["environment"]["POSTBACK_JOURNAL_URL"]
        assert url == "${POSTBACK_JOURNAL_URL:-sqlite:////data/postback-journal.sqlite3}"
        assert url == services["postback"]["environment"]["POSTBACK_JOURNAL_URL"]
        for name in ("journal", "postback"):
            assert "journal-data:/data" in services[name]["volumes"]
        assert "journal-data" in compose()["volumes"]
        assert example()["POSTBACK_JOURNAL_URL"] == ""

    def test_no_password_in_a_command(self) -> None:
        """Redis' password is in no command and no check, which ``ps`` shows."""
        for name, service in compose()["services"].items():
            shown = f"{service.get('command')} {service.get('entrypoint')} {service.get('healthcheck')}"
            assert "REDIS_PASSWORD" not in shown, name

    def test_one_redis(self) -> None:
        """All of ours use the one Redis, with its password."""
        services = compose()["services"]
        urls = {
            services[name]["environment"]["POSTBACK_BROKER_URL"]
            for name in (*PROVIDERS, "flower", "journal", "metrics", "postback")
        }
        assert len(urls) == 1
        assert re.fullmatch(r"redis://:\$\{REDIS_PASSWORD:\?.+\}@redis:6379/0", urls.pop())

    def test_command_line(self) -> None:
        """``docker compose run --rm postback …`` is the command, and never starts by itself."""
        service = compose()["services"]["postback"]
        assert (service["entrypoint"], service["restart"], service["profiles"]) == (["postback"], "no", ["tools"])

    @pytest.mark.parametrize("provider", PROVIDERS)
    def test_worker(self, provider: str) -> None:
        """A worker waits for Redis, restarts by itself, and can read its accounts but not write
        them.
        """
        worker = compose()["services"][provider]
        assert worker["command"][-2:] == ["workers", provider]
        assert worker["depends_on"]["redis"]["condition"] == "service_healthy"
        assert worker["restart"] == "unless-stopped"
        assert all(volume["read_only"] for volume in worker["volumes"])

    def test_one_image(self) -> None:
        """All but Redis run the same image."""
        services = compose()["services"]
        ours = (*PROVIDERS, "flower", "journal", "metrics", "postback")
        assert {services[name]["image"] for name in ours} == {"postback"}

    def test_settings(self) -> None:
        """What it sets are variables that the settings know."""
        for name in PROVIDERS:
            assert set(compose()["services"][name]["environment"]) <= set(DEFAULTS)


class TestImage:
    """``Dockerfile`` and ``.dockerignore``."""

    def test_not_root(self) -> None:
        """The container's process is not root."""
        users = re.findall(r"^USER (\S+)", Path("Dockerfile").read_text(encoding="utf-8"), re.M)
        assert users
        assert users[-1] not in ("root", "0")

    def test_no_credentials(self) -> None:
        """The accounts file and .env cannot get into the image or the repository."""
        ignored = Path(".dockerignore").read_text(encoding="utf-8").splitlines()
        assert ignored.index("config/accounts.toml") > ignored.index("!config")
        assert "!.env" not in ignored
        assert {"config/accounts.toml", ".env"} <= set(Path(".gitignore").read_text(encoding="utf-8").splitlines())


class TestProcfileAndMake:
    """``Procfile``, ``Makefile``, ``.ci/run``."""

    def test_process_types(self) -> None:
        """There is one process type for each provider, and the journal and Flower."""
        lines = Path("Procfile").read_text(encoding="utf-8").splitlines()
        types = dict(line.split(": ") for line in lines)
        assert types == {
            **{name: f"python -m workers {name}" for name in PROVIDERS},
            "journal": "python -m workers.journal",
            "flower": "python -m workers.flower",
        }

    def test_help_lists_everything(self) -> None:
        """``make help`` lists every target."""
        told = subprocess.run(
            ["make", "--no-print-directory", "help"], capture_output=True, text=True, check=True
        ).stdout
        phony = re.search(r"^\.PHONY: (.*)$", Path("Makefile").read_text(encoding="utf-8"), re.M)
        assert phony
        assert [line.split()[0] for line in told.splitlines()] == phony[1].split()

    @pytest.mark.parametrize("target", ["install", "demo", "test", "lint", "types", "bench", "chaos", "up", "down"])
    def test_targets(self, target: str) -> None:
        """Make can plan every target."""
        done = subprocess.run(["make", "--dry-run", target], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_ci_is_make_test(self) -> None:
        """CI runs what people run."""
        script = Path(".ci/run")
        assert script.stat().st_mode & 0o100
        assert script.read_text(encoding="utf-8").splitlines()[-1] == "make test"


class TestDocuments:
    """Markdown files."""

    def test_the_reference_is_the_code_s(self) -> None:
        """Every event, field, bound, error, setting and command as it is: `make reference`."""
        assert Path("docs/reference/README.md").read_text() == page()

    def test_columns(self) -> None:
        """Prose has at most 100 columns; tables, code and one long word may have more."""
        wide = []
        for text in Project(Path()).texts():
            if not text.path.endswith(".md") or text.path == "benchmarks/RESULTS.md":
                # `make bench` writes that one.
                continue
            in_code = False
            for number, line in enumerate(text.content.splitlines(), 1):
                in_code ^= line.startswith("```")
                if len(line) > 100 and " " in line.strip() and not in_code and not line.startswith("|"):
                    wide.append(f"{text.path}:{number}")
        assert not wide

    def test_on_no_index(self) -> None:
        """No text tells to install Postback from an index: it is on none."""
        for text in Project(Path()).texts():
            if not text.path.startswith("tests/"):
                assert not re.search(r"pip install '?postback\b", text.content), text.path

    def test_readme(self) -> None:
        """The README has under 120 lines, the two commands and a link to every guide."""
        readme = Path("README.md").read_text(encoding="utf-8")
        assert len(readme.splitlines()) < 120
        assert {"make demo", "make test"} <= {line.partition("#")[0].strip() for line in readme.splitlines()}
        guides = {f"docs/guides/{path.name}" for path in Path("docs/guides").glob("*.md")}
        assert guides <= set(re.findall(r"\]\(([^)]+)\)", readme))


def test_extras() -> None:
    """What producers install is Celery, marshmallow and what the command is made of; all else is an
    extra.
    """
    setup = configparser.ConfigParser()
    setup.read("setup.cfg", encoding="utf-8")
    needed = re.findall(r"^[a-z-]+", setup["options"]["install_requires"], re.M)
    assert needed == ["celery", "kombu", "redis", "marshmallow", "click", "rich"]
    assert {"worker", "dev", "django", "flask"} <= set(setup["options.extras_require"])


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival.name)
def test_rivals(rival: Contestant) -> None:
    """Each rival's script says what it needs, with a range for each."""
    assert all(re.fullmatch(r"[\w\[\]-]+>=[\d.]+(,<\d+)?", one) for one in requirements(rival.script))
