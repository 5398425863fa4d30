"""Writes this folder's README.md from the code: ``make reference``. A test compares the two.

Everything is said once: fields and bounds in ``postback/``, errors in ``postback/errors.py``,
variables in ``.env.example``, keys of accounts in ``config/accounts.example.toml``, quotas in
``config/providers/``, commands in ``postback/cli/``.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import click

import postback
from config.policy import Policy
from config.providers import POLICIES
from postback import EVENTS, errors
from postback._events.described import ACCOUNT, meanings, type_text
from postback._events.fields import ID_CHARS, NAME_CHARS, TEXT_CHARS, UNSET, Field
from postback._events.payload import MAX_MESSAGE_BYTES
from postback._send.options import CeleryOptions, SendOptions
from postback.cli import postback as command
from postback.journal.life import Change, Found
from postback.wire.keys import RESERVED_NAMES

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = Path(__file__).with_name("README.md")
#: Width of the commands' help, in characters.
HELP_WIDTH: Final = 80
#: Width of prose, in characters.
WIDTH: Final = 100

_WAYS: Final = ("delay", "apply_async", "adelay", "delay_on_commit", "delay_via_outbox", "si", "load")


def page() -> str:
    """The whole page."""
    parts = [
        _HEAD, *_providers(), *_sending(), *_finding(), *_events(), *_errors(), *_variables(), *_accounts(), _BOUNDS, *_commands(),
    ]  # fmt: skip
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"
    outside_code = text.split("\n```")
    outside_code[::2] = ["\n\n".join(map(_filled, part.split("\n\n"))) for part in outside_code[::2]]
    return "\n```".join(outside_code)


def _filled(paragraph: str) -> str:
    """A paragraph in lines of the documents' width; tables and headings as they are."""
    if paragraph.lstrip("\n").startswith(("|", "#", "<")):
        return paragraph
    lines = textwrap.wrap(paragraph, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(["", *lines] if paragraph.startswith("\n") else lines)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A Markdown table, and an empty line."""
    cells = list(head)
    yield f"| {' | '.join(cells)} |"
    yield f"|{'---|' * len(cells)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |".replace("|  |", "| |")
    yield ""


def first_paragraph(docstring: str | None) -> str:
    """A docstring up to its first empty line, in one line, without Sphinx's roles."""
    text = " ".join(inspect.cleandoc(docstring or "").partition("\n\n")[0].split())
    return markdown(text)


def markdown(text: str) -> str:
    """A docstring's text: roles and double backticks as Markdown has them."""
    return re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text).replace("``", "`")


def _providers() -> Iterator[str]:
    yield "## Providers\n"
    heads = ("provider", "events", "in a request", "quota if the account has no `limits`", "host")
    yield from table(heads, (_provider(policy) for policy in POLICIES.values()))
    yield _PROVIDERS


def _provider(policy: Policy) -> tuple[str, ...]:
    events = [event for event in EVENTS.values() if event.provider == policy.provider]
    batch = f"up to {policy.batch_max} events" if policy.batch_max > 1 else "one event"
    if policy.batch_limit > policy.batch_max:
        batch += f" (an account may say up to {policy.batch_limit})"
    if policy.batch_max > 1:
        batch += f", {policy.max_bytes:,} bytes"
    quota = ", ".join(window.text for window in policy.windows) or "none is documented"
    if policy.anonymous_windows:
        quota += f"; without a token {', '.join(window.text for window in policy.anonymous_windows)}"
    hosts = ", ".join(f"{name} {url}".strip() for name, url in policy.base_urls.items())
    names = " ".join(f"[`{event.__name__}`](#{_anchor(event.title())})" for event in events)
    return f"`{policy.provider}`", names, batch, quota, hosts


def _anchor(title: str) -> str:
    return re.sub(r"[^\w-]", "", title.lower())


def _sending() -> Iterator[str]:
    yield "## Sending\n"
    calls = {f"event.{name}": getattr(postback.Event, name) for name in _WAYS}
    calls |= {"postback.send_many": postback.send_many, "postback.configure": postback.configure}
    rows = [(f"`{name}({_parameters(call)})`", first_paragraph(call.__doc__)) for name, call in calls.items()]
    yield from table(("call", "what it does"), rows)
    yield "Options of `apply_async`, and of all calls that take options:\n"
    yield from table(
        ("option", "meaning"), ((f"`{name}`", markdown(text)) for name, text in meanings(SendOptions.__doc__).items())
    )
    celerys = ", ".join(f"`{name}`" for name in CeleryOptions.__annotations__)
    yield f"Celery's own machinery may set {celerys}.\n"
    yield _RESULTS


