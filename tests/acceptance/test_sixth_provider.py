"""A provider is four modules and its contract cases, all found by themselves: a sixth one, in a
copy of the checkout.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from workers.devkit import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ROOT: Final = Path(__file__).resolve().parents[2]
#: The sixth provider's files, at their paths in a checkout. The guide shows them.
FILES: Final = Path(__file__).with_name("sixth_provider")
MODULES: Final = sorted(str(path.relative_to(FILES)) for path in FILES.rglob("beacon.py"))
KEY: Final = "beacon-Secret-5bf06"
COMMAND: Final = "import sys; from postback.cli import main; sys.exit(main())"
#: Events beyond what one second of the quota allows.
BURST: Final = 12


class Checkout:
    """A copy of the rooms with the sixth provider's files laid over it, and processes that run
    there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for room in ("postback", "config", "tasks", "workers"):
            shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "tests" / "contract", folder / "tests" / "contract")
        shutil.copy(ROOT / "tests" / "__init__.py", folder / "tests")
        shutil.copy(ROOT / "pyproject.toml", folder)
        shutil.copytree(FILES, folder, dirs_exist_ok=True)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("POSTBACK_", "PYTHON"))}
        self.env |= {"POSTBACK_ACCOUNTS": str(folder / "accounts.toml"), "PYTHONUNBUFFERED": "1", "COLUMNS": "100"}

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=self.folder, env=self.env, text=True, stderr=subprocess.STDOUT, **options
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments, stdout=subprocess.PIPE)
        shown, _ = process.communicate(timeout=100)
        return process.returncode, shown

    def send(self, *events: str) -> None:
        """Send events as a producer does, from a process of its own."""
        code, shown = self.run("-c", "from postback.beacon import Visit\n" + "\n".join(f"{e}.delay()" for e in events))
        assert (code, shown) == (0, "")

    def postback(self, *arguments: str) -> Any:
        """What a command prints with ``--json``, one object."""
        code, shown = self.run("-c", COMMAND, *arguments, "--json")
        assert code in (0, 1), shown
        return json.loads(shown)


class Running:
    """The sandbox and a worker of the sixth provider, as processes."""

    def __init__(self, checkout: Checkout, redis: RedisServer) -> None:
        self.checkout, self.redis = checkout, redis
        self.sandbox = checkout.start("-m", "postback.sandbox", "--port", "0", stdout=subprocess.PIPE)
        assert self.sandbox.stdout is not None
        self._lines = self.sandbox.stdout
        self.url = self._lines.readline().rsplit(" ", 1)[1].strip()
        (checkout.folder / "accounts.toml").write_text(
            f'[beacon.main]\nkey = "{KEY}"\nbase_url = "{self.url}"\nregion = "us"\nbackoff_s = 0.05\n'
        )
        checkout.env["POSTBACK_BROKER_URL"] = redis.url
        self.log = checkout.folder / "worker.log"
        with self.log.open("w") as output:
            self.worker = checkout.start("-m", "workers", "beacon", stdout=output)

    def answered(self, requests: int) -> list[str]:
        """The sandbox's next lines about requests; it waits for them."""
        lines: list[str] = []
        while len(lines) < requests:
            line = self._lines.readline()
            assert line, "the sandbox has ended"
            if " beacon visit " in line:
                lines.append(line)
        return lines

    def control(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(f"{self.url}/_sandbox/{path}", data=data), timeout=10) as answer:
            return json.load(answer)

    def stop(self) -> None:
        for process in (self.worker, self.sandbox):
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        self._lines.close()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def running(checkout: Checkout) -> Iterator[Running]:
    with RedisServer() as redis:
        running = Running(checkout, redis)
        yield running
        running.stop()


def test_four_modules() -> None:
    """The provider is four modules and its contract cases, and no other file."""
    files = {path.relative_to(FILES).as_posix() for path in FILES.rglob("*.py")}
    assert len(MODULES) == 4
    assert [Path(file).name for file in files - set(MODULES)] == ["beacon_cases.py"]


