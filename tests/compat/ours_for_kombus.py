"""A pytest plugin for kombu's own test-suite: wherever it says ``kombu.transport.redis``, it gets
our classes.

``pytest -p tests.compat.ours_for_kombus t/unit/transport/test_redis.py`` in an unpacked source
distribution of kombu. No queue is governed, so ours must behave as stock.

The suite replaces kombu's poller before it imports the transport. So nothing of kombu's transport
may be imported here; our classes are put in right after the suite's own import.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

STOCK: Final = "kombu.transport.redis"


class _Loader(importlib.abc.Loader):
    """Loads kombu's module as ever and then changes four names in it."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        from workers import transport as ours

        for name in ("Channel", "Transport", "SentinelChannel", "SentinelTransport"):
            setattr(module, name, getattr(ours, name))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds kombu's module once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != STOCK:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        spec.loader = _Loader(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
