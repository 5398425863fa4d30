"""What an event is: typed, immutable, validated when made."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from types import MappingProxyType
from typing import Any, ClassVar, Final, NoReturn, Self, dataclass_transform

from postback._events import fields
from postback._events.account_names import check_account_name
from postback._events.described import described, meanings
from postback._events.payload import compact, thaw
from postback._events.schema import UNKNOWN, Schema
from postback._events.shown import field_name, in_code, in_summary
from postback._events.values import Refused, accepted, moment
from postback._suggestion import did_you_mean
from postback.errors import InvalidEvent

__all__ = ["EVENTS", "EventData"]

#: Priority of an event that reads. It overtakes the writes of its account.
READ_PRIORITY: Final = 0
#: Priority of an event that writes.
WRITE_PRIORITY: Final = 3

_registry: dict[str, type[EventData]] = {}

#: Task name -> event class, over all providers.
EVENTS: Mapping[str, type[EventData]] = MappingProxyType(_registry)


@dataclass_transform(
    kw_only_default=True,
    frozen_default=True,
    field_specifiers=(
        fields.text, fields.integer, fields.number, fields.flag, fields.one_of, fields.items, fields.text_map,
        fields.json_object,
    ),
)  # fmt: skip
class _Declared:
    """Lets type checkers derive the constructors of the classes below from their fields."""

    # The instance's dictionary holds the fields, and events are compared by it. So the encoded form
    # must not be in it.
    __slots__ = ("_encoded",)


class EventData(_Declared):
    """One event for one provider. How it is sent is in :mod:`postback._send.event`.

    It is immutable, equal to any event with the same fields, and safe to share between threads.
    """

    account: str | None = None

    #: ``"tgtrack"``
    provider: ClassVar[str] = ""
    #: ``"add_event"``
    method: ClassVar[str] = ""
    #: ``"tgtrack.add_event"``
    task_name: ClassVar[str] = ""
    #: Whether the caller can wait for an answer.
    has_result: ClassVar[bool] = False
    #: 0 for reads, 3 for writes; 0 is first.
    default_priority: ClassVar[int] = WRITE_PRIORITY
    #: The attribute that says when it happened. It is filled when the event is sent. None if the
    #: provider has no such field.
    time_field: ClassVar[str | None] = None
    #: Longest wire form, in bytes of compact UTF-8 JSON. Decision, where the provider names none: a
    #: fifth of :data:`~postback._events.payload.MAX_MESSAGE_BYTES`. No event that a person makes
    #: comes near it.
    max_bytes: ClassVar[int] = 100_000
    #: How many of those bytes to keep free for the time, filled in when the event is sent.
    time_bytes: ClassVar[int] = 0

    _fields: ClassVar[dict[str, fields.Field]] = {}
    #: Attribute -> what it means.
    _meanings: ClassVar[dict[str, str]] = {}
    _schema: ClassVar[Schema]
    #: Attribute -> itself, and attribute -> the provider's name of it: what an error calls it.
    _own_names: ClassVar[Mapping[str, str]]
    _providers_names: ClassVar[Mapping[str, str]]
    #: Our name of a field, the provider's, and whether None means that it is absent.
    _wire_names: ClassVar[tuple[tuple[str, str, bool], ...]]

    def __init_subclass__(cls, *, method: str = "", provider: str = "", reads: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared = {name: value for name, value in vars(cls).items() if isinstance(value, fields.Field)}
        annotations = inspect.get_annotations(cls, eval_str=True)
        for name, field in declared.items():
            field.annotation = accepted(annotations.get(name, field.annotation))
            field.wire = field.wire or name
            field.label = field.label or field.wire
            delattr(cls, name)
        cls._fields = {**cls._fields, **declared}
        cls._meanings = {**cls._meanings, **meanings(vars(cls).get("__doc__"))}
        if cls.time_field in declared:
            declared[cls.time_field].check = moment(declared[cls.time_field].check, cls._time_value)
        if not method:
            return  # a provider's common base, not an event
        cls.method = method
        cls.provider = provider or cls.provider
        cls.task_name = f"{cls.provider}.{method}"
        cls.has_result = reads
        cls.default_priority = READ_PRIORITY if reads else WRITE_PRIORITY
        cls._schema = Schema(cls._fields)
        cls._own_names = {name: name for name in cls._fields}
        cls._providers_names = {name: field.wire for name, field in cls._fields.items()}
        cls._wire_names = tuple(
            (name, field.wire, field.default is not fields.UNSET) for name, field in cls._fields.items()
        )
        parameters = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.required else field.default,
                annotation=field.annotation,
            )
            for name, field in cls._fields.items()
        ]
        parameters.append(
            inspect.Parameter("account", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=str | None)
        )
        cls.__doc__ = described(cls.__doc__, cls._fields, cls._meanings)
        cls.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        _registry[cls.task_name] = cls

    def __init__(self, *positional: object, account: str | None = None, **values: Any) -> None:
        if not self.method:
            raise TypeError(f"{type(self).__name__} is a base class, not an event")
        data: dict[str, Any] = {}
        errors: dict[str, list[str]] = {}
        if positional:
            errors["event"] = [f"takes keywords only: {self.title()}({next(iter(self._fields))}=…)"]
        for name, value in values.items():
            field = self._fields.get(name)
            if field is None:
                errors[field_name(name)] = [UNKNOWN + did_you_mean(name, [*self._fields, "account"])]
            elif value is not field.default:
                data[field.wire] = value
        errors.update(self._fill(data, account, self._own_names))
        if errors:
            raise InvalidEvent(self.title(), errors)

    @classmethod
    def title(cls) -> str:
        """How messages call the event: ``tgtrack.AddEvent``."""
        return f"{cls.provider}.{cls.__name__}"

    @classmethod
    def person_fields(cls) -> frozenset[str]:
        """The provider's names of the fields that identify a person.

        They are shortened where they are shown. ``postback erase`` searches them.
        """
        return frozenset(field.wire for field in cls._fields.values() if field.shown == "personal")

    @classmethod
    def load(cls, data: Any, *, account: str | None = None) -> Self:
        """Make an event from the provider's own JSON.

        Args:
            data: The JSON object, with the provider's field names.
            account: The account's name.

        Raises:
            InvalidEvent: A field is missing, unknown or breaks a rule; ``errors`` names them as the
                provider does.
        """
        return cls._load(data, account)

    @classmethod
    def _load(cls, data: Any, account: str | None) -> Self:
        event = cls.__new__(cls)
        if errors := event._fill(data, account, cls._providers_names):
            raise InvalidEvent(cls.title(), errors)
        return event

    def _fill(self, data: Any, account: str | None, names: Mapping[str, str]) -> dict[str, list[str]]:
        """Check the values and keep them.

        Args:
            data: The provider's names and values.
            account: The account's name.
            names: Attribute -> what the caller calls it.

        Returns:
            What is wrong, by the caller's names. If anything is, the event must not be used.
        """
        values, wrong = self._schema.read(data)
        values["account"] = account
        self.__dict__.update(values)
        errors: dict[str, list[str]] = {}
        if wrong:
            called = {field.wire: names[name] for name, field in self._fields.items()}
            errors = {called.get(wire, wire): messages for wire, messages in wrong.items()}
        if account is not None:
            try:
                check_account_name(account)
            except Refused as refused:
                errors["account"] = [str(refused)]
        if "event" not in wrong:
            for attribute, message in self._rules(names):
                errors.setdefault(names.get(attribute, attribute), [message])
        if not errors and (size := self.size()) > self.max_bytes:
            errors["event"] = [f"has {size} bytes; at most {self.max_bytes} are allowed"]
        return errors

    def _rules(self, names: Mapping[str, str]) -> list[tuple[str, str]]:
        """Broken rules about several fields at once, as (attribute or ``event``, message).

        Fields that are wrong by themselves hold what the caller gave, or None.

        Args:
            names: Attribute -> what the caller calls it, for the messages.
        """
        return []

    def wire(self) -> dict[str, Any] | str:
        """What the provider gets: its own field names, without optional fields that are absent.

        Returns:
            A new object each time. Text, where an event carries another service's text as it came.
        """
        wire: dict[str, Any] = thaw(self._wire())
        return wire

    def _wire(self) -> Any:
        """The wire form. Nested values are the event's own and must not be changed."""
        own, unset = self.__dict__, fields.UNSET
        return {
            wire: value
            for name, wire, null_is_absent in self._wire_names
            if (value := own[name]) is not unset and not (value is None and null_is_absent)
        }

    def encoded(self) -> bytes:
        """The wire form in UTF-8: compact JSON, or another service's text as it came."""
        encoded: bytes | None = getattr(self, "_encoded", None)
        if encoded is None:
            encoded = compact(self._wire())
            object.__setattr__(self, "_encoded", encoded)
        return encoded

    def size(self) -> int:
        """Bytes of :meth:`encoded`, with the time that a send fills in."""
        size = len(self.encoded())
        if self.time_field is not None and self.__dict__[self.time_field] is None:
            size += self.time_bytes
        return size

    def with_time(self, now_s: float) -> Self:
        """The event with the time it happened.

        It is the event itself if it has a time already, or if the provider takes none.

        Args:
            now_s: Seconds since the epoch.
        """
        if self.time_field is None or self.__dict__[self.time_field] is not None:
            return self
        event = self.__class__.__new__(self.__class__)
        event.__dict__.update(self.__dict__)
        event.__dict__[self.time_field] = self._time_value(int(now_s * 1000))
        return event

    @classmethod
    def _time_value(cls, now_ms: int) -> Any:
        """The value of `time_field` in the provider's unit: seconds, or what a class overrides."""
        return now_ms // 1000

    @classmethod
    def summary(cls, wire: Any) -> str:
        """A short text without personal data, for logs and Flower: ``event_type=sale user=98…21``.

        Args:
            wire: A wire form, valid or not.
        """
        if not isinstance(wire, Mapping):
            return ""
        parts = []
        for field in cls._fields.values():
            if field.shown != "hidden" and (value := wire.get(field.wire)) is not None:
                parts.append(f"{field.label}={in_summary(value, field.shown)}")
        return " ".join(parts)

    @abstractmethod
    def si(self) -> Any:
        """An immutable Celery signature of the event."""

    def idempotency_key(self) -> str | None:
        """The key that the event has by itself; None if only the caller can know it."""
        return None

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((self.task_name, *self.__dict__.values()))

    def __repr__(self) -> str:
        parts = []
        for name, field in self._fields.items():
            value = self.__dict__.get(name, fields.UNSET)  # absent in an event that is just being refused
            if value is not fields.UNSET and (value is not None or field.default is fields.UNSET):
                parts.append(f"{name}={in_code(value, field.shown)}")
        if self.account is not None:
            parts.append(f"account={self.account!r}")
        return f"{self.title()}({', '.join(parts)})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.wire(), self.account)


def _restore(cls: type[EventData], wire: Any, account: str | None) -> EventData:
    """Unpickle an event."""
    return cls._load(wire, account)
