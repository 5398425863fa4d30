"""How an event class reads JSON: a marshmallow schema, derived from the class's fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import marshmallow

from postback._events.fields import REQUIRED, UNSET, Check, Field
from postback._events.shown import field_name
from postback._events.values import Refused
from postback._suggestion import did_you_mean

__all__ = ["UNKNOWN", "Schema"]

#: What is wrong with a name that no field has.
UNKNOWN: Final = "is not a field of this event"


class Schema:
    """Reads the provider's JSON into checked values.

    Args:
        fields: Our name of each field -> the field.
    """

    __slots__ = ("_defaults", "_full", "_readers", "_required")

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._defaults = {name: field.default for name, field in fields.items()}
        by_wire: dict[str, Any] = {field.wire: _SchemaField(name, field) for name, field in fields.items()}
        self._full = marshmallow.Schema.from_dict(by_wire)(unknown=marshmallow.RAISE)
        self._full.error_messages = {"unknown": UNKNOWN, "type": "must be a JSON object"}
        # They are those of `by_wire`, bound to the schema.
        bound: dict[str, _SchemaField] = self._full.load_fields  # type: ignore[assignment]
        #: The provider's name of a field -> our name, its check, whether None is a value of its
        #: own.
        self._readers = {
            wire: (field.attribute or wire, field.check, field.allow_none) for wire, field in bound.items()
        }
        self._required = frozenset(wire for wire, field in bound.items() if field.required)

    def read(self, data: Any) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """Our names and values of all fields, and what is wrong with them.

        marshmallow asks every field of a schema. Some events have forty, and a sender uses five of
        them. So the fields that are there are read first, by the schema's own readers. If one of
        them refuses, marshmallow reads the whole object and names everything that is wrong.

        Args:
            data: The provider's names and values.

        Returns:
            The values: checked ones; where something is wrong, what came or None. And what is wrong
            by the provider's name of the field: it is missing, unknown or breaks a rule. What is
            wrong with the object as a whole stands under ``event``.
        """
        if type(data) is dict and self._required <= data.keys():
            values, readers = dict(self._defaults), self._readers
            try:
                for wire, value in data.items():
                    name, check, none_is_a_value = readers[wire]
                    values[name] = None if value is None and none_is_a_value else check(value)
            except (KeyError, Refused):
                pass
            else:
                return values, {}
        try:
            return {**self._defaults, **self._full.load(data)}, {}
        except marshmallow.ValidationError as invalid:
            sound: Any = invalid.valid_data or {}
            values = {
                name: sound.get(name, data.get(wire, self._defaults[name]) if isinstance(data, Mapping) else None)
                for wire, (name, _, _) in self._readers.items()
            }
            return {name: None if value is REQUIRED else value for name, value in values.items()}, self._errors(invalid)

    def _errors(self, invalid: marshmallow.ValidationError) -> dict[str, list[str]]:
        """Marshmallow's messages by field; an unknown field's say which one was meant."""
        by_field: dict[str, list[str]] = {}
        for key, messages in invalid.messages_dict.items():
            listed = list(messages) if isinstance(messages, list) else [str(messages)]
            if listed == [UNKNOWN]:
                listed = [UNKNOWN + did_you_mean(key, self._readers)]
            by_field["event" if key == "_schema" else field_name(key)] = listed
        return by_field


class _SchemaField(marshmallow.fields.Field):  # type: ignore[type-arg]  # marshmallow 3 cannot be subscripted
    """Runs a field's own check inside marshmallow."""

    def __init__(self, name: str, field: Field) -> None:
        super().__init__(
            data_key=field.wire,
            attribute=name,
            required=field.required,
            allow_none=field.default is UNSET,
            error_messages={"required": "is required", "null": "must not be null"},
        )
        self.check: Check = field.check

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        try:
            return self.check(value)
        except Refused as refused:
            raise marshmallow.ValidationError(str(refused)) from None
