"""Celery's options of one send, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypedDict

import celery
from celery.canvas import Signature

from postback._events.event import EventData
from postback._suggestion import did_you_mean

__all__ = ["CeleryOptions", "Options", "SendOptions", "read_options"]

#: What a link may be: a signature of any app (a dict with a task), or an event.
Callback = Signature[Any] | Mapping[str, Any] | EventData


class CeleryOptions(TypedDict, total=False):
    """Options that Celery's own machinery sets. They become part of the message as they are."""

    chain: Any
    chord: Any
    group_id: str | None
    group_index: int | None
    parent_id: str | None
    replaced_task_nesting: int | None
    reply_to: str | None
    retries: int | None
    root_id: str | None
    shadow: str | None
    soft_time_limit: float | None
    time_limit: float | None


class SendOptions(CeleryOptions, total=False):
    """Options of one send. None is as good as left out.

    Args:
        countdown: Seconds to wait before the event may be sent.
        eta: When it may be sent. A naive time is UTC. Excludes ``countdown``.
        expires: When it is given up (``expired``): a time, or seconds from now.
        priority: 0 (first) to 9. Left out: 3, look-ups 0.
        idempotency_key: 1 to 1024 characters. For 7 days (the account's ``dedup_s``) a second event
            of the account with the same key is dropped. Redis and the journal keep it in clear
            text, so that the event can be found by it.
        task_id: The event's id, 1 to 255 characters. Left out: a new UUID.
        link: What runs once the event is delivered, or its answer is there: one or a list.
        link_error: What runs once it is a dead letter: one or a list.
        headers: Headers of the message, JSON. Names that begin with ``postback_`` are Postback's.
        ignore_result: Whether the worker stores no result. Left out: only look-ups have one.
        add_to_parent: Whether the Celery task that sends it lists it as a child. Left out: yes.
    """

    countdown: float | None
    eta: datetime | None
    expires: datetime | float | None
    priority: int | None
    idempotency_key: str | None
    task_id: str | None
    link: Callback | Sequence[Callback] | None
    link_error: Callback | Sequence[Callback] | None
    headers: Mapping[str, Any] | None
    ignore_result: bool | None
    add_to_parent: bool


#: Names of all options, and of those that become part of the message as they are.
_NAMES: Final = SendOptions.__annotations__.keys()
_PASSED: Final = CeleryOptions.__annotations__.keys()
#: Celery's option that an event cannot have -> why.
_FIXED: Final = {
    "args": "the event is the argument",
    "kwargs": "the event is the argument",
    "queue": "the account decides the queue",
    "exchange": "the account decides the queue",
    "routing_key": "the account decides the queue",
    "connection": "POSTBACK_BROKER_URL decides the connection",
    "producer": "POSTBACK_BROKER_URL decides the connection",
    "publisher": "POSTBACK_BROKER_URL decides the connection",
    "retry": "a send is never repeated by itself, so that its time is bounded",
    "retry_policy": "a send is never repeated by itself, so that its time is bounded",
    "serializer": "messages are JSON",
    "compression": "messages are not compressed",
    "argsrepr": "Postback keeps personal data out of it",
    "kwargsrepr": "Postback keeps personal data out of it",
}
#: Longest idempotency key and task id, in characters.
MAX_KEY_CHARS: Final = 1024
MAX_ID_CHARS: Final = 255


@dataclass(slots=True)
class Options:
    """Checked options of one send.

    Attributes:
        priority: 0 (first) … 9.
        ignore_result: Whether the worker stores no result.
        key: The idempotency key, as the caller or the event wrote it.
        timing: ``countdown``, ``eta`` and ``expires``, those that the caller has set.
        passed: Options that become part of the message as they are.
        parent: The task that is sending this event, if any.
    """

    priority: int
    ignore_result: bool
    task_id: str | None
    key: str | None
    headers: dict[str, Any]
    link: list[Any]
    link_error: list[Any]
    timing: dict[str, Any]
    passed: dict[str, Any]
    add_to_parent: bool
    parent: Any

    def for_message(self, app: celery.Celery) -> dict[str, Any]:
        """Arguments of Celery's message factory."""
        arguments = {**self.timing, **self.passed}
        if self.link:
            arguments["callbacks"] = self.link
        if self.link_error:
            arguments["errbacks"] = self.link_error
        parent = self.parent
        if parent is not None:
            arguments.setdefault("root_id", parent.request.root_id or parent.request.id)
            arguments.setdefault("parent_id", parent.request.id)
        return arguments

    def for_signature(self) -> dict[str, Any]:
        """Options of a Celery signature, without links."""
        arguments = {**self.timing, **self.passed}
        if self.task_id is not None:
            arguments["task_id"] = self.task_id
        return arguments


