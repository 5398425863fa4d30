"""Checks a message's links: ``link``, ``link_error``, chains and chords.

All are Celery signatures, which anybody may have written. Celery obeys every option of a
signature: it creates a queue that does not exist, it uses the serialiser that is named. So each
signature is checked whole, with its own links, before a message counts as an event.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from celery.utils.time import maybe_iso8601
from kombu.utils import json as kombu_json

from config.topology import FOREIGN_QUEUE, provider_of
from postback._events.account_names import check_account_name
from postback._events.values import Refused
from tasks.checks import (
    Rule,
    broken,
    is_count,
    is_flag,
    is_list,
    is_moment,
    is_number,
    is_object,
    is_priority,
    is_short,
    is_text,
    nothing_but,
)

#: Most signatures of one message, and how deep they may be nested.
MAX_SIGNATURES: Final = 200
MAX_DEPTH: Final = 20

_NEEDED: Final = frozenset({"task", "args", "kwargs", "options"})
_FIELDS: Final = _NEEDED | {"subtask_type", "immutable", "chord_size"}
#: Celery's composed signatures: the arguments that hold their parts, and other allowed arguments.
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "chain": ("tasks",), "group": ("tasks",), "chord": ("header", "body"),
}  # fmt: skip
_BESIDE: Final[Mapping[str, frozenset[str]]] = {
    "chain": frozenset(), "group": frozenset(), "chord": frozenset({"kwargs"}),
}  # fmt: skip
#: Options of a signature that hold signatures.
_LINKS: Final = ("link", "link_error", "chain", "chord")


def _is_moment(value: Any) -> str:
    """A time. kombu's JSON may have read it already."""
    text = value.isoformat() if isinstance(value, datetime) else value
    try:
        # Celery's reader accepts fewer forms of ISO 8601.
        return is_moment(text) or ("" if maybe_iso8601(text) else "must be a time")
    except ValueError:
        return "must be a time as Celery writes it"


_OPTIONS: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(("task_id", "root_id", "parent_id", "group_id", "reply_to", "shadow", "group"), is_short),
    **dict.fromkeys(("argsrepr", "kwargsrepr", "origin", "lang"), is_text),
    **dict.fromkeys(("countdown", "time_limit", "soft_time_limit"), is_number),
    **dict.fromkeys(("ignore_result", "add_to_parent", "immutable", "retry"), is_flag),
    **dict.fromkeys(("retries", "group_index", "replaced_task_nesting", "chord_size", "delivery_mode"), is_count),
    **dict.fromkeys(("headers", "stamps"), is_object),
    "stamped_headers": is_list,
    "eta": _is_moment,
    "expires": lambda value: is_number(value) and _is_moment(value),
    "priority": is_priority,
    "serializer": nothing_but("json"),
    "compression": nothing_but(),
    "exchange": nothing_but(""),
}

#: Options that cannot be stamps.
_OWN: Final = frozenset({*_LINKS, *_OPTIONS, "queue", "routing_key"})


class BadLinks(ValueError):
    """A link is wrong; the text ends the sentence "the message …"."""


