"""The base of all events: typed, immutable, validated when made."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Self, dataclass_transform

import marshmallow

from postback import fields, sending
from postback.accounts import check_account_name
from postback.errors import InvalidEvent
from postback.payload import Refused, compact, thaw
from postback.shown import in_code, in_summary

if TYPE_CHECKING:
    from celery.canvas import Signature

    from postback.results import EventResult

__all__ = ["EVENTS", "Event", "event_class"]

#: Priority of an event that reads: it overtakes the writes of its account.
READ_PRIORITY: Final = 0
#: Priority of an event that writes.
WRITE_PRIORITY: Final = 3

_registry: dict[str, type[Event]] = {}

#: Task name -> event class, over all providers.
EVENTS: Mapping[str, type[Event]] = MappingProxyType(_registry)


def event_class(task_name: str) -> type[Event]:
    """The class of a task's events.

    Args:
        task_name: ``"tgtrack.add_event"``.

    Raises:
        KeyError: No event has this task.
    """
    return EVENTS[task_name]


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

    # Beside the fields, which are the instance's dictionary, so that no comparison sees it.
    __slots__ = ("_encoded",)


class Event(_Declared):
    """One event for one provider: immutable, equal to any event with the same fields, safe to share between threads.

    Attributes:
        account: Which account's credentials and quota carry it; None is the provider's only account or the one named
            ``main``. It is not part of what the provider gets.
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
    #: The attribute that says when it happened, filled when the event is sent; None if the provider has none.
    time_field: ClassVar[str | None] = None
    #: Longest wire form, in bytes of compact UTF-8 JSON. Decision, where the provider names none:
    #: room for every field's bound that an event of people's making reaches, and a fifth of
    #: :data:`~postback.payload.MAX_MESSAGE_BYTES`.
    max_bytes: ClassVar[int] = 100_000
    #: How many of those bytes to keep free for the time, filled in when the event is sent.
    time_bytes: ClassVar[int] = 0

    _fields: ClassVar[dict[str, fields.Field]] = {}
    _schema: ClassVar[marshmallow.Schema]
    #: The provider's name of a field -> our name of it, and the field.
    _by_wire: ClassVar[dict[str, tuple[str, fields.Field]]]
    #: Our name of a field, the provider's, and whether None means that it is absent.
    _wire_names: ClassVar[tuple[tuple[str, str, bool], ...]]
    _defaults: ClassVar[dict[str, Any]]
    _required: ClassVar[frozenset[str]]

    def __init_subclass__(cls, *, method: str = "", provider: str = "", reads: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared = {name: value for name, value in vars(cls).items() if isinstance(value, fields.Field)}
        for name, field in declared.items():
            field.wire = field.wire or name
            field.label = field.label or field.wire
            delattr(cls, name)
        cls._fields = {**cls._fields, **declared}
        if not method:
            return  # a provider's common base, not an event
        cls.method = method
        cls.provider = provider or cls.provider
        cls.task_name = f"{cls.provider}.{method}"
        cls.has_result = reads
        cls.default_priority = READ_PRIORITY if reads else WRITE_PRIORITY
        by_wire = {field.wire: field.as_marshmallow(name) for name, field in cls._fields.items()}
        schema = marshmallow.Schema.from_dict(by_wire, name=cls.__name__)
        cls._schema = schema(unknown=marshmallow.RAISE)
        cls._by_wire = {field.wire: (name, field) for name, field in cls._fields.items()}
        cls._wire_names = tuple(
            (name, field.wire, field.default is not fields.UNSET) for name, field in cls._fields.items()
        )
        cls._defaults = {name: field.default for name, field in cls._fields.items()}
        cls._required = frozenset(field.wire for field in cls._fields.values() if field.required)
        cls._schema.error_messages = {"unknown": "is not a field of this event", "type": "must be a JSON object"}
        parameters = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.required else field.default,
            )
            for name, field in cls._fields.items()
        ]
        parameters.append(inspect.Parameter("account", inspect.Parameter.KEYWORD_ONLY, default=None))
        cls.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        _registry[cls.task_name] = cls

    def __init__(self, *, account: str | None = None, **given: Any) -> None:
        if not self.method:
            raise TypeError(f"{type(self).__name__} is a base class, not an event")
        values: dict[str, Any] = {}
        errors: dict[str, list[str]] = {}
        for name, field in self._fields.items():
            default = field.default
            if name in given:
                value = given.pop(name)
                if value is None and (default is None or default is fields.UNSET):
                    values[name] = None
                elif value is fields.UNSET and default is fields.UNSET:
                    values[name] = value
                else:
                    try:
                        values[name] = field.check(value)
                    except Refused as refused:
                        errors[name] = [str(refused)]
            elif default is fields.REQUIRED:
                errors[name] = ["is required"]
            else:
                values[name] = default
        if given:
            raise TypeError(f"{self.title()} has no field {next(iter(given))!r}")
        self._settle(values, account, errors)

    @classmethod
    def title(cls) -> str:
        """How messages call the event: ``tgtrack.AddEvent``."""
        return f"{cls.provider}.{cls.__name__}"

    @classmethod
    def person_fields(cls) -> frozenset[str]:
        """The provider's names of the fields that identify a person.

        They are shortened where they are shown, and ``postback erase`` searches them.
        """
        return frozenset(field.wire for field in cls._fields.values() if field.shown == "person")

    @classmethod
    def load(cls, data: Any, *, account: str | None = None) -> Self:
        """Make an event from the provider's own JSON.

        Args:
            data: The JSON object, with the provider's field names.
            account: The account's name.

        Raises:
            InvalidEvent: A field is missing, unknown or breaks a rule; ``errors`` names them as the provider does.
        """
        return cls._load(data, account)

    @classmethod
    def _load(cls, data: Any, account: str | None) -> Self:
        values = cls._checked(data)
        if values is None:
            try:
                loaded = cls._schema.load(data)
            except marshmallow.ValidationError as invalid:
                raise InvalidEvent(cls.title(), fields.messages_by_field(invalid)) from None
            values = {name: loaded.get(name, field.default) for name, field in cls._fields.items()}
        event = cls.__new__(cls)
        event._settle(values, account, {}, wire_names=True)
        return event

    @classmethod
    def _checked(cls, data: Any) -> dict[str, Any] | None:
        """The fields' values by the same checks that the schema runs; None if anything is wrong, which the schema then tells in full.

        marshmallow asks every field of a schema, and some events have forty of which a sender uses five: this takes a third of its time.
        """
        if type(data) is not dict or not cls._required <= data.keys():
            return None
        values = dict(cls._defaults)
        try:
            for wire, value in data.items():
                name, field = cls._by_wire[wire]
                if value is None:
                    return None
                values[name] = field.check(value)
        except (KeyError, Refused):
            return None
        return values

    def _settle(
        self, values: dict[str, Any], account: str | None, errors: dict[str, list[str]], *, wire_names: bool = False
    ) -> None:
        """Keep checked values, after the rules about several fields at once."""
        if account is not None:
            try:
                check_account_name(account)
            except Refused as refused:
                errors["account"] = [str(refused)]
        if not errors:
            values["account"] = account
            self.__dict__.update(values)
            for name, message in self._rules():
                errors.setdefault(self._fields[name].wire if wire_names and name in self._fields else name, []).append(
                    message
                )
        if not errors and (size := self.size()) > self.max_bytes:
            errors["event"] = [f"has {size} bytes; at most {self.max_bytes} are allowed"]
        if errors:
            raise InvalidEvent(self.title(), errors)

    def _rules(self) -> list[tuple[str, str]]:
        """Broken rules about several fields at once, as (attribute or ``event``, message)."""
        return []

    def wire(self) -> dict[str, Any] | str:
        """What the provider gets: its own field names, optional fields left out if absent. A new object each time."""
        wire: dict[str, Any] = thaw(self._wire())
        return wire

    def _wire(self) -> Any:
        """The wire form; nested values are the event's own and must not be changed."""
        own, unset = self.__dict__, fields.UNSET
        return {
            wire: value
            for name, wire, null_is_absent in self._wire_names
            if (value := own[name]) is not unset and not (value is None and null_is_absent)
        }

    def encoded(self) -> bytes:
        """The wire form as it is sent: compact JSON, or the text that was given; UTF-8."""
        encoded: bytes | None = getattr(self, "_encoded", None)
        if encoded is None:
            encoded = compact(self._wire())
            object.__setattr__(self, "_encoded", encoded)
        return encoded

    def size(self) -> int:
        """Bytes of the compact UTF-8 JSON that the provider gets, with the time that is filled in on sending."""
        size = len(self.encoded())
        if self.time_field is not None and self.__dict__[self.time_field] is None:
            size += self.time_bytes
        return size

    def with_time(self, now_s: float) -> Self:
        """The event with the time it happened; itself if it has one already or the provider takes none.

        Args:
            now_s: Seconds since the epoch.
        """
        if self.time_field is None or self.__dict__[self.time_field] is not None:
            return self
        event = self.__class__.__new__(self.__class__)
        event.__dict__.update(self.__dict__)
        event.__dict__[self.time_field] = self._time_value(now_s)
        return event

    def _time_value(self, now_s: float) -> Any:
        return int(now_s)

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

    def idempotency_key(self) -> str | None:
        """The key that the event has by itself; None if only the caller can know it."""
        return None

    def delay(self) -> EventResult:
        """Put the event into its account's queue.

        Takes at most ``POSTBACK_SEND_TIMEOUT_S`` (2 s), whatever Redis does.

        Returns:
            A Celery AsyncResult; ``.id`` is the event's id.

        Raises:
            UnknownAccount: The provider's accounts are known and this is none of them.
            MessageTooLarge: A carried payload becomes too long for a message; nothing was sent.
            NotEnqueued: Redis is away or full; the event is certainly not in the queue.
            QueueFull: The account has its ``max_queued`` of events waiting; a ``NotEnqueued``.
            EnqueueUnknown: Redis fell silent after it was written to.
        """
        return sending.send(self, {})

    def apply_async(self, **options: Any) -> EventResult:
        """Put the event into its account's queue with Celery's options.

        Args:
            **options: ``countdown`` (s), ``eta``, ``expires``, ``priority`` (0 is first … 9), ``link``,
                ``link_error``, ``task_id``, ``headers`` (merged), and Celery's others; ``idempotency_key`` (str):
                within the horizon (7 days) a
                second event of the account with the same key is dropped.

        Raises:
            TypeError: There is no such option, or it cannot be chosen.
            UnknownAccount, MessageTooLarge, NotEnqueued, EnqueueUnknown: As for :meth:`delay`.
        """
        return sending.send(self, options)

    def si(self, **options: Any) -> Signature[Any]:
        """An immutable Celery signature, for ``link=``, chains and beat schedules, also of another Celery app.

        Its time is left open: a worker sets it when it first takes the event.

        Args:
            **options: As for :meth:`apply_async`.
        """
        return sending.signature(self, options)

    async def adelay(self, **options: Any) -> EventResult:
        """:meth:`apply_async` in a thread, for bots and asynchronous views."""
        return await sending.send_in_thread(self, options)

    def delay_on_commit(self, *, using: str | None = None, **options: Any) -> None:
        """Send the event when Django's transaction commits (at once outside of one); never if it is rolled back.

        If the send fails then, the commit stands and nothing is raised: the logger ``postback`` gets one ERROR line
        with the event's id, and the event is lost. :meth:`delay_via_outbox` loses none.

        Args:
            using: Which database's transaction.
            **options: As for :meth:`apply_async`.
        """
        sending.send_on_commit(self, options, using)

    def delay_via_outbox(self, *, using: str | None = None, **options: Any) -> EventResult:
        """Write the event into Django's database, in the transaction that is open; ``postback_relay`` sends it.

        It is committed and rolled back with the rest of the transaction. Redis is not asked. Its time, ``countdown``
        and ``expires`` count from now.

        Args:
            using: Which database; None is the one that Django's routers choose for the outbox.
            **options: As for :meth:`apply_async`.

        Returns:
            A Celery AsyncResult; ``.id`` is the event's id in the outbox, in Redis and in Flower.

        Raises:
            ConfigurationError: ``postback.contrib.django`` is not installed or not migrated, or its settings are wrong.
            TypeError: There is no such option, or it cannot be chosen, or it is not JSON.
            MessageTooLarge: With its options it is too long for a message; nothing was written.
        """
        return sending.send_via_outbox(self, options, using)

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


def _restore(cls: type[Event], wire: Any, account: str | None) -> Event:
    """Unpickle an event."""
    return cls._load(wire, account)
