"""A provider is four modules, one in each of these folders.

They are looked for by name and not imported here.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Final

from postback._modules import provider_modules
from postback.errors import ConfigurationError

_ROOT: Final = Path(__file__).resolve().parent.parent
#: Folders in which each module is a provider; ``postback`` has others too.
_FOLDERS: Final = ("config/providers", "tasks/providers", "postback/sandbox/providers")


def check_modules() -> None:
    """Check that every provider has all of its modules.

    Raises:
        ConfigurationError: One is missing; the sentence names its file.
    """
    modules = {"postback": set(provider_modules())}
    modules |= {folder: {module.name for module in pkgutil.iter_modules([str(_ROOT / folder)])} for folder in _FOLDERS}
    for name in sorted(set().union(*modules.values())):
        for folder, names in modules.items():
            if name not in names:
                raise ConfigurationError(f"the provider {name} has no {folder}/{name}.py; a provider is four modules")