def _finding() -> Iterator[str]:
    yield "## Finding\n"
    yield f"`postback.find({_parameters(postback.find)})`. {first_paragraph(postback.find.__doc__)} {_FINDING}"
    yield from table(("argument", "meaning"), _named_texts(postback.find.__doc__, "Args"))
    for kind in (postback.EventRecord, postback.Attempt, Change, Found):
        yield f"`{kind.__name__}`: {first_paragraph(kind.__doc__)}\n"
        yield from table(("attribute", "meaning"), _named_texts(kind.__doc__, "Attributes"))


def _named_texts(docstring: str | None, section: str) -> list[tuple[str, str]]:
    """The entries of a docstring's section, each in one line."""
    rest = inspect.cleandoc(docstring or "").partition(f"\n{section}:\n")[2]
    parts = re.split(r"^ {4}(\w+): ", re.split(r"^\S", rest, maxsplit=1, flags=re.MULTILINE)[0], flags=re.MULTILINE)
    return [
        (f"`{name}`", markdown(" ".join(text.split()))) for name, text in zip(parts[1::2], parts[2::2], strict=True)
    ]


def _parameters(call: Callable[..., object]) -> str:
    names = {inspect.Parameter.KEYWORD_ONLY: "{}=…", inspect.Parameter.VAR_KEYWORD: "…"}
    parameters = inspect.signature(call).parameters.values()
    return ", ".join(names.get(one.kind, "{}").format(one.name) for one in parameters if one.name != "self")


def _events() -> Iterator[str]:
    yield "## Events\n"
    yield _EVENTS
    for provider in POLICIES:
        module = getattr(postback, provider)
        events = [event for event in EVENTS.values() if event.provider == provider]
        common = {
            name: field
            for name, field in events[0]._fields.items()
            if len(events) > 1 and all(event._fields.get(name) is field for event in events)
        }
        yield f"### {provider}\n"
        yield f"{first_paragraph(module.__doc__)}\n"
        if common:
            yield f"Fields of every event of `{provider}`:\n"
            yield from _fields(events[0], common)
        for event in events:
            own = {name: field for name, field in event._fields.items() if name not in common}
            yield f"#### {event.title()}\n"
            yield markdown(inspect.cleandoc(event.__doc__ or "").partition("\nArgs:\n")[0].strip()) + "\n"
            yield f"Task `{event.task_name}`, at most {event.max_bytes:,} bytes" + (
                ", has a result.\n" if event.has_result else ".\n"
            )
            if own:
                yield from _fields(event, own)


def _fields(event: type[postback.Event], fields: dict[str, Field]) -> Iterator[str]:
    yield from table(
        ("field", "type", "takes", "meaning"),
        (
            (
                _named(name, field),
                f"`{type_text(field.annotation)}`"
                + ("" if field.required else " = `UNSET`" * (field.default is UNSET)),
                field.rule,
                markdown(event._meanings[name]),
            )
            for name, field in fields.items()
        ),
    )


def _named(name: str, field: Field) -> str:
    shown = f"**`{name}`**" if field.required else f"`{name}`"
    return shown if field.wire == name else f"{shown} (`{field.wire}`)"


def _errors() -> Iterator[str]:
    yield "## Errors\n"
    yield "All are in `postback`. What to do after each is in [delivery](../guides/delivery.md#when-delay-has-raised).\n"
    kinds = [getattr(errors, name) for name in errors.__all__]
    yield from table(
        ("error", "is a", "when", "attributes"),
        (
            (
                f"`{kind.__name__}`",
                ", ".join(f"`{base.__name__}`" for base in kind.__bases__),
                first_paragraph(kind.__doc__),
                ", ".join(f"`{name}`" for name in _attributes(kind)),
            )
            for kind in kinds
        ),
    )


def _attributes(kind: type) -> list[str]:
    section = inspect.cleandoc(kind.__doc__ or "").partition("\nAttributes:\n")[2]
    return re.findall(r"^ {4}(\w+): ", section, re.MULTILINE)


def _variables() -> Iterator[str]:
    yield "## Environment\n"
    yield _ENVIRONMENT
    yield from table(("variable", "default", "meaning"), _variable_rows())


