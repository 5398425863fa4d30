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
from pathlib import Path
from typing import Final

import pytest
from packaging.version import Version

ROOT: Final = Path(__file__).resolve().parents[2]
#: Where behaviour depends on Celery, kombu, redis-py, Flower, Click, Rich or the HTTP engines.
TESTS: Final = (
    "tests/unit/postback/cli", "tests/unit/postback/send", "tests/unit/postback/wire", "tests/unit/tasks",
    "tests/unit/workers", "tests/integration/postback/send", "tests/integration/postback/operations",
    "tests/integration/postback/test_results.py", "tests/integration/workers/test_broker_page.py",
    "tests/acceptance/test_delivery.py",
)  # fmt: skip


def oldest() -> list[str]:
    """``name==version``: the lower end of what setup.cfg requires."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options"]["install_requires"] + setup["options.extras_require"]["worker"]
    ranges = [line for line in map(str.strip, lines.splitlines()) if line and not line.startswith("#")]
    lower = [re.fullmatch(r"([\w\[\]-]+)>=([\d.]+)(,<[\d.]+)?", one) for one in ranges]
    assert all(lower), f"each requirement needs a lower end: {ranges}"
    return [f"{one[1]}=={one[2]}" for one in lower if one]


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter with the oldest releases; what they do not need, such as pytest, it takes from
    this one.
    """
    wanted = oldest()
    folder = Path(sys.prefix) / f"oldest-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"
    executable = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
        installed = subprocess.run(pip, capture_output=True, text=True, check=False)
        assert installed.returncode == 0, installed.stderr[-2000:]
        site = sysconfig.get_path("purelib", vars={"base": str(folder)})
        (Path(site) / "newest.pth").write_text(f"{Path(sysconfig.get_path('purelib')).resolve()}\n")
        (folder / "complete").touch()
    return executable


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_oldest_dependencies(python: Path) -> None:
    """The lowest versions that setup.cfg allows pass the tests, real workers and Flower's pages
    included.
    """
    wanted = [re.sub(r"\[.*\]", "", pin).split("==") for pin in oldest()]
    ask = f"from importlib.metadata import version; print(*map(version, {[name for name, _ in wanted]}))"
    versions = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    for (name, lowest), version in zip(wanted, versions, strict=True):
        assert Version(version) == Version(lowest), name
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
