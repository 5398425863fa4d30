"""Links in Markdown: files, headings, addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from tests.house.references.project import Finding, Project, Text

_HOST: Final = r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}"
#: Hosts of this machine, the only ones without TLS.
_OWN_HOSTS: Final = frozenset({"127.0.0.1", "localhost"})


def links(project: Project, text: Text) -> Iterator[Finding]:
    """Relative links, their anchors, and ``[ADR 12](…/0012-….md)``."""
    if not text.path.endswith(".md"):
        return
    for match in re.finditer(r"\[([^\]]*)\]\(([^)]*)\)", without_code(text.content)):
        label, link = match.groups()
        if re.match(r"[A-Za-z][\w+.-]*:", link):
            continue
        file, _, anchor = link.partition("#")
        target = joined(text.path, file) if file else text.path
        if not link or re.search(r"\s", link):
            yield match.start(), match[0], "no address"
        elif file and not project.has(target):
            yield match.start(), link, "no such file"
        elif anchor and anchor not in _anchors(text.content if not file else project.read(target)):
            yield match.start(), link, "no such heading"
        number = re.fullmatch(r"ADR\s+(\d+)", label)
        if number and f"/{int(number[1]):04}-" not in f"/{link}":
            yield match.start(), match[0], "the link leads to another ADR"


def addresses(_: Project, text: Text) -> Iterator[Finding]:
    """``https://docs.celeryq.dev/``: well-formed; nobody asks whether something is there."""
    if not text.path.endswith(".md"):
        return
    for match in re.finditer(r"(?<![\w`])[A-Za-z][\w+.-]*:/[^\s)>\]`]*", without_code(text.content)):
        reason = _malformed(match[0].rstrip(".,;:"))
        if reason:
            yield match.start(), match[0], reason


def _malformed(address: str) -> str:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https"):
        return "no such scheme"
    if host in _OWN_HOSTS:
        return ""
    if not re.fullmatch(_HOST, host):
        return "no name of a host"
    return "" if parts.scheme == "https" else "without TLS"


def without_code(content: str) -> str:
    """A Markdown text whose blocks and spans of code are blank, at the same length."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", lambda match: re.sub(r"[^\n]", " ", match[0]), content, flags=re.S | re.M)


def joined(path: str, relative: str) -> str:
    """The path from the root of what a file calls ``relative``."""
    parts: list[str] = []
    for part in (*PurePosixPath(path).parent.parts, *PurePosixPath(relative).parts):
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def _anchors(content: str) -> set[str]:
    """Names of the headings as GitHub makes them; a second one of a name has a number."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", content, flags=re.S | re.M), re.M):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        numbered = (f"{anchor}-{number}" for number in range(1, len(anchors) + 1))
        anchors.add(anchor if anchor not in anchors else next(one for one in numbered if one not in anchors))
    return anchors
