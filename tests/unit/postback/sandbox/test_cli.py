from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from postback.sandbox import cli

ROOT = Path(cli.__file__).parents[2]
SALE = b'{"user_id": "987654321", "event_type": "sale"}'


def run(*argv):
    """Run the command until it would wait; return its code."""
    stop = threading.Event()
    stop.set()
    return cli.command.main(["--port", "0", *argv], standalone_mode=False, obj=stop)


@pytest.fixture
def _signals():
    kept = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    for number, handler in kept:
        signal.signal(number, handler)


pytestmark = pytest.mark.usefixtures("_signals")


def test_welcome(capsys):
    """The command prints its address and what to put into the accounts file."""
    assert run() == 0
    shown = capsys.readouterr().out
    url = re.search(r"http://127\.0\.0\.1:\d+", shown)[0]
    assert shown.startswith(f"Postback sandbox on {url}\n")
    assert f'[tgtrack.main]\napi_key = "any-key"\nbase_url = "{url}"' in shown
    assert all(f"[{name}.main]" in shown for name in ("mytracker", "tganalytics", "tonai", "tonapi"))


def test_port_in_use(capsys):
    """A taken port is one friendly line and code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run("--port", str(port)) == 1
    assert capsys.readouterr().err.startswith(f"postback sandbox: port {port} is in use")


@pytest.mark.parametrize(
    "argv",
    [
        ["--limits", "tgtrack"],
        ["--limits", "tgtrack=often"],
        ["--limits", "nobody=1/day"],
        ["--key", "tgtrack"],
        ["--key", "nobody=K"],
        ["--key", "tgtrack=env:POSTBACK_TEST_UNSET"],
        ["--latency-ms", "fast"],
        ["--latency-ms=-5"],
        ["--slow", "0.1"],
        ["--slow", "2:100"],
        ["--latency-ms", "300-20"],
        ["--fault", '{"kind": "500", "provider": "nobody"}'],
        ["--fault", "500"],
        ["--fault", '{"kind": "explode"}'],
        ["--duplicates", "nobody"],
        ["--port", "99999"],
    ],
)
def test_bad_options(capsys, argv):
    """An option that makes no sense is one line and code 2."""
    assert run(*argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("postback sandbox: ")
    assert error.count("\n") == 1


def test_key_not_echoed(capsys):
    """A malformed --key does not print the key."""
    assert run("--key", "=s3cr3t") == 2
    assert "s3cr3t" not in capsys.readouterr().err


def test_good_options(monkeypatch, tmp_path, capsys):
    """Every option together is taken."""
    monkeypatch.setenv("POSTBACK_TEST_KEY", "K")
    options = [
        "--no-limits",
        "--limits",
        "tgtrack=1/day",
        "--key",
        "tgtrack.main=env:POSTBACK_TEST_KEY",
        "--tgtrack-errors",
        "mixed",
    ]
    options += ["--tonai-errors", "body", "--tgtrack-mode", "sandbox", "--duplicates", "tgtrack", "--latency-ms", "0-5"]
    options += [
        "--slow",
        "0.1:20",
        "--fault",
        '{"kind": "503", "count": 3}',
        "--seed",
        "1",
        "--ledger-file",
        str(tmp_path / "l"),
        "--quiet",
    ]
    assert run(*options) == 0


def test_process(tmp_path):
    """As a process it serves, logs requests without key or personal data, and stops on SIGTERM with
    code 0.
    """
    command = [sys.executable, "-m", "postback.sandbox", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            head = b"POST /v1/s3cr3t/add_event HTTP/1.1\r\nContent-Type: application/json\r\n"
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(SALE) + SALE)
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
        process.send_signal(signal.SIGTERM)
        shown = process.stdout.read()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
    assert re.search(r"^\d\d:\d\d:\d\d 200 tgtrack add_event key=\w{8} recorded$", shown, re.MULTILINE)
    assert "Stopped after 1 requests: 1 events recorded, 0 × 429." in shown
    assert "s3cr3t" not in shown
    assert "987654321" not in shown
