"""What applications install: the wheel, and a clean environment with it."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

from workers.devkit import ROOT

#: What of the checkout the build needs; a copy of it keeps ``build/`` and ``*.egg-info`` out of the
#: checkout.
SOURCES: Final = (
    "Makefile", "setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE", "postback", "config", "tasks", "workers",
)  # fmt: skip


def make_wheel(folder: Path) -> str:
    """Run ``make wheel`` in a copy of the checkout and return what it prints.

    It builds with this interpreter's setuptools, so it needs no registry.

    Args:
        folder: An empty directory.
    """
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif origin.exists():
            shutil.copy(origin, source / name)
    # Without the stamp: the copy needs no .venv of its own.
    return run("make", "--no-print-directory", "wheel", f"PY={sys.executable}", "STAMP=", cwd=source)


def build_wheel(folder: Path) -> Path:
    """The wheel that :func:`make_wheel` builds in ``folder``."""
    make_wheel(folder)
    (built,) = folder.glob("source/dist/*.whl")
    return built


def make_environment(wheel: Path, folder: Path) -> Path:
    """Make a clean environment with the wheel in it; returns its interpreter.

    Its dependencies come from this interpreter's site-packages by a ``.pth`` file: downloading
    Celery again would prove nothing more. An editable install of the checkout does not come along:
    it works by a ``.pth`` file of its own, and a directory that a ``.pth`` file adds is not
    searched for more of them.
    """
    run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    executable = folder / "bin" / "python"
    library = Path(run(str(executable), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # A wheel of pure Python is installed by unpacking it.
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(library)
    (library / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return executable


def clean_environ(**extra: str) -> dict[str, str]:
    """This process's environment without what would change a project's: its path, Postback's,
    Celery's and Django's.
    """
    ours = ("POSTBACK_", "CELERY_", "DJANGO_")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith(ours)}
    return {**kept, **extra}


def run(*command: str, cwd: Path | None = None, **env: str) -> str:
    """Run a command in a clean environment and return what it prints.

    Raises:
        AssertionError: It failed; the message holds its output.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean_environ(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
