"""What applications install, seen from a project that is not ours."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

import pytest
import redis

from tests.shared.wheel import make_environment, make_wheel, run
from workers.devkit import RedisServer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The commands that ``make wheel`` prints, in a copy of the checkout."""
    printed = make_wheel(tmp_path_factory.mktemp("wheel"))
    return re.findall(r"^  (pip install .+)$", printed, re.M)


@pytest.fixture(scope="session")
def wheel(commands: list[str]) -> Path:
    """The wheel that it has built."""
    return Path(commands[0].partition("'")[2].rstrip("'"))


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a clean environment with the wheel in it."""
    return make_environment(wheel, tmp_path_factory.mktemp("environment"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A producer's project whose own modules have the names of our rooms."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "__init__.py").write_text("OWNER = 'the bot'\n")
    for name in ("tasks", "workers", "settings"):
        (tmp_path / f"{name}.py").write_text("OWNER = 'the bot'\n")
    return tmp_path


def test_only_the_sdk(wheel: Path) -> None:
    """The wheel holds ``postback`` alone: no config, tasks or workers to collide with a producer's
    own.
    """
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
    assert top == {"postback", "postback-0.1.0.dist-info"}


def test_every_file_of_it(wheel: Path) -> None:
    """Every module of ``postback/`` is in the wheel, and so is what is no module: types, Lua,
    pages.
    """
    kept = {".py", ".lua", ".html", ".typed"}
    expected = {str(path.relative_to(ROOT)) for path in (ROOT / "postback").rglob("*") if path.suffix in kept}
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.startswith("postback/")}
    assert inside == expected | {"postback/py.typed"}


def test_entry_points(wheel: Path) -> None:
    """The command and the pytest plugin are announced."""
    with zipfile.ZipFile(wheel) as archive:
        told = archive.read("postback-0.1.0.dist-info/entry_points.txt").decode()
    assert "postback = postback.cli:main" in told
    assert "postback = postback.contrib.pytest" in told


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_printed_commands(commands: list[str], tmp_path: Path) -> None:
    """Each command that ``make wheel`` prints installs, from elsewhere, what it says and nothing
    that does not fit.
    """
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    programs = tmp_path / "venv" / "bin"
    assert [re.findall(r"\[(\w+)\]'$", command) for command in commands] == [[], ["django"], ["flask"], ["journal"]]
    for command, module in zip(
        commands,
        ("postback", "postback.contrib.django", "postback.contrib.flask", "postback.journal.store"),
        strict=True,
    ):
        run("sh", "-c", f". {programs}/activate && {command} && pip check && postback --help", cwd=tmp_path)
        run(str(programs / "python"), "-c", f"import {module}", cwd=tmp_path)


def test_import_beside_modules_of_the_same_names(python: Path, project: Path) -> None:
    """A producer's own ``config`` and ``tasks`` stay its own, and ours are nowhere to be found."""
    script = (
        "import config, tasks, workers, postback, postback.testing\n"
        "from postback import tgtrack, mytracker, tganalytics, tonai, tonapi\n"
        "assert {config.OWNER, tasks.OWNER, workers.OWNER} == {'the bot'}\n"
        "event = tgtrack.AddEvent(user_id='1', event_type='sale')\n"
        "print(postback.__file__, event.task_name)"
    )
    path, task_name = run(str(python), "-c", script, cwd=project).split()
    assert Path(path).is_relative_to(python.parent.parent)
    assert task_name == "tgtrack.add_event"


@pytest.mark.parametrize(
    "module",
    [
        "requests",
        "flower",
        "tornado",
        "django.db",
        "flask",
        "rich",
        "prometheus_client",
        "sqlalchemy",
        "alembic",
        "postback.sandbox",
        "pytest",
    ],
)
def test_light(module: str, python: Path, project: Path) -> None:
    """Importing every event loads neither what only workers need, nor a framework, nor the sandbox.

    Of Django only ``django.db`` is ours to avoid: kombu itself takes a class from ``django.utils``
    where it can.
    """
    script = (
        "from postback import tgtrack, mytracker, tganalytics, tonai, tonapi\n"
        f"import sys; sys.exit({module!r} in sys.modules)"
    )
    run(str(python), "-c", script, cwd=project)


@pytest.mark.parametrize("words", ["--help", "dead list --help", "sandbox --help"])
def test_the_command(words: str, python: Path, project: Path) -> None:
    """The command runs from the wheel, beside a ``config`` and a ``workers`` of somebody else."""
    script = "import sys; from postback.cli import main; sys.exit(main())"
    assert run(str(python), "-c", script, *words.split(), cwd=project).startswith("Usage: postback ")


def test_data_files(python: Path, project: Path) -> None:
    """Type checkers find the marker through ``importlib.resources``, as every other data file is
    found.
    """
    run(
        str(python),
        "-c",
        "from importlib.resources import files; assert (files('postback') / 'py.typed').is_file()",
        cwd=project,
    )


def test_enqueue_beside_modules_of_the_same_names(
    python: Path, project: Path, redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    """A site with a ``config`` package and a ``tasks.py`` of its own sends an event to Redis."""
    script = (
        f"import config, tasks, postback\npostback.configure(broker_url={redis_server.url!r})\n"
        "postback.tgtrack.AddEvent(user_id='1', event_type='sale').delay()"
    )
    run(str(python), "-c", script, cwd=project)
    assert redis_client.llen("tgtrack.main\x06\x163") == 1