def test_the_guide_shows_these_files() -> None:
    """Each example of the guide stands in one of the files, word for word."""
    guide = (ROOT / "docs" / "guides" / "new-provider.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", guide, re.M | re.S)
    files = [_lines(path.read_text(encoding="utf-8")) for path in FILES.rglob("*.py")]
    assert len(examples) > 4
    assert [example for example in examples if not any(_lines(example) in file for file in files)] == []


def _lines(code: str) -> str:
    """Code without indentation and blank lines: an example of two methods begins at the margin."""
    return "\n".join(line.strip() for line in code.splitlines() if line.strip())


def test_delivered(running: Running) -> None:
    """An event is delivered by a real worker, with its time, to the address that the provider's own
    setting names.
    """
    running.checkout.send("Visit(visitor='v-17', page='/prices')")
    assert " 202 beacon visit " in running.answered(1)[0]
    (record,) = running.control("ledger?provider=beacon")["records"]
    assert record["path"] == "/us/visits"
    assert record["recorded"]
    (event,) = record["events"]
    assert (event["visitor"], event["page"]) == ("v-17", "/prices")
    assert event["at"] > 1_700_000_000


def test_tried_again(running: Running) -> None:
    """A failure set by the provider's own control is tried again until it is over."""
    running.control("closed", {"region": "us"})
    running.checkout.send("Visit(visitor='v-18', page='/')")
    assert " 503 beacon visit " in running.answered(1)[0]
    running.control("closed", {"region": "none"})
    while " 503 " in (line := running.answered(1)[0]):
        pass
    assert " 202 " in line


def test_dead_letter(running: Running) -> None:
    """A refused event becomes a dead letter with the provider's words."""
    running.control("refuse", {"provider": "beacon", "field": "page", "value": "/refused"})
    running.checkout.send("Visit(visitor='v-19', page='/refused')")
    assert " 422 beacon visit " in running.answered(1)[0]
    client = running.redis.client()
    # It waits for the letter and leaves the list as it is.
    assert client.blmove("beacon.dead", "beacon.dead", 30, "RIGHT", "LEFT")
    letter = running.checkout.postback("dead", "list", "beacon")
    assert (letter["task"], letter["reason"]) == ("beacon.visit", "rejected")
    assert "refused by rule: page" in letter["detail"]


def test_quota(running: Running) -> None:
    """More events than a second's quota allows are all delivered, and none earns a 429."""
    running.checkout.send(*(f"Visit(visitor='v-{number}', page='/')" for number in range(BURST)))
    assert all(" 202 " in line for line in running.answered(BURST))
    assert running.control("stats")["providers"]["beacon"]["429"] == 0


def test_status(running: Running) -> None:
    """``postback status`` shows the account with its windows, and no key."""
    status = running.checkout.postback("status")
    (account,) = status["accounts"]
    assert (account["provider"], account["account"], account["queued"]) == ("beacon", "main", 0)
    assert [window["text"] for window in account["quota"]] == ["5/second", "3000/hour"]
    assert KEY not in json.dumps(status) + running.log.read_text()


def test_contract(checkout: Checkout) -> None:
    """Its contract cases are found beside the others' and pass."""
    chosen = ("tests/contract", "-k", "beacon or Coverage", "-p", "no:cacheprovider", "-q", "-n", "0")
    code, shown = checkout.run("-m", "pytest", *chosen)
    assert code == 0, shown
    assert int(shown.rsplit(" passed", 1)[0].split()[-1]) > 100


@pytest.mark.parametrize("module", MODULES)
def test_a_missing_module(tmp_path: Path, module: str) -> None:
    """Without one of its four modules a worker ends at once, with one sentence that names the
    file.
    """
    checkout = Checkout(tmp_path)
    (tmp_path / module).unlink()
    sentence = f"postback: the provider beacon has no {module}; a provider is four modules\n"
    assert checkout.run("-m", "workers", "beacon") == (2, sentence)