def _variable_rows() -> Iterator[tuple[str, str, str]]:
    """The variables of ``.env.example``, each with the comment above it or its group."""
    comment: list[str] = []
    group: list[tuple[str, str]] = []
    for line in [*(ROOT / ".env.example").read_text().splitlines(), ""]:
        if match := re.fullmatch(r"([A-Z_]+)=(.*)", line):
            group.append((match[1], match[2]))
        elif group:
            yield from _variables_of(group, " ".join(comment))
            comment, group = [], []
        if line.startswith("# "):
            comment.append(line[2:])
        elif not group:
            comment = []


def _variables_of(group: list[tuple[str, str]], comment: str) -> Iterator[tuple[str, str, str]]:
    if len(group) == len(POLICIES):  # one for each provider
        group = [(re.sub(r"_[A-Z]+_BROKER_URL", "_<PROVIDER>_BROKER_URL", group[0][0]), "")]
    for name, default in group:
        yield f"`{name}`", f"`{default}`" if default else "", comment


def _accounts() -> Iterator[str]:
    yield "## Accounts file\n"
    yield _ACCOUNTS.format(reserved=", ".join(f"`{name}`" for name in sorted(RESERVED_NAMES)))
    text = (ROOT / "config/accounts.example.toml").read_text()
    credentials, _, settings = text.partition("\n# Any account may override")
    rows = []
    for provider, body in re.findall(r"^\[(\w+)\.\w+\]\n((?:.+\n)+)", credentials, re.MULTILINE):
        rows += [(f"`{key}`", f"`{provider}`", meaning) for key, _, meaning in _keys(body) if key != "limits"]
    yield from table(("key", "provider", "meaning"), rows)
    yield "Settings of any account. Times are in seconds.\n"
    rows = [(f"`{key}`", _default(key, value), meaning) for key, value, meaning in _keys(settings)]
    yield from table(("key", "default or example", "meaning"), rows)


def _default(key: str, value: str) -> str:
    """The default of a key, and of the providers that have another one."""
    own = {provider: getattr(policy, key, None) for provider, policy in POLICIES.items()}
    usual = {one.name: one.default for one in dataclasses.fields(Policy)}.get(key)
    others = [f"{provider} `{_written(one)}`" for provider, one in own.items() if one != usual]
    return "; ".join([f"`{value if usual is None else _written(usual)}`", *others])


