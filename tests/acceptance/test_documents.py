"""Every code block of README and guides is run, or read by what it is written for."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks.quickstart import Newcomer
from config.accounts import load_accounts
from tests.acceptance.documents import ROOT, Block, blocks
from workers.devkit import Stack, environment, free_port, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

DOCUMENTS = [str(path.relative_to(ROOT)) for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/guides/*.md")))]
#: Document -> its world, a module of tests/acceptance/documents, and what the sandbox then has.
WORLDS = {
    "README.md": ("readme", {"add_event": 2}),
    "docs/guides/django.md": ("django", {"add_event": 1}),
    "docs/guides/flask.md": ("flask", {"on_telegram_webhook": 1}),
    "docs/guides/aiogram.md": (
        "aiogram",
        {"on_telegram_webhook": 2, "add_event": 1, "user_did_start_bot": 2, "my_bot_was_stopped": 1},
    ),
    "docs/guides/fastapi.md": ("fastapi", {"add_event": 1, "on_telegram_webhook": 1, "get_user_info": 1}),
    "docs/guides/quickstart.md": ("quickstart", {"add_event": 5, "get_user_info": 1}),
    "docs/guides/how-to.md": ("howto", {}),
}
#: Document -> what providers must get, byte for byte: models' own values.
ON_THE_WIRE = {
    "README.md": (b'"user_id":"7000000001","event_type":"sale"', b'"amount":1499.9}'),
    "docs/guides/fastapi.md": (b'"user_id":"98765"', b'"amount":1499.9}'),
}
#: Documents whose blocks another test runs.
ELSEWHERE = {
    ("docs/guides/new-provider.md", "python"): "tests/acceptance/test_sixth_provider.py",
    ("docs/guides/how-to.md", "js"): "tests/compat/test_analytics_sdk.py",
}
#: Blocks without a language: commands, which tests/house/references resolves, and what they print.
NO_LANGUAGE = ""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Redis, the sandbox without limits, and a worker."""
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits="1000/second")
        stack.start_workers("tgtrack")
        yield stack


@pytest.mark.parametrize("path", WORLDS)
def test_python(path: str, stack: Stack) -> None:
    """The blocks run in their order as they are printed, and what they send arrives."""
    world, expected = WORLDS[path]
    stack.sandbox.reset()
    stack.sandbox.set_limits("tgtrack", None)
    env = {**stack.env(), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error:postback"}
    command = [sys.executable, "-m", f"tests.acceptance.documents.{world}"]
    done = subprocess.run(command, cwd=stack.folder, env=env, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr

    def arrived() -> Counter[str]:
        return Counter(call.method for call in stack.sandbox.ledger("tgtrack") if call.status == 200)

    stack.sandbox.wait_for(lambda _: sum(arrived().values()) >= sum(expected.values()))
    assert arrived() == expected
    bodies = b"\n".join(call.body for call in stack.sandbox.ledger("tgtrack"))
    for part in ON_THE_WIRE.get(path, ()):
        assert part in bodies


def test_the_quickstart_s_commands(tmp_path: Path) -> None:
    """Typed in order as they are printed, other ports apart, they deliver the event.

    ``python -m benchmarks.quickstart`` does the same in a fresh clone, ``make install`` included.
    """
    checkout = tmp_path / "checkout"
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "accounts.toml", "*.egg-info", "build")
    shutil.copytree(ROOT, checkout, ignore=unwanted)
    (checkout / ".venv").symlink_to(sys.prefix)
    for file in ("setup.cfg", "setup.py", "pyproject.toml"):
        os.utime(checkout / file, (0, 0))  # else make would install this checkout into our environment
    redis, flower, sandbox = (str(free_port()) for _ in range(3))
    env = environment(PORT=redis, FLOWER_PORT=flower, POSTBACK_BROKER_URL=f"redis://127.0.0.1:{redis}/0")
    newcomer = Newcomer(checkout, env, {"8900": sandbox})
    try:
        newcomer.follow(skip=("make install",))
        until(newcomer.sees_the_request, 30, "the request on the sandbox's page")
    finally:
        newcomer.leave()


def test_toml(tmp_path: Path) -> None:
    """Each table of accounts is one that a worker takes."""
    tables = [block for path in DOCUMENTS for block in blocks(path, "toml")]
    assert tables
    for block in tables:
        file = tmp_path / "accounts.toml"
        file.write_text(block.text)
        environ = dict.fromkeys(re.findall(r"env:(\w+)", block.text), "Secret")
        queues = {f"{provider}.{name}" for provider, named in tomllib.loads(block.text).items() for name in named}
        assert set(load_accounts(file, environ)) == queues, str(block)


def _read_ini(block: Block) -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(block.text)
    assert {"Unit", "Service", "Install"} <= set(parser.sections())


def _read_yaml(block: Block) -> None:
    (scrape,) = yaml.safe_load(block.text).values()
    assert all(job["job_name"] for job in scrape)


READERS = {"ini": _read_ini, "yaml": _read_yaml, "json": lambda block: json.loads(block.text)}


def test_no_block_is_left_out() -> None:
    """A new block has a test, or this one names it."""
    left_out = [
        str(block)
        for path in DOCUMENTS
        for block in blocks(path)
        if not (
            block.language in (NO_LANGUAGE, "toml")
            or (block.language == "python" and path in WORLDS)
            or (path, block.language) in ELSEWHERE
            or block.language in READERS
        )
    ]
    assert not left_out


@pytest.mark.parametrize("language", READERS)
def test_other_languages(language: str) -> None:
    """A unit of systemd, a part of Prometheus' settings: what they are for could read them."""
    for path in DOCUMENTS:
        for block in blocks(path, language):
            READERS[language](block)


@pytest.mark.parametrize(("path", "language"), ELSEWHERE)
def test_what_runs_elsewhere(path: str, language: str) -> None:
    """The test that is named reads the document."""
    assert blocks(path, language)
    assert Path(path).name in (ROOT / ELSEWHERE[path, language]).read_text()
