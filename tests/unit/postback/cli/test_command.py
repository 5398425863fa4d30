"""The command line where no Redis is needed: usage, errors, exit codes."""

from __future__ import annotations

import argparse
import io
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from postback.cli.arguments import age, whole
from postback.cli.connections import sites

import postback
from postback._send.event import Event
from postback.cli import main
from postback.cli.terminal import Console, cut, duration, short_duration, width
from postback.errors import ConfigurationError
from postback.operations.queues import providers
from postback.wire.broker import Broker, broker_of, connect, parse_broker
from tests.servers import free_port

SECRET = "s3cret-pa55"
COMMANDS = [
    ["send"], ["status"], ["dead"], ["dead", "list"], ["dead", "replay"], ["dead", "drop"], ["pause"], ["resume"],
    ["check"], ["erase"], ["sandbox"],
]  # fmt: skip


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """A Redis that is not there, with a password."""
    for name in ("POSTBACK_ACCOUNTS", "POSTBACK_SENTINEL_MASTER", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    url = f"redis://user:{SECRET}@127.0.0.1:{free_port()}/0"
    monkeypatch.setenv("POSTBACK_BROKER_URL", url)
    postback.configure()
    yield url
    monkeypatch.undo()
    postback.configure()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(command, capsys):
    """Every command has a help with an example."""
    with pytest.raises(SystemExit) as left:
        main([*command, "--help"])
    assert left.value.code == 0
    assert f"example:\n  postback {command[0]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["nothing"], ["send"], ["dead"], ["dead", "list"], ["dead", "list", "nobody"], ["pause"], ["erase"],
        ["dead", "drop", "tgtrack", "--older-than", "soon"], ["dead", "list", "tgtrack", "--limit", "0"],
        ["status", "--watch", "0"], ["status", "--watch", "x"], ["check", "extra"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage(arguments, capsys):
    """Wrong usage exits 2."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"], ["status", "--json"], ["status", "--check"], ["dead", "list", "tgtrack"],
        ["dead", "replay", "tgtrack"], ["dead", "drop", "tgtrack", "--yes"], ["pause", "tgtrack.main"],
        ["resume", "tgtrack"], ["erase", "--user", "987654321"],
        ["send", "tgtrack.add_event", '{"user_id": "1", "event_type": "sale"}'],
    ],
    ids=" ".join,
)  # fmt: skip
def test_redis_away(arguments, capsys):
    """Without Redis each command says one sentence without the password, soon, and exits 2."""
    begun = time.monotonic()
    assert main(arguments) == 2
    assert time.monotonic() - begun < 6
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "127.0.0.1" in err
    assert SECRET not in err
    assert "Traceback" not in err


def test_check_without_redis(capsys):
    """``check`` lists what it could look at, and exits 2."""
    assert main(["check"]) == 2
    out, err = capsys.readouterr()
    assert "cannot be reached" in out
    assert SECRET not in out + err


def test_a_silent_redis(monkeypatch, capsys):
    """A server that accepts and never answers is given up after a bounded time."""
    monkeypatch.setattr("postback.cli.connections.REPLY_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("POSTBACK_BROKER_URL", f"redis://127.0.0.1:{server.getsockname()[1]}/0")
        assert main(["status"]) == 2
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("url", [f"amqp://u:{SECRET}@h", f"redis://:{SECRET}/@h:1/0", f"redis://:{SECRET}@h/x"])
@pytest.mark.parametrize("command", [["status"], ["pause", "tgtrack.main"], ["check"]], ids=" ".join)
def test_a_wrong_setting(command, url, monkeypatch, capsys):
    """A URL that cannot be used is told by its variable, and exits 2."""
    monkeypatch.setenv("POSTBACK_BROKER_URL", url)
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert "POSTBACK_BROKER_URL" in out + err
    assert SECRET not in out + err


@pytest.mark.parametrize(
    ("task", "given", "told"),
    [
        ("tgtrack.add_event", '{"user_id": 5, "event_type": "sale"}', "user_id must be a string"),
        ("tgtrack.add_event", '{"user_id": "5"}', "event_type is required"),
        ("tgtrack.add_event", '{"user_id": "5", "event_type": "x", "colour": 1}', "colour is not a field"),
        ("tgtrack.add_event", "{", "not JSON"),
        ("tgtrack.add_event", "[" * 100_000, "nested too deep"),
        ("tgtrack.add_event", "[]", "must be a JSON object"),
        ("tgtrack.on_telegram_webhook", "{}", "update_id is required"),
        ("tgtrack.add_evnt", "{}", "did you mean tgtrack.add_event?"),
        ("nothing", "{}", "is no event"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_event(task, given, told, capsys):
    """An event that breaks a rule is refused by its field's name, before Redis is asked; exit 1."""
    assert main(["send", task, given]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert len(err.splitlines()) == 1


def test_not_utf8(monkeypatch, capsys):
    """Bytes on stdin that are no text are refused in a sentence."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff{}")))
    assert main(["send", "tgtrack.add_event", "-"]) == 1
    assert "not UTF-8" in capsys.readouterr().err


def test_stdin_is_verbatim(monkeypatch, capsys):
    """A Telegram update from stdin keeps its bytes."""
    raw = '{ "update_id":1,  "message": {"text": "ё"} }\n'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw.encode())))
    sent = []
    monkeypatch.setattr(Event, "apply_async", lambda self, **options: sent.append(self) or SimpleNamespace(id="id-1"))
    assert main(["send", "tgtrack.on_telegram_webhook", "-", "--account", "shop"]) == 0
    (event,) = sent
    assert event.wire() == raw
    assert event.account == "shop"
    assert capsys.readouterr().out == "id-1\n"


def test_light():
    """Neither the sandbox nor anything of the workers is loaded by the command."""
    script = (
        "import sys, postback.cli\n"
        "found = {'postback.sandbox', 'requests', 'rich', 'flower', 'config', 'limits'} & set(sys.modules)\n"
        "sys.exit(str(found) if found else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(("text", "seconds"), [("45s", 45), ("90m", 5400), ("12h", 43_200), ("1d12h", 129_600)])
def test_age(text, seconds):
    """Ages as people write them."""
    assert age(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "d", "-1d", "1.5h", "1y", "1 d", "٣d"])
def test_no_age(text):
    """Anything else is refused."""
    with pytest.raises(argparse.ArgumentTypeError):
        age(text)


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.0", ""])
def test_no_whole_number(text):
    """A count begins at 1."""
    with pytest.raises(argparse.ArgumentTypeError):
        whole(text)


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [(0, "under 1 s", "now"), (45, "45 s", "45s"), (420, "7 min", "7m"), (32_580, "9 h 3 min", "9h3m"),
     (86_400, "24 h", "1d"), (273_600, "3 d 4 h", "3d4h"), (36_060, "10 h", "10h")],
)  # fmt: skip
def test_durations(seconds, long, short):
    """Two units at most; a day is 24 h."""
    assert (duration(seconds), short_duration(seconds)) == (long, short)


class TestColour:
    class Terminal(io.StringIO):
        """Says that it is one."""

        encoding = "utf-8"

        def isatty(self):
            return True

    def test_terminal(self, monkeypatch):
        """A terminal gets colour, which takes no width."""
        monkeypatch.setenv("TERM", "xterm")
        painted = Console(self.Terminal()).paint("text", "red", "bold")
        assert painted == "\x1b[31;1mtext\x1b[0m"
        assert width(painted) == 4

    @pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
    def test_not_wanted(self, name, value, monkeypatch):
        """NO_COLOR and a dumb terminal get none."""
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv(name, value)
        assert Console(self.Terminal()).paint("text", "red") == "text"

    def test_pipe(self):
        """A pipe gets none."""
        assert Console(io.StringIO()).paint("text", "red") == "text"

    def test_ascii(self):
        """A terminal without UTF-8 gets ASCII."""
        raw = io.BytesIO()
        console = Console(io.TextIOWrapper(raw, encoding="ascii"))
        console.line(console.bar(0.5, 4) + console.mark(True) + cut("long text", 5))
        console.stream.flush()
        assert raw.getvalue() == b"##..oklong...\n"


class TestBrokers:
    def test_a_provider_of_its_own(self):
        """Providers that share a Redis share a connection; one with its own has its own."""
        environ = {"POSTBACK_BROKER_URL": "redis://a/0", "POSTBACK_TONAPI_BROKER_URL": "redis://b/1"}
        found = {site.broker.url: site.providers for site in sites(environ)}
        assert found["redis://b/1"] == ("tonapi",)
        assert found["redis://a/0"] == tuple(name for name in providers() if name != "tonapi")

    def test_the_variable_is_named(self):
        """An error names the variable that is wrong."""
        with pytest.raises(ConfigurationError, match="POSTBACK_TONAPI_BROKER_URL"):
            broker_of("tonapi", {"POSTBACK_TONAPI_BROKER_URL": "amqp://h"})

    @pytest.mark.parametrize("url", ["redis://", "redis://:1/0", "redis://h/events", "sentinel://a:1/x?master_name=m"])
    def test_no_host_or_database(self, url):
        """A URL without a host, or with a database that is no number, is refused."""
        with pytest.raises(ConfigurationError):
            parse_broker(url)

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            (f"redis://user:{SECRET}@h:1/2", "redis://h:1/2"),
            (f"rediss://:{SECRET}@h/0?ssl_cert_reqs=CERT_NONE", "rediss://h/0"),
            (
                f"sentinel://:{SECRET}@a:1/0;sentinel://:{SECRET}@b:2/0?master_name=m",
                "sentinel://a:1/0;sentinel://b:2/0",
            ),
        ],
    )
    def test_shown(self, url, shown):
        """For people: without user and password."""
        assert parse_broker(url).shown == shown

    def test_clients(self):
        """A client for each kind of URL, with its database and its password, and without retries."""
        tcp = connect(f"redis://:{SECRET}@h:7/3").connection_pool.connection_kwargs
        assert (tcp["host"], tcp["port"], tcp["db"], tcp["password"]) == ("h", 7, 3, SECRET)
        assert tcp["retry"].get_retries() == 0
        assert (
            connect("rediss://h/0?ssl_cert_reqs=CERT_NONE").connection_pool.connection_kwargs["ssl_cert_reqs"] == "none"
        )
        unix = connect("redis+socket:///run/redis.sock?virtual_host=2").connection_pool.connection_kwargs
        assert (unix["path"], unix["db"]) == ("/run/redis.sock", 2)
        one = connect(f"sentinel://:{SECRET}@a:1/2;sentinel://b:2/0", sentinel_master="m")
        assert one.connection_pool.service_name == "m"
        assert one.connection_pool.connection_kwargs["password"] == SECRET
        assert isinstance(parse_broker("redis://h"), Broker)
