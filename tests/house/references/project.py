"""What a reference may lead to: files, names, invariants, decisions, commands, targets,
variables.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Final

import click

from postback import cli

#: Folders whose modules are imported by their path from the root.
ROOMS: Final = ("postback", "config", "tasks", "workers", "tests", "benchmarks")
FOLDERS: Final = (*ROOMS, "docs", "examples", ".ci")
SUFFIXES: Final = frozenset({".py", ".lua", ".md", ".toml", ".yml", ".html", ".cfg", ".example", ".json", ""})
#: Files that an operator makes, and that git ignores.
OPERATORS_FILES: Final = frozenset({"config/accounts.toml", ".env"})
#: Where a broken reference stands, itself, and what is wrong.
Finding = tuple[int, str, str]
_SKIPPED: Final = frozenset({"__pycache__", "build", "dist"})


@dataclass(frozen=True)
class Text:
    """A file's path from the root, and what is in it."""

    path: str
    content: str

    def line_of(self, offset: int) -> int:
        """The number of a line, from 1."""
        return self.content.count("\n", 0, offset) + 1


class Project:
    """A checkout."""

    def __init__(self, root: Path) -> None:
        """Nothing is read yet."""
        self.root = root

    @cached_property
    def files(self) -> frozenset[str]:
        """Paths from the root, of all that belongs to the project."""
        paths = []
        for folder, names, files in os.walk(self.root):
            here = PurePosixPath(Path(folder).relative_to(self.root).as_posix())
            names[:] = [name for name in names if name not in _SKIPPED and not name.endswith(".egg-info")]
            names[:] = [name for name in names if not name.startswith(".") or name == ".ci"]
            paths += [str(here / file) for file in files]
        return frozenset(paths) - OPERATORS_FILES

    @cached_property
    def folders(self) -> frozenset[str]:
        """Paths of the folders that have such files."""
        return frozenset(str(folder) for file in self.files for folder in PurePosixPath(file).parents)

    def read(self, path: str) -> str:
        """A file's text."""
        return (self.root / path).read_text(encoding="utf-8")

    def texts(self) -> Iterator[Text]:
        """Every text of the project."""
        for path in sorted(self.files):
            if PurePosixPath(path).suffix in SUFFIXES and PurePosixPath(path).name != ".git":
                yield Text(path, self.read(path))

    def has(self, path: str) -> bool:
        """Whether there is such a file or folder, or one of this pattern, or one that operators
        make.
        """
        path = path.rstrip("/")
        if "*" in path:
            return any(fnmatch(file, path) for file in self.files | self.folders)
        return path in self.files or path in self.folders or path in OPERATORS_FILES

    @cached_property
    def providers(self) -> tuple[str, ...]:
        """Names of the providers: each has a module of events and one of delivery."""
        modules = (PurePosixPath(file).stem for file in self.files if fnmatch(file, "tasks/providers/*.py"))
        return tuple(sorted(name for name in modules if name != "__init__" and f"postback/{name}.py" in self.files))

    @cached_property
    def invariants(self) -> frozenset[int]:
        """Numbers of the invariants of ARCHITECTURE.md."""
        return frozenset(int(number) for number in re.findall(r"\*\*I(\d+) ", self.read("ARCHITECTURE.md")))

    @cached_property
    def decisions(self) -> frozenset[int]:
        """Numbers of the ADRs."""
        return frozenset(int(number) for file in self.files for number in re.findall(r"^docs/adr/(\d{4})-", file))

    @cached_property
    def targets(self) -> frozenset[str]:
        """Targets of the Makefile."""
        return frozenset(re.findall(r"^([a-z]+):", self.read("Makefile"), re.M))

    @cached_property
    def make_variables(self) -> frozenset[str]:
        """Variables that the Makefile reads."""
        return frozenset(re.findall(r"\$\(([A-Z]+)\)", self.read("Makefile")))

    @cached_property
    def literals(self) -> frozenset[str]:
        """Texts in the code: Redis keys, names of loggers and checks look like modules."""
        return frozenset(
            node.value
            for file in self.files
            if file.endswith(".py") and not file.startswith("tests/")
            for node in ast.walk(self._tree(file))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )

    @cached_property
    def words(self) -> frozenset[str]:
        """Words with underscores that the code uses: names, modules, words of its texts."""
        words = {PurePosixPath(file).stem for file in self.files if file.endswith(".py")}
        for file in self.files:
            if file.endswith(".lua"):
                words |= set(re.findall(r"\w+", re.sub(r"--.*", "", self.read(file))))
            elif file.endswith("conftest.py") or (file.endswith(".py") and not file.startswith("tests/")):
                words |= {word for node in ast.walk(self._tree(file)) for word in _words(node)}
        return frozenset(word for word in words if "_" in word)

    def module(self, dotted: str) -> str | None:
        """The file of a module or a package."""
        path = dotted.replace(".", "/")
        if f"{path}.py" in self.files:
            return f"{path}.py"
        return f"{path}/__init__.py" if f"{path}/__init__.py" in self.files else None

    def runs(self, dotted: str) -> bool:
        """Whether `python -m` can run it."""
        path = dotted.replace(".", "/")
        if f"{path}/__main__.py" in self.files:
            return True
        return f"{path}.py" in self.files and '__name__ == "__main__"' in self.read(f"{path}.py")

    def names(self, path: str) -> frozenset[str]:
        """What a file defines: ``function``, ``Class``, ``Class.method``; in Lua functions and
        locals.
        """
        if path.endswith(".py"):
            return frozenset(_names(self._tree(path)))
        if path.endswith(".lua"):
            return frozenset(re.findall(r"\b(?:function|local)\s+(\w+)", self.read(path)))
        return frozenset()

    @cache  # noqa: B019  one project for a whole run
    def _tree(self, path: str) -> ast.Module:
        return ast.parse(self.read(path))

    @staticmethod
    @cache
    def options_of(words: tuple[str, ...]) -> frozenset[str] | None:
        """Options of ``postback …``; None if there is no such command."""
        command: click.Command = cli.postback
        arguments: Iterator[click.Parameter] = iter(())
        for word in words:
            try:
                if isinstance(command, click.Group):
                    _, found, _ = command.resolve_command(click.Context(command), [word])
                    assert found is not None
                    command = found
                    arguments = (one for one in command.params if isinstance(one, click.Argument))
                elif argument := next(arguments, None):
                    argument.type.convert(word, argument, None)
            except click.UsageError:
                return None
        return frozenset(option for one in command.get_params(click.Context(command)) for option in one.opts)


def _words(node: ast.AST) -> list[str]:
    match node:
        case ast.Constant(value=str(value)) if " " not in value:
            return re.findall(r"\w+", value)
        case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.keyword(arg=str(word)):
            return [word]
        case ast.FunctionDef(name=word) | ast.AsyncFunctionDef(name=word):
            return [word]
    return []


def _names(scope: ast.AST, prefix: str = "") -> Iterator[str]:
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from _names(node, f"{prefix}{node.name}.")
            elif prefix:
                yield from _attributes(node, prefix)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (prefix + (alias.asname or alias.name) for alias in node.names)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _names(node, prefix)


def _attributes(method: ast.AST, prefix: str) -> Iterator[str]:
    """What a method sets on ``self``."""
    for node in ast.walk(method):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield prefix + node.attr
