"""Settings in texts: variables of the environment, keys of the accounts file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from flower.options import default_options

from config.accounts import build_account
from config.settings import DEFAULTS
from tests.house.references.commands import spans
from tests.house.references.project import Finding, Project, Text

#: The document that has every setting.
REFERENCE: Final = "docs/reference/README.md"
#: One account of each provider.
EXAMPLE: Final = "config/accounts.example.toml"
_VARIABLE: Final = r"(?:POSTBACK|FLOWER)_[A-Z_]*[A-Z]"


class _Remembering(Mapping[str, object]):
    """An account's table that remembers each key that somebody looks up."""

    def __init__(self, values: Mapping[str, object], keys: set[str]) -> None:
        self._values, self._keys = values, keys

    def __getitem__(self, key: str) -> object:
        self._keys.add(key)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@cache
def keys_of_accounts(project: Project) -> frozenset[str]:
    """Keys that the code looks up for the accounts of the example, one of each provider."""
    keys: set[str] = set()
    example = project.read(EXAMPLE)
    environ = dict.fromkeys(re.findall(r'"env:(\w+)"', example), "1")
    for provider, tables in tomllib.loads(example).items():
        for name, table in tables.items():
            build_account(provider, name, _Remembering(table, keys), environ)
    return frozenset(keys)


@cache
def variables_read(project: Project) -> frozenset[str]:
    """Variables of the settings, and those that a text of the code names."""
    return frozenset(DEFAULTS) | {one for one in project.literals if re.fullmatch(_VARIABLE, one)}


def variables(project: Project, text: Text) -> Iterator[Finding]:
    """``POSTBACK_BROKER_URL``, ``FLOWER_PORT``. Tests make up others."""
    if text.path.startswith("tests/"):
        return
    options_of_flower = {f"FLOWER_{option.upper()}" for option in default_options}
    for match in re.finditer(rf"\b{_VARIABLE}\b(?![_*…<])", text.content):
        if match[0] not in variables_read(project) | options_of_flower:
            yield match.start(), match[0], "nothing reads such a variable"


def account_keys(project: Project, text: Text) -> Iterator[Finding]:
    """``quota = "plan"``, keys in tables of an accounts file, first cells of a table of keys."""
    for offset, key in _named_keys(project, text):
        if key not in keys_of_accounts(project):
            yield offset, key, "accounts have no such key"


def _named_keys(project: Project, text: Text) -> Iterator[tuple[int, str]]:
    line_with_key = re.compile(r"^(?:# )?([a-z][a-z_]*) = ", re.M)
    if text.path == EXAMPLE:
        yield from ((match.start(), match[1]) for match in line_with_key.finditer(text.content))
    if not text.path.endswith(".md"):
        return
    for block in re.finditer(rf"^```toml\n(?=\[(?:{'|'.join(project.providers)})\.).*?^```", text.content, re.M | re.S):
        yield from ((block.start() + match.start(), match[1]) for match in line_with_key.finditer(block[0]))
    prose = re.sub(r"^```.*?^```", lambda block: " " * len(block[0]), text.content, flags=re.M | re.S)
    yield from ((match.start(), match[1]) for match in re.finditer(r"`([a-z][a-z_]*) = [^`\n]*`", prose))
    for table in re.finditer(r"^\| key \|.*\n(?:\|.*\n?)*", prose, re.M):
        for cell in re.finditer(r"^\| `([a-z]\w*)`", table[0], re.M):
            yield table.start() + cell.start(), cell[1]


def to_document(project: Project) -> frozenset[str]:
    """Every variable and every key of an account."""
    return variables_read(project) | keys_of_accounts(project)


def undocumented(project: Project, text: Text) -> Iterator[Finding]:
    """The reference has them all."""
    if text.path != REFERENCE:
        return
    named = {
        span.replace("<PROVIDER>", provider.upper())
        for _, code in spans(text)
        for span in (code, code.partition(" = ")[0])
        for provider in project.providers
    }
    for setting in sorted(to_document(project) - named):
        yield 0, setting, "the reference does not have it"
