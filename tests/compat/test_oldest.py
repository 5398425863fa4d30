"""Both ends of the dependencies' ranges: every other test runs with the newest releases, some of
them here with the oldest.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from packaging.version import Version

ROOT: Final = Path(__file__).resolve().parents[2]
#: Who installs Postback -> their extras, and the tests of what they run: where behaviour depends
#: on Celery, kombu, redis-py, marshmallow, Click, Rich, Django, Flask, Flower, SQLAlchemy or the
#: HTTP engines.
INSTALLATIONS: Final = {
    "application": (
        ("django", "flask"),
        (
            "tests/unit/postback/cli", "tests/unit/postback/events", "tests/unit/postback/send", "tests/unit/postback/wire",
            "tests/integration/postback/send", "tests/integration/postback/operations/test_exit_codes.py", "tests/integration/postback/contrib",
            "tests/integration/postback/test_results.py",
        ),
    ),
    "worker": (
        ("worker", "journal"),
        (
            "tests/unit/postback/wire", "tests/unit/tasks", "tests/unit/workers", "tests/integration/workers/test_broker_page.py",
            "tests/acceptance/test_delivery.py", "tests/integration/postback/journal", "tests/integration/workers/journal/test_mover.py",
        ),
    ),
}  # fmt: skip


def oldest(extras: Sequence[str]) -> dict[str, str]:
    """``name[extra]`` -> version: the lower end of what setup.cfg requires, with the higher ends of
    the extras.
    """
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    wanted = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in extras)]
    lines = map(str.strip, "\n".join(wanted).splitlines())
    ranges = [line for line in lines if line and not line.startswith("#")]
    lower = [re.fullmatch(r"([\w\[\]-]+)>=([\d.]+)(,<[\d.]+)?", one) for one in ranges]
    assert all(lower), f"each requirement needs a lower end: {ranges}"
    return {one[1]: one[2] for one in lower if one}


def interpreter(pins: Sequence[str]) -> Path:
    """An interpreter with the oldest releases; what they do not need, such as pytest, it takes from
    this one.
    """
    folder = Path(sys.prefix) / f"oldest-{hashlib.sha256(' '.join(pins).encode()).hexdigest()[:12]}"
    executable = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins]
        installed = subprocess.run(pip, capture_output=True, text=True, check=False)
        assert installed.returncode == 0, installed.stderr[-2000:]
        site = sysconfig.get_path("purelib", vars={"base": str(folder)})
        (Path(site) / "newest.pth").write_text(f"{Path(sysconfig.get_path('purelib')).resolve()}\n")
        (folder / "complete").touch()
    return executable


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("installation", INSTALLATIONS)
def test_oldest_dependencies(installation: str) -> None:
    """The lowest versions that setup.cfg allows an application and a worker pass the tests, real
    workers and Flower's pages included.
    """
    extras, tests = INSTALLATIONS[installation]
    pins = oldest(extras)
    python = interpreter([f"{name}=={version}" for name, version in pins.items()])
    names = [re.sub(r"\[.*\]", "", name) for name in pins]
    ask = f"from importlib.metadata import version; print(*map(version, {names}))"
    versions = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    for name, lowest, version in zip(names, pins.values(), versions, strict=True):
        assert Version(version) == Version(lowest), name
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
