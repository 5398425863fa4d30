"""A provider is four modules, one in each of these folders.

They are looked for by name and not imported here.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Final

import postback
from postback._modules import provider_modules
from postback.errors import ConfigurationError

_ROOT: Final = Path(__file__).resolve().parent.parent
#: Folders in which each module is a provider; ``postback`` has others too. In the image it is not
#: beside the other rooms: it is installed from the wheel.
_FOLDERS: Final = {
    "config/providers": _ROOT / "config/providers",
    "tasks/providers": _ROOT / "tasks/providers",
    "postback/sandbox/providers": Path(postback.__file__).parent / "sandbox/providers",
}


def check_modules() -> None:
    """Check that every provider has all of its modules.

    Raises:
        ConfigurationError: One is missing; the sentence names its file.
    """
    modules = {"postback": set(provider_modules())}
    modules |= {
        folder: {module.name for module in pkgutil.iter_modules([str(path)])} for folder, path in _FOLDERS.items()
    }
    for name in sorted(set().union(*modules.values())):
        for folder, names in modules.items():
            if name not in names:
                raise ConfigurationError(f"the provider {name} has no {folder}/{name}.py; a provider is four modules")