def read_options(event: EventData, options: dict[str, Any]) -> Options:
    """Check the options of a send.

    Args:
        event: What is sent.
        options: As the caller of :meth:`postback._send.event.Event.apply_async` gave them.

    Raises:
        TypeError: There is no such option, an event cannot have it, or its type is wrong.
        ValueError: One is out of range.
    """
    own_key = event.idempotency_key()
    parent = _current_task()
    if not options:
        return Options(event.default_priority, not event.has_result, None, own_key, {}, [], [], {}, {}, True, parent)
    for name in options.keys() - _NAMES:
        why = _FIXED.get(name)
        raise TypeError(
            f"{event.title()} has no option {name!r}{did_you_mean(name, _NAMES)}"
            if why is None
            else f"{event.title()}: {name!r} cannot be set: {why}"
        )
    timing = {name: options[name] for name in ("countdown", "eta", "expires") if options.get(name) is not None}
    _check_timing(timing)
    priority = options.get("priority")
    if priority is None:
        priority = event.default_priority
    elif isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError("priority must be a whole number from 0 (first) to 9")
    elif not 0 <= priority <= 9:
        raise ValueError("priority must be from 0 (first) to 9")
    key = _text("idempotency_key", options.get("idempotency_key"), MAX_KEY_CHARS)
    ignore = options.get("ignore_result")
    if ignore is not None and not isinstance(ignore, bool):
        raise TypeError("ignore_result must be true or false")
    return Options(
        priority=priority,
        ignore_result=not event.has_result if ignore is None else ignore,
        task_id=_text("task_id", options.get("task_id"), MAX_ID_CHARS),
        key=key or own_key,
        headers=_headers(options.get("headers")),
        link=_callbacks("link", options.get("link")),
        link_error=_callbacks("link_error", options.get("link_error")),
        timing=timing,
        passed={name: options[name] for name in _PASSED & options.keys() if options[name] is not None},
        add_to_parent=options.get("add_to_parent", True),
        parent=parent,
    )


def _current_task() -> Any:
    """The task that runs in this thread, of any Celery app: the parent of the events it sends."""
    task = celery.current_task
    return task if task and not task.request.called_directly else None


def _text(name: str, value: object, max_chars: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds a lone surrogate, which UTF-8 cannot carry") from None
    if not 1 <= len(value) <= max_chars:
        raise ValueError(f"{name} must have 1 to {max_chars} characters")
    return value


def _check_timing(timing: dict[str, Any]) -> None:
    if "countdown" in timing and "eta" in timing:
        raise TypeError("countdown and eta exclude each other")
    for name, value in timing.items():
        if isinstance(value, datetime) and name != "countdown":
            # Celery would read a naive time in the server's timezone; ours is always UTC.
            timing[name] = value if value.tzinfo else value.replace(tzinfo=UTC)
        elif name == "eta":
            raise TypeError(f"eta must be a datetime, not {type(value).__name__}")
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            accepted = "a number of seconds" if name == "countdown" else "a datetime or a number of seconds"
            raise TypeError(f"{name} must be {accepted}, not {type(value).__name__}")
        elif not -1e9 < value < 1e9:
            raise ValueError(f"{name} must be a number of seconds below 1e9")


def _headers(headers: object) -> dict[str, Any]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a mapping, not {type(headers).__name__}")
    for name in headers:
        if not isinstance(name, str):
            raise TypeError("headers must have names that are strings")
        if name.startswith("postback_"):
            raise TypeError(f"header {name!r} cannot be set: names that begin with postback_ are Postback's")
    return dict(headers)


def _callbacks(name: str, value: object) -> list[Any]:
    """A link as Celery keeps it: a list of signatures. An event stands for its own ``si()``."""
    if value is None:
        return []
    callbacks: list[Any] = []
    for item in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(item, EventData):
            item = item.si()
        if not isinstance(item, Signature) and not (isinstance(item, dict) and "task" in item):
            raise TypeError(f"{name} must be a Celery signature or an event, not {type(item).__name__}")
        callbacks.append(item)
    return callbacks
