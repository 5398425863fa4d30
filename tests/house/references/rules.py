"""Each kind of reference: how it is recognised, and when it is broken."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from tests.house.references import commands, links, metrics, settings
from tests.house.references.commands import spans
from tests.house.references.links import joined
from tests.house.references.project import FOLDERS, ROOMS, Finding, Project, Text

#: A name that ends so is a file.
_FILE: Final = r"\.(?:py|lua|md|toml|yml|html)$"
#: Files of other projects.
_FOREIGN_FILES: Final = frozenset({"tasks.py"})
#: Names of this project's documents that stand in no repository.
_ELSEWHERE: Final = r"\bDESIGN(?:\.md)?\b"


@dataclass(frozen=True)
class Broken:
    """A reference that leads nowhere."""

    kind: str
    path: str
    line: int
    reference: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind} `{self.reference}`: {self.reason}"


def broken(project: Project, text: Text) -> list[Broken]:
    """What leads nowhere in a text."""
    return [
        Broken(kind, text.path, text.line_of(offset), reference, reason)
        for kind, rule in RULES.items()
        for offset, reference, reason in rule(project, text)
    ]


def invariants(project: Project, text: Text) -> Iterator[Finding]:
    """``I7``."""
    for match in re.finditer(r"\bI(\d{1,2})\b", text.content):
        if int(match[1]) not in project.invariants:
            yield match.start(), match[0], "ARCHITECTURE.md has no such invariant"


def decisions(project: Project, text: Text) -> Iterator[Finding]:
    """``ADR 12``, ``ADRs 2, 3 and 5``."""
    for match in re.finditer(r"\bADRs?\s+(\d+(?:(?:,\s*|\s+and\s+|–)\d+)*)", text.content):
        for number in re.findall(r"\d+", match[1]):
            if int(number) not in project.decisions:
                yield match.start(), match[0], "docs/adr has no such number"


def elsewhere(project: Project, text: Text) -> Iterator[Finding]:
    """Documents that are not in the repository."""
    for match in re.finditer(_ELSEWHERE, text.content):
        yield match.start(), match[0], "the document is not in the repository: say it here"


def paths(project: Project, text: Text) -> Iterator[Finding]:
    """``workers/http/requests.py``, ``workers/http/requests.py::RequestsSender``, and files in
    spans of code.
    """
    folders = "|".join(map(re.escape, FOLDERS))
    whole = rf"(?<![\w/.~@$<>{{}}\\-])(?:{folders})/[\w.<>*/{{}}…-]*+(?:::[\w:.]+)?(?!\\)"
    for match in re.finditer(whole, text.content):
        reference = match[0].rstrip(".:")
        reason = _wrong_path(project, reference)
        if reason:
            yield match.start(), reference, reason
    names = {PurePosixPath(file).name for file in project.files}
    for offset, span in spans(text):
        if re.fullmatch(rf"[\w./-]+{_FILE}", span) and not span.startswith(("/", *(f"{one}/" for one in FOLDERS))):
            near = project.has(span) or project.has(joined(text.path, span))
            if not near and ("/" in span or span not in names | _FOREIGN_FILES):
                yield offset, span, "no such file"


def _wrong_path(project: Project, reference: str) -> str:
    path, _, name = reference.partition("::")
    if "{" in path or "…" in path:
        path = re.split(r"[{…]", path)[0].rpartition("/")[0]
    spelled = (
        [path.replace("<provider>", provider) for provider in project.providers] if "<provider>" in path else [path]
    )
    if "<" in spelled[0]:
        spelled = [path.partition("<")[0].rpartition("/")[0]]
    for one in spelled:
        if not project.has(one):
            return f"no such file: {one}"
        if name and name.replace("::", ".") not in project.names(one):
            return f"{one} has no such name"
    return ""


def dotted_names(project: Project, text: Text) -> Iterator[Finding]:
    """``workers.http``, :class:`tasks.grants.Grant`, and :func:`paths` of the same file."""
    for offset, span in spans(text):
        match = re.match(rf"~?((?:{'|'.join(ROOMS)})(?:\.\w+)+)(?![\w/:@*-])", span)
        if not match or re.search(_FILE, match[1]) or match[1] in project.literals:
            continue
        if not _resolves(project, match[1]):
            yield offset, match[1], "no such module or name in it"
    for match in re.finditer(r":(?:mod|func|class|meth|data|attr|exc):`~?([\w.]+)`", text.content):
        name = match[1].rpartition(".")[2]
        here = rf"(?:def|class) {name}\b|^\s*(?:\w+\.)?{name}\b *[:=]|import .*\b{name}\b|^    {name},$"
        if not match[1].startswith(tuple(f"{room}." for room in ROOMS)) and not re.search(here, text.content, re.M):
            yield match.start(), match[0], "this file has no such name"


def _resolves(project: Project, dotted: str) -> bool:
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        file = project.module(".".join(parts[:count]))
        if file:
            name = ".".join(parts[count:])
            return not name or name in project.names(file)
    return project.has("/".join(parts))


def words(project: Project, text: Text) -> Iterator[Finding]:
    """``max_wait_s``: such a word in a guide is a name of the code. Decisions are history."""
    if not text.path.endswith(".md") or text.path.startswith(("docs/adr/", "CHANGELOG")):
        return
    for offset, span in spans(text):
        one_word = re.fullmatch(r"(?!postback_)[a-z][a-z0-9]*(?:_[a-z0-9]+)+", span)
        if one_word and span not in project.words:
            yield offset, span, "the code has no such name"


RULES: Final[Mapping[str, Callable[[Project, Text], Iterator[Finding]]]] = {
    "invariant": invariants,
    "decision": decisions,
    "document elsewhere": elsewhere,
    "link": links.links,
    "address": links.addresses,
    "path": paths,
    "name": dotted_names,
    "word": words,
    "variable": settings.variables,
    "account key": settings.account_keys,
    "undocumented setting": settings.undocumented,
    "metric": metrics.metrics,
    "undocumented metric": metrics.undocumented,
    "command": commands.postback,
    "target": commands.make,
    "module": commands.modules,
}
