"""The five providers. A module of this package that defines a `Provider` is served; nothing else lists them."""

from __future__ import annotations

import importlib
import pkgutil

from .base import ERROR_STYLES, ErrorStyle, Provider


def provider_classes() -> dict[str, type[Provider]]:
    """Name -> class of every provider in this package, sorted by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return {
        cls.name: cls
        for cls in sorted(Provider.__subclasses__(), key=lambda cls: cls.name)
        if cls.__module__.startswith(__name__)
    }


__all__ = ["ERROR_STYLES", "ErrorStyle", "Provider", "provider_classes"]
