"""With no governed queue our transport is stock kombu: kombu's own test-suite says so.

The suite is no part of kombu's wheel, so the source distribution of the installed version is
fetched from PyPI; nothing of it is kept.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from workers.devkit import ROOT

SUITE = "t/unit/transport/test_redis.py"


@pytest.fixture(scope="module")
def kombu_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution of the installed kombu."""
    folder = tmp_path_factory.mktemp("kombu")
    wanted = f"kombu=={version('kombu')}"
    fetch = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--no-build-isolation",
        wanted,
        "-d",
        str(folder),
    ]
    done = subprocess.run(fetch, capture_output=True, text=True, check=False)
    archives = list(folder.glob("*.tar.gz"))
    assert archives, f"cannot fetch {wanted}: {done.stderr[-500:]}"
    shutil.unpack_archive(archives[0], folder)
    return next(path for path in folder.iterdir() if path.is_dir())


def run(source: Path, *plugin: str) -> tuple[set[str], int]:
    """The suite's failures and how many passed."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", *plugin, SUITE, "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    done = subprocess.run(command, cwd=source, env=env, capture_output=True, text=True, check=False)
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout[-2000:] + done.stderr[-500:]
    return set(re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)), int(passed[1])


def test_kombus_own_suite_finds_no_difference(kombu_source: Path) -> None:
    """Every case of kombu's Redis suite that stock passes, ours passes."""
    stock_failed, stock_passed = run(kombu_source)
    ours_failed, ours_passed = run(kombu_source, "-p", "tests.compat.ours_for_kombus")
    print(f"kombu {version('kombu')}: stock passes {stock_passed}, ours {ours_passed}")
    assert stock_passed > 200
    assert ours_failed <= stock_failed
    assert ours_passed >= stock_passed
