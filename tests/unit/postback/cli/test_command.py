"""The command line where no Redis is needed: usage, errors, exit codes."""

from __future__ import annotations

import io
import re
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

import postback
from postback._send.event import Event
from postback.cli import main
from postback.cli.output import in_ascii
from postback.cli.parameters import age
from postback.cli.terminal import Terminal, bar, mark
from postback.cli.wording import duration, nearest, short_duration
from postback.errors import ConfigurationError
from postback.operations.letters import REASONS
from postback.operations.queues import providers
from postback.operations.sites import sites
from postback.wire.broker import Broker, broker_of, connect, parse_broker
from workers.devkit import free_port
from workers.observe import measurements

SECRET = "s3cret-pa55"
COMMANDS = [
    ["send"], ["status"], ["find"], ["dead"], ["dead", "list"], ["dead", "replay"], ["dead", "drop"], ["pause"], ["resume"],
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
    assert main([*command, "--help"]) == 0
    assert f"example:\n    postback {command[0]}" in capsys.readouterr().out


def test_the_list_of_commands(capsys):
    """``postback --help`` names each command, and the exit codes."""
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {command[0]} " in out for command in COMMANDS)
    assert "Exit codes: 0 done; 1 " in out


def test_the_version(capsys):
    """``postback --version`` says what is installed."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"postback {version('postback')}\n"


@pytest.mark.parametrize(
    ("word", "names", "answer"),
    [
        ("shpo", ["main", "shop"], "did you mean shop?"),
        ("MAIN", ["main", "shop"], "did you mean main?"),
        ("x", ["main", "shop"], "accounts are main, shop"),
        ("x", [], "accounts are not known yet"),
        ("x", [f"n{number}" for number in range(10_000)], "n19 and 9,980 more"),
    ],
)
def test_nearest(word, names, answer):
    """A mistyped name is answered with the nearest one, else with names, not with thousands."""
    assert nearest(word, names, "accounts").endswith(answer)


def test_reasons():
    """The command knows the reasons that the guide explains, and each is one that workers count."""
    guide = Path("docs/guides/delivery.md").read_text().partition("## Why an event is dead")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", guide, re.M)) == REASONS
    assert measurements.REASONS >= REASONS


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "missing command"),
        ("nothing", "no such command 'nothing'; commands are send, status"),
        ("statsu --json", "no such command 'statsu'; did you mean status?"),
        ("--jsn", "no such option"),
        ("dead", "missing command"),
        ("dead lst", "no such command 'lst'; did you mean list?"),
        ("send", "missing argument 'TASK'"),
        ("send tgtrack.add_event", "missing argument 'JSON'"),
        ("send nothing {}", "invalid value for 'TASK': no such event 'nothing'; events are mytracker.registration, "),
        ("send tgtrack.add_evnt {}", "no such event 'tgtrack.add_evnt'; did you mean tgtrack.add_event?"),
        ("dead replay", "missing argument 'PROVIDER'; choose from mytracker, tganalytics, tgtrack, tonai, tonapi; "),
        ("dead drop --yes", "missing argument 'PROVIDER'"),
        ("dead list nobody", "invalid value for '[PROVIDER]': no such provider 'nobody'; providers are mytracker, "),
        ("dead list TGTrack", "no such provider 'TGTrack'; did you mean tgtrack?"),
        (
            "pause tgtrak.main",
            "invalid value for 'PROVIDER[.ACCOUNT]': no such provider 'tgtrak'; did you mean tgtrack?",
        ),
        ("resume", "missing argument 'PROVIDER[.ACCOUNT]'"),
        ("dead replay tgtrack --acount main", "--account"),
        ("dead list tgtrack --jsn", "--json"),
        ("dead list tgtrack --id", "option '--id' requires an argument"),
        ("dead list tgtrack --dry-run", "--dry-run"),
        ("dead drop tgtrack --older-than soon", "invalid value for '--older-than': 'soon' is not an age; write 45s"),
        ("dead list tgtrack --limit 0", "invalid value for '--limit': 0 is not in the range"),
        ("dead list tgtrack --limit 1.5", "invalid value for '--limit': '1.5' is not a valid integer"),
        ("dead list tgtrack --limit -1", "invalid value for '--limit'"),
        ("pause", "missing argument 'PROVIDER[.ACCOUNT]'"),
        ("erase", "missing option '--user'"),
        ("erase --user= --yes", "invalid value for '--user': it is empty"),
        ("erase --user 987654321", "this would remove a person's events for good: add --yes, or --dry-run to look"),
        ("erase --user 987654321 --json", "add --yes, or --dry-run to look"),
        ("status --watch 0", "invalid value for '--watch': '0' is not a number of seconds from 0.1 to 3600"),
        ("status --watch x", "invalid value for '--watch'"),
        ("status --watch nan", "invalid value for '--watch'"),
        ("status --json=yes", "--json"),
        ("check extra", "unexpected extra argument (extra)"),
        ("sandbox --port x", "invalid value for '--port'"),
    ],
)
def test_wrong_usage(arguments, sentence, capsys):
    """Wrong usage exits 2, with one sentence that names what was wrong and says where to read
    more.
    """
    assert main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("postback: ")
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert "--help`" in err


def test_control_characters_in_a_word(capsys):
    """What somebody typed or pasted cannot steer the terminal."""
    assert main(["\x1b[2J\nfake"]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"], ["status", "--json"], ["status", "--check"], ["dead", "list", "tgtrack"],
        ["dead", "replay", "tgtrack"], ["dead", "drop", "tgtrack", "--yes"], ["pause", "tgtrack.main"],
        ["resume", "tgtrack"], ["erase", "--user", "987654321", "--yes"],
        ["erase", "--user", "987654321", "--dry-run", "--json"], ["dead", "list"], ["dead", "list", "--account", "main"],
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
    monkeypatch.setattr("postback.operations.sites.REPLY_S", 0.2)
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
        ("tgtrack.add_event", '{"user_id": 5.5, "event_type": "sale"}', "user_id must be a string or a whole number"),
        ("tgtrack.add_event", '{"user_id": "5"}', "event_type is required"),
        ("tgtrack.add_event", '{"user_id": "5", "event_type": "x", "colour": 1}', "colour is not a field"),
        ("tgtrack.add_event", "{", "not JSON"),
        ("tgtrack.add_event", "[" * 100_000, "nested too deep"),
        ("tgtrack.add_event", "[]", "must be a JSON object"),
        ("tgtrack.on_telegram_webhook", "{}", "payload must have an update_id"),
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


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--account", "shpo"], "tgtrack has no account 'shpo'; did you mean shop?"),
        (["--account", "x"], "tgtrack has no account 'x'; accounts are bot, shop"),
        ([], "tgtrack has several accounts, and none is named main: add --account; they are bot, shop"),
    ],
)
def test_a_wrong_account(options, sentence, capsys):
    """An event for an account that is none is wrong usage, before anything is sent."""
    postback.configure(accounts={"tgtrack": ["shop", "bot"]})
    assert main(["send", "tgtrack.add_event", '{"user_id": "5", "event_type": "sale"}', *options]) == 2
    assert capsys.readouterr() == ("", f"postback: {sentence}\n")


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


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (
            ["send", "tgtrack.add_event", "{}"],
            {"rich", "postback.sandbox", "requests", "flower", "config", "limits", "postback.operations.find"},
        ),
        (["find", "--live"], {"postback.sandbox", "requests", "flower", "config", "limits", "sqlalchemy", "alembic"}),
        (["status"], {"postback.sandbox", "requests", "flower", "config", "limits"}),
        (["sandbox", "--help"], {"rich", "requests", "flower", "config", "limits"}),
    ],
    ids=["send", "find", "status", "sandbox"],
)
def test_light(arguments, absent, nowhere):
    """A command loads what it needs itself: `send` no Rich, only `sandbox` the sandbox, none what
    the workers need.
    """
    script = (
        "import sys\nfrom postback.cli import main\n"
        f"main({arguments!r}, {{'POSTBACK_BROKER_URL': {nowhere!r}}})\n"
        f"loaded = {absent!r} & set(sys.modules)\nsys.exit(str(loaded) if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_settings_may_be_handed_over(monkeypatch, capsys):
    """A program that runs the command says where Redis is without touching the environment."""
    monkeypatch.setenv("POSTBACK_BROKER_URL", "redis://elsewhere.invalid/0")
    assert main(["status"], {"POSTBACK_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}) == 2
    assert "127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--help", "check"])
def test_a_reader_that_has_enough(words, nowhere):
    """`postback … | head -0`: the pipe is broken, and that is no error."""
    script = (
        "import os, signal, subprocess, sys\nfrom postback.cli import main\n"
        "reader, writer = os.pipe()\nos.close(reader)\nos.dup2(writer, 1)\n"
        f"sys.exit(main({words.split()!r}, {{'POSTBACK_BROKER_URL': {nowhere!r}}}))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c(monkeypatch):
    """Ctrl-C ends a command with 130, as a shell expects it."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("postback.cli.erase.sites", interrupted)
    assert main(["erase", "--user", "1", "--yes"]) == 130


@pytest.mark.parametrize(("text", "seconds"), [("45s", 45), ("90m", 5400), ("12h", 43_200), ("1d12h", 129_600)])
def test_age(text, seconds):
    """Ages as people write them."""
    assert age(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "d", "-1d", "1.5h", "1y", "1 d", "٣d"])
