"""Commands in texts: ``postback …``, ``make …``, ``python -m …``."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from tests.house.references.project import ROOMS, Finding, Project, Text


def spans(text: Text) -> Iterator[tuple[int, str]]:
    """Code in a text: between backticks, and each line of a Markdown block."""
    prose = text.content
    if text.path.endswith(".md"):
        for block in re.finditer(r"^```.*?^```", text.content, re.S | re.M):
            offset = block.start()
            for line in block[0].splitlines(keepends=True):
                yield offset, line.rstrip("\n")
                offset += len(line)
        prose = re.sub(r"^```.*?^```", lambda block: re.sub(r"[^\n]", " ", block[0]), prose, flags=re.S | re.M)
    for match in re.finditer(r"(?<!`)(`{1,2})(?!`)([^`\n]+)\1(?!`)", prose):
        yield match.start(), match[2]


def command_lines(text: Text, program: str) -> Iterator[tuple[int, list[str]]]:
    """Words of each command that runs a program, in spans and in the examples of our commands."""
    examples = (
        re.finditer(rf'(?:"|\\n)({program} [^"\n\\]*)', text.content) if text.path.startswith("postback/cli/") else ()
    )
    for offset, span in (*spans(text), *((match.start(1), match[1]) for match in examples)):
        line = re.sub(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?", "", span.strip())
        line = re.split(r" #|[;&]| \\$", line)[0]
        if re.match(rf"{program}(?: |$)", line):
            yield offset, line.split()[1:]


def postback(project: Project, text: Text) -> Iterator[Finding]:
    """``postback dead list --json``."""
    for offset, words in command_lines(text, "postback"):
        reason = _wrong_command(project, words)
        if reason:
            yield offset, " ".join(["postback", *words]), reason


def _wrong_command(project: Project, words: list[str]) -> str:
    command: tuple[str, ...] = ()
    options_began = after_bar = False
    for word in (re.sub(r"[\[\],()]", "", word) for word in words):
        if word == "|":
            # Commands of one kind, or another program's turn.
            after_bar = True
            continue
        if word.startswith("--"):
            options_began = True
            if word.partition("=")[0] not in (project.options_of(command) or ()):
                return f"no such option: {word}"
        elif re.fullmatch("[a-z]+", word) and (after_bar or not options_began):
            if after_bar and options_began:
                break
            wider = (*(command[:-1] if after_bar else command), word)
            if project.options_of(wider) is None:
                return f"no such command: {' '.join(wider)}"
            command, after_bar = wider, False
        elif not options_began:
            # A name that the reader puts in.
            options_began = True
    return ""


def make(project: Project, text: Text) -> Iterator[Finding]:
    """``make test TESTS=tests/unit``."""
    for offset, words in command_lines(text, "make"):
        for word in words:
            name, assigned, _ = word.partition("=")
            if assigned and name not in project.make_variables:
                yield offset, f"make {' '.join(words)}", f"the Makefile reads no such variable: {name}"
            elif not assigned and re.fullmatch("[a-z]+", word) and word not in project.targets:
                yield offset, f"make {' '.join(words)}", f"no such target: {word}"


def modules(project: Project, text: Text) -> Iterator[Finding]:
    """``python -m workers.flower``, its options, and ``celery -A workers.app``."""
    for match in re.finditer(r"\b(?:python[\d.]*|PY\)) -m ([\w.]+)([^`\n\"'#|]*)", text.content):
        module = match[1].rstrip(".")
        if module.partition(".")[0] not in ROOMS:
            if importlib.util.find_spec(module.partition(".")[0]) is None:
                yield match.start(), match[0], "no such module"
        elif not project.runs(module):
            yield match.start(), match[0], "no such module that runs"
        else:
            folder = str(PurePosixPath(module.replace(".", "/")).parent) if project.module(module) else ""
            sources = [
                file
                for file in project.files
                if file.startswith((module.replace(".", "/"), folder)) and file.endswith(".py")
            ]
            for option in re.findall(r"(?<=\s)--[a-z-]+", match[2]):
                if not any(f'"{option}"' in project.read(file) for file in sources):
                    yield match.start(), match[0], f"no such option: {option}"
    for match in re.finditer(r"\bcelery -A ([\w.]+)", text.content):
        if match[1].partition(".")[0] in ROOMS and not project.module(match[1].rstrip(".")):
            yield match.start(), match[0], "no such module"