class LinkRules:
    """The rules for links.

    Args:
        queues: Further queues that a link may lead to, beside accounts' queues and Celery's own.
    """

    def __init__(self, queues: Collection[str] = ()) -> None:
        self._queues = frozenset({*queues, FOREIGN_QUEUE})

    def check(self, embed: Mapping[str, Any]) -> None:
        """Check the third part of a message's body.

        Raises:
            BadLinks: Celery does not write such a link, or its queue is not allowed.
        """
        try:
            # Celery reads it with kombu's JSON, which makes dates and ids of some objects. The
            # check sees what Celery will see.
            embed = kombu_json.loads(json.dumps(embed))
        except Exception:  # a decoder of kombu's may raise anything
            raise BadLinks("has links that cannot be read") from None
        left = [MAX_SIGNATURES]
        for name in ("callbacks", "errbacks", "chain"):
            if embed.get(name) is not None:
                self._check_list(embed[name], name, left, 0)
        if embed.get("chord") is not None:
            self._check_signature(embed["chord"], "chord", left, 0)

    def _check_list(self, value: Any, name: str, left: list[int], depth: int) -> None:
        if not isinstance(value, list):
            raise BadLinks(f"has {name} that are no list")
        for item in value:
            self._check_signature(item, name, left, depth)

    def _check_signature(self, value: Any, name: str, left: list[int], depth: int) -> None:
        left[0] -= 1
        if left[0] < 0 or depth > MAX_DEPTH:
            raise BadLinks(f"has more than {MAX_SIGNATURES} signatures, or some more than {MAX_DEPTH} deep")
        if not isinstance(value, dict) or not _NEEDED <= value.keys() <= _FIELDS:
            raise BadLinks(f"has {name} that are no Celery signatures")
        task, args, kwargs, options = value["task"], value["args"], value["kwargs"], value["options"]
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise BadLinks(f"has {name} whose arguments are no list or no object")
        if not task or is_short(task) or not isinstance(options, dict):
            raise BadLinks(f"has {name} whose task or options are not what Celery writes")
        if broken(is_flag, value.get("immutable")) or broken(is_count, value.get("chord_size")):
            raise BadLinks(f"has {name} whose parts are not what Celery writes")
        self._check_options(options, name, left, depth)
        kind = value.get("subtask_type")
        if kind in (None, ""):
            self._check_single(task, kwargs, options, name)
        elif isinstance(kind, str) and kind in _PARTS and task == f"celery.{kind}":
            self._check_composed(kind, kwargs, name, left, depth)
        else:
            raise BadLinks(f"has {name} of an unknown kind")

    def _check_composed(self, kind: str, kwargs: Mapping[str, Any], name: str, left: list[int], depth: int) -> None:
        if name in ("errbacks", "link_error"):
            # Celery would run it in the worker, and fail.
            raise BadLinks(f"has {name} that are not single tasks")
        if not kwargs.keys() <= {*_PARTS[kind], *_BESIDE[kind]} or any(kwargs.get(part) for part in _BESIDE[kind]):
            raise BadLinks(f"has {name} with parts that Celery does not write")
        for part in _PARTS[kind]:
            if not kwargs.get(part) or (part == "tasks" and not isinstance(kwargs[part], list)):
                raise BadLinks(f"has {name} without their parts")
            self._check_parts(kwargs[part], name, left, depth + 1)

    def _check_parts(self, value: Any, name: str, left: list[int], depth: int) -> None:
        if isinstance(value, list):
            self._check_list(value, name, left, depth)
        elif value is not None:
            self._check_signature(value, name, left, depth)

    def _check_options(self, options: Mapping[str, Any], name: str, left: list[int], depth: int) -> None:
        stamps = options.get("stamped_headers") or []
        if broken(is_list, stamps):
            raise BadLinks(f"has {name} whose stamped_headers are no list of texts")
        if not options.keys() >= set(stamps) or not _OWN.isdisjoint(stamps):
            raise BadLinks(f"has {name} with stamps that are none")
        for option, value in options.items():
            if option in _LINKS:
                self._check_parts(value, option if option == "link_error" else name, left, depth + 1)
            elif option in ("queue", "routing_key"):
                self._check_queue(value, name)
            elif option in _OPTIONS:
                if sentence := broken(_OPTIONS[option], value):
                    raise BadLinks(f"has {name} whose {option} {sentence}")
            elif option not in stamps:
                raise BadLinks(f"has {name} with an option that a link cannot have")

    def _check_single(self, task: str, kwargs: Mapping[str, Any], options: Mapping[str, Any], name: str) -> None:
        if task.startswith("celery."):
            # The worker has these tasks. Celery runs an errback of them at once, without a queue.
            raise BadLinks(f"has {name} that are tasks of Celery's own")
        provider = provider_of(task)
        if provider and options.get("queue") is None:
            # `config.topology.route` makes the queue's name.
            self._check_queue(f"{provider}.{kwargs.get('account') or 'main'}", name)

    def _check_queue(self, queue: Any, name: str) -> None:
        if queue is None or (isinstance(queue, str) and (queue in self._queues or _is_account_queue(queue))):
            return
        raise BadLinks(f"has {name} for a queue that POSTBACK_LINK_QUEUES does not name")


def _is_account_queue(queue: str) -> bool:
    provider, _, account = queue.partition(".")
    if provider_of(provider) is None:
        return False
    try:
        check_account_name(account)
    except Refused:
        return False
    return True
