"""Rules that make a provider refuse certain valid events for good, alone or inside a batch."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .exchange import Call


@dataclass(frozen=True, slots=True)
class Refusal:
    """Refuse an event whose `field` equals `value`.

    A field is a dotted path: ``eventData.telegramUserId``, ``labels.0.name``.

    `code` None stands for the provider's usual code for an invalid event.
    """

    provider: str
    field: str
    value: Any
    method: str | None = None
    code: int | None = None

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> Refusal:
        """Read a rule as the control API gives it.

        Raises:
            ValueError: a field is missing, unknown or of the wrong type.
        """
        unknown = spec.keys() - {"provider", "field", "value", "method", "code"}
        if unknown:
            raise ValueError(f"a refusal has no field {', '.join(sorted(unknown))}")
        if not isinstance(spec.get("provider"), str) or not isinstance(spec.get("field"), str) or "value" not in spec:
            raise ValueError("a refusal needs provider, field and value")
        code = spec.get("code")
        if code is not None and type(code) is not int:
            raise ValueError("refusal field 'code' must be int")
        return cls(spec["provider"], spec["field"], spec["value"], spec.get("method"), code)

    def hits(self, event: Any) -> bool:
        """True if the event has that value in that place."""
        part = event
        for name in self.field.split("."):
            if isinstance(part, dict) and name in part:
                part = part[name]
            elif isinstance(part, list) and name.isdigit() and int(name) < len(part):
                part = part[int(name)]
            else:
                return False
        # 1 == True in Python; not in JSON.
        return isinstance(part, bool) is isinstance(self.value, bool) and bool(part == self.value)


class Refusals:
    """The rules in force."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: tuple[Refusal, ...] = ()

    def add(self, rule: Refusal) -> None:
        """Put a rule in force."""
        with self._lock:
            self._rules += (rule,)

    def clear(self) -> None:
        """Remove all rules."""
        self._rules = ()

    def listed(self) -> tuple[Refusal, ...]:
        """The rules in force."""
        return self._rules

    def hit(self, call: Call, events: list[Any]) -> Refusal | None:
        """The first rule that one of the events breaks."""
        for rule in self._rules:
            method = rule.method
            if (
                rule.provider == call.provider
                and method in (None, call.method)
                and any(rule.hits(event) for event in events)
            ):
                return rule
        return None
