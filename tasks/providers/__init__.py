"""The providers' delivery modules. Each module of this folder is a provider and defines its class.

Nothing else lists them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from config.modules import check_modules
from postback.errors import ConfigurationError
from tasks.provider import Provider


def _provider(name: str) -> Provider:
    module = importlib.import_module(f"{__name__}.{name}")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Provider) and getattr(value, "name", "") == name:
            return value()
    raise ConfigurationError(f'tasks/providers/{name}.py must define a Provider whose name is "{name}"')


# Before the first import, which may need another of the provider's modules.
check_modules()

#: Provider -> its delivery module, in alphabetical order.
PROVIDERS: Final[Mapping[str, Provider]] = MappingProxyType(
    {module.name: _provider(module.name) for module in pkgutil.iter_modules(__path__)}
)
