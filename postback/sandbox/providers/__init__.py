"""The providers' servers.

Each module of this folder is a provider and defines its class; nothing else lists them.
"""

from __future__ import annotations

import importlib
import pkgutil

from ..provider import Provider


def provider_classes() -> dict[str, type[Provider]]:
    """Name -> class of every provider, in alphabetical order.

    Raises:
        TypeError: a module defines no provider of its own name.
    """
    return {module.name: _class(module.name) for module in pkgutil.iter_modules(__path__)}


def _class(name: str) -> type[Provider]:
    module = importlib.import_module(f"{__name__}.{name}")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Provider) and getattr(value, "name", "") == name:
            return value
    raise TypeError(f'postback/sandbox/providers/{name}.py must define a Provider whose name is "{name}"')
