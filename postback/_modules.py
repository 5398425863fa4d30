"""Which modules of the SDK are providers."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Final

#: Public modules that are no provider.
OTHERS: Final = frozenset({"errors", "results", "testing"})


def provider_modules() -> tuple[str, ...]:
    """Names of the providers' modules in alphabetical order; they are imported by nobody yet."""
    modules = pkgutil.iter_modules([str(Path(__file__).parent)])
    names = {module.name for module in modules if not module.ispkg and not module.name.startswith("_")}
    return tuple(sorted(names - OTHERS))
