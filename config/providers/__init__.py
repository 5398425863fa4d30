"""The providers' policies.

Each module of this folder is a provider and defines ``POLICY``; nothing else lists them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from config.policy import Policy
from postback.errors import ConfigurationError


def _policy(name: str) -> Policy:
    policy = getattr(importlib.import_module(f"{__name__}.{name}"), "POLICY", None)
    if not isinstance(policy, Policy) or policy.provider != name:
        raise ConfigurationError(f'config/providers/{name}.py must define POLICY = Policy(provider="{name}", …)')
    return policy


#: Provider -> its policy, in alphabetical order.
POLICIES: Final[Mapping[str, Policy]] = MappingProxyType(
    {module.name: _policy(module.name) for module in pkgutil.iter_modules(__path__)}
)

#: Names of all providers, in alphabetical order.
PROVIDERS: Final[tuple[str, ...]] = tuple(POLICIES)