def _written(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else json.dumps(value)


def _keys(text: str) -> list[tuple[str, str, str]]:
    found = re.findall(r"^(?:# )?([a-z_]+) = (\S+(?: \S+)*?)(?: +# (.*))?$", text, re.MULTILINE)
    return [(key, value, meaning) for key, value, meaning in found]


def _commands() -> Iterator[str]:
    yield _PROCESSES
    yield "## Commands\n"
    yield _EXIT_CODES
    for context in _leaves(click.Context(command, info_name="postback")):
        yield f"### {context.command_path}\n\n```"
        yield context.get_help().replace("\b", "")
        yield "```\n"


def _leaves(context: click.Context) -> Iterator[click.Context]:
    context.terminal_width = context.max_content_width = HELP_WIDTH
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            child = context.command.get_command(context, name)
            assert child is not None
            yield from _leaves(click.Context(child, info_name=name, parent=context))


_HEAD = """\
# Reference

<!-- `make reference` writes this page from the code. Change it there. -->

[Providers](#providers) · [Sending](#sending) · [Finding](#finding) · [Events](#events) ·
[Errors](#errors) · [Environment](#environment) · [Accounts file](#accounts-file) · [Bounds](#bounds) ·
[Processes](#processes) · [Commands](#commands)
"""

_PROVIDERS = """\
`tasks/providers/` has how an event becomes a request, and what each answer means. Each number has its
source in `config/providers/`.
"""

_FINDING = """\
It looks in Redis, then in the journal, so it needs a running `python -m workers.journal` and the extra `[journal]`.
All conditions must hold; without one it finds the latest events. It raises `NoJournal` if nobody writes the journal.
[How to](../guides/how-to.md#find-an-event).
"""

_RESULTS = """\
A look-up has a result: `tgtrack.GetUserInfo(user_id=1).delay().get(timeout=10)`. A link can use
it. This reports a conversion once its payment is final:
`tonapi.GetEvent(event_id=…).apply_async(link=tonai.Conversion(telegram_user_id=17).si())`.
"""

_EVENTS = f"""\
Fields are keyword arguments. Those in **bold** are required; the others are None or absent. The name in
parentheses is the provider's, if it differs; `load` takes the provider's names. Every event also takes `account`:
{ACCOUNT.replace("``", "`")[0].lower()}{ACCOUNT.replace("``", "`")[1:]}

An `Enum` counts as its value, a `UUID` as its text. A `Decimal` must be exact as a JSON number, a
`datetime` must be aware. The request has text, numbers, and the time in the provider's unit.
"""

_ENVIRONMENT = """\
A variable that is set but empty counts as not set. A wrong value stops the start with one sentence
that names the variable and never shows a password. [`.env.example`](../../.env.example) is a file to
copy.

Producers read `POSTBACK_BROKER_URL`, `POSTBACK_<PROVIDER>_BROKER_URL`, `POSTBACK_SENTINEL_MASTER`,
`POSTBACK_ACCOUNTS` (names and `max_queued` only) and `POSTBACK_SEND_TIMEOUT_S`. Workers read all but
the last, and those that the accounts file names as `"env:…"`. Flower reads the broker's URL and every
`FLOWER_…` variable that Flower itself knows.
"""

_ACCOUNTS = """\
A table of the accounts file, `[tgtrack.main]`, is one set of credentials and one queue,
`tgtrack.main`. [`config/accounts.example.toml`](../../config/accounts.example.toml) is a file to copy.
A value `"env:NAME"` comes from the environment. An unknown key is an error.

A name has 1 to 64 of the characters `A-Z a-z 0-9 _ -`. Words used in Redis keys are refused: {reserved}.
Producers, workers and operators' tools have the same rule.

Credentials and settings of one provider:
"""

_BOUNDS = f"""\
## Bounds

A longer value is refused when the event is made, with one sentence: `InvalidEvent`, or `MessageTooLarge` for a
message with its options. Where the provider names no bound, these are decisions
([ADR 16](../adr/0016-bounds-on-events-and-messages.md)): {ID_CHARS} characters for an id,
{NAME_CHARS:,} for a name, {TEXT_CHARS:,} for free text. A message in Redis has at most
{MAX_MESSAGE_BYTES:,} bytes, with headers, links and other options.
"""

_PROCESSES = """\
## Processes

| process | command |
|---|---|
| a worker | `python -m workers tgtrack`; ends with 0 after SIGTERM, with 2 for wrong settings, with 1 for any other reason |
| the same by Celery's own command | `celery -A workers.app worker` |
| Flower | `python -m workers.flower`; at most 10,000 tasks in memory, nothing on disk |
| the exporter of metrics | `python -m workers.metrics` |
| the sandbox | `postback sandbox`, `python -m postback.sandbox` |

The queue of an account is `<provider>.<account>`, the dead letters are `<provider>.dead`. All keys are
in the [table of keys](../../ARCHITECTURE.md#redis-keys). `make help` lists what a checkout can do.
"""

_EXIT_CODES = """\
### Exit codes

0: done. 1: the answer is no. 2: the command could not run. A script can rely on these:

| command | 0 | 1 | 2 |
|---|---|---|---|
| `postback send` | in its queue; the id is printed | the event is refused: a field breaks a rule, it is too large, it is not JSON | wrong usage; not in its queue, or it is unknown |
| `postback status` | shown | with `--check`: something needs a person | wrong usage |
| `postback find` | found, or the answer to a question without a name | an `--id` was not found, the `--key` or `--user` has no event | wrong usage; no journal, and no `--live` |
| `postback dead list` | listed, even if there are none | an `--id` was not found; the others are listed | wrong usage |
| `postback dead replay` | moved, or with `--dry-run` counted | an `--id` was not found; the others are moved | wrong usage |
| `postback dead drop` | deleted, or with `--dry-run` counted | an `--id` was not found, or you said no | wrong usage; all would go, and nobody can be asked |
| `postback pause` | paused, now or before | the provider has no account yet | wrong usage |
| `postback resume` | not paused, now or before | the provider has no account yet | wrong usage |
| `postback check` | all is well | something is wrong | wrong usage; Redis away |
| `postback erase` | removed, or there was nothing, or with `--dry-run` counted | you said no | wrong usage; nobody can be asked |
| `postback sandbox` | stopped by SIGINT or SIGTERM | the address is taken | wrong usage |

Wrong usage is also a mistyped provider, account, reason or event, and a wrong setting. 2 also means
that Redis is away: what a command moved or removed before stays so, and the same command does the
rest. 130 is Ctrl-C, also at a question. An error is one sentence on stderr.

On a terminal, output is at most 100 columns wide, and long names and long words of a provider are
shortened. In a pipe nothing is cut off or broken into lines, and `dead list` has all letters.
Scripts should read `--json`.
"""  # noqa: E501


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"wrote {PAGE.relative_to(ROOT)}\n")