def test_no_age(text):
    """Anything else is refused."""
    with pytest.raises(click.BadParameter):
        age(text)


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [(0, "under 1 s", "now"), (45, "45 s", "45s"), (420, "7 min", "7m"), (32_580, "9 h 3 min", "9h3m"),
     (86_400, "24 h", "24h"), (273_600, "3 d 4 h", "3d4h"), (36_060, "10 h", "10h")],
)  # fmt: skip
def test_durations(seconds, long, short):
    """Two units at most; a day is 24 h."""
    assert (duration(seconds), short_duration(seconds)) == (long, short)


class TestTerminal:
    @pytest.fixture
    def written(self, monkeypatch):
        """Writes a line with a mark and a bar, and returns the bytes that reach standard output."""

        def write(*, tty, encoding="utf-8", **environ):
            monkeypatch.setenv("TERM", "xterm")
            for name, value in environ.items():
                monkeypatch.setenv(name, value)
            raw = io.BytesIO()
            stream = io.TextIOWrapper(raw, encoding=encoding)
            stream.isatty = lambda: tty
            monkeypatch.setattr("sys.stdout", stream)
            in_ascii(stream)
            terminal = Terminal()
            terminal.say(mark(True), ("[red]ё…\x1b[2J\x07[/red]\n", "bold red"))
            terminal.print(bar(0.5, 4, "green"))
            return raw.getvalue().decode(encoding)

        return write

    def test_terminal(self, written):
        """A terminal gets colour; foreign text is no markup, and its control characters are
        gone.
        """
        first, second = written(tty=True).splitlines()
        assert first == "\x1b[32m✓\x1b[0m\x1b[1;31m[red]ё… [2J [/red] \x1b[0m"
        assert second.startswith("\x1b[32m━━")

    @pytest.mark.parametrize(
        ("tty", "environ"),
        [
            (True, {"NO_COLOR": "1"}),
            (True, {"TERM": "dumb"}),
            (False, {}),
            (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}),
        ],
    )
    def test_no_colour(self, tty, environ, written):
        """NO_COLOR, a dumb terminal and a pipe get none."""
        assert written(tty=tty, **environ).splitlines() == ["✓[red]ё… [2J [/red] ", "━━"]

    def test_forced(self, written):
        """FORCE_COLOR colours a pipe, too; nothing else of a terminal is written into it."""
        assert written(tty=False, FORCE_COLOR="1").startswith("\x1b[32m✓\x1b[0m\x1b[1;31m[red]")

    @pytest.mark.parametrize(("encoding", "letter"), [("ascii", "?"), ("koi8-r", "ё")])
    def test_not_utf8(self, encoding, letter, written):
        """A terminal without UTF-8 gets a sign of its own for each of ours, and a question mark for
        what it cannot show.
        """
        assert written(tty=False, encoding=encoding).splitlines() == [f"+[red]{letter}~ [2J [/red] ", "--"]

    @pytest.fixture
    def said(self, monkeypatch):
        """What a terminal of so many columns shows of a text, line by line; None: a pipe."""

        def say(text, columns):
            stream = io.StringIO()
            stream.isatty = lambda: columns is not None
            monkeypatch.setattr("sys.stdout", stream)
            monkeypatch.setenv("COLUMNS", str(columns or 60))
            Terminal().say(text)
            return stream.getvalue().splitlines()

        return say

    @pytest.mark.parametrize(("columns", "width"), [(200, 100), (60, 60)])
    def test_width(self, columns, width, said):
        """At most 100 columns, and a narrow terminal is obeyed."""
        assert max(len(line.rstrip()) for line in said("word " * 50, columns)) in range(width - 5, width + 1)

    @pytest.mark.parametrize("text", ["word " * 5000, "x" * 20_000])
    def test_a_pipe_has_no_width(self, text, said):
        """What goes into a pipe is one line, however long and whatever COLUMNS says."""
        assert said(text, None) == [text]

    def test_a_command_stays_whole(self, said):
        """A line is not broken inside a command, and the next one is indented under the first."""
        assert said("  tgtrack.main: look with `postback dead list tgtrack`; then replay", 40) == [
            "  tgtrack.main: look with",
            "    `postback dead list tgtrack`; then",
            "    replay",
        ]

    def test_wide_letters(self, said):
        """A letter that takes two columns counts as two."""
        assert said("请检查 您的事件 类型并重试", 16) == ["请检查 您的事件", "  类型并重试"]


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
        """A client for each kind of URL, with its database and its password, and without
        retries.
        """
        tcp = connect(f"redis://:{SECRET}@h:7/3").connection_pool.connection_kwargs
        assert (tcp["host"], tcp["port"], tcp["db"], tcp["password"]) == ("h", 7, 3, SECRET)
        assert tcp["retry"]._retries == 0
        assert (
            connect("rediss://h/0?ssl_cert_reqs=CERT_NONE").connection_pool.connection_kwargs["ssl_cert_reqs"] == "none"
        )
        unix = connect("redis+socket:///run/redis.sock?virtual_host=2").connection_pool.connection_kwargs
        assert (unix["path"], unix["db"]) == ("/run/redis.sock", 2)
        one = connect(f"sentinel://:{SECRET}@a:1/2;sentinel://b:2/0?master_name=m")
        assert one.connection_pool.service_name == "m"
        assert one.connection_pool.connection_kwargs["password"] == SECRET
        assert isinstance(parse_broker("redis://h"), Broker)
