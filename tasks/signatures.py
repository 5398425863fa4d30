"""What hangs on a message: ``link``, ``link_error``, chains and chords, all of them Celery signatures that anybody may have written.

Celery takes every option of a signature at its word: a queue that does not exist is made, a serialiser that is named is used.
So a signature is checked whole, with all that hangs on it in turn, before a message is taken for an event.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from config.topology import FOREIGN_QUEUE, provider_of
from postback.accounts import check_account_name
from postback.payload import Refused
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

#: Most signatures that hang on one message, and how deep one may hang on another.
MAX_SIGNATURES: Final = 200
MAX_DEPTH: Final = 20

_FIELDS: Final = frozenset({"task", "args", "kwargs", "options", "subtask_type", "immutable", "chord_size"})
_REQUIRED: Final = frozenset({"task", "args", "kwargs", "options"})
#: Celery's composed signatures, and where their parts are.
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "chain": ("tasks",), "group": ("tasks",), "chord": ("header", "body"),
}  # fmt: skip
#: Options of a signature that hold signatures.
_LINKS: Final = ("link", "link_error", "chain", "chord")

_OPTIONS: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(("task_id", "root_id", "parent_id", "group_id", "reply_to", "shadow", "group"), is_short),
    **dict.fromkeys(("argsrepr", "kwargsrepr", "origin", "lang"), is_text),
    **dict.fromkeys(("countdown", "time_limit", "soft_time_limit"), is_number),
    **dict.fromkeys(("ignore_result", "add_to_parent", "immutable", "retry"), is_flag),
    **dict.fromkeys(("retries", "group_index", "replaced_task_nesting", "chord_size", "delivery_mode"), is_count),
    **dict.fromkeys(("headers", "stamps"), is_object),
    "stamped_headers": is_list,
    "eta": is_moment,
    "expires": lambda value: is_number(value) and is_moment(value),
    "priority": is_priority,
    "serializer": nothing_but("json"),
    "compression": nothing_but(),
    "exchange": nothing_but(""),
}


class Unfit(ValueError):
    """What is wrong with what hangs on a message; the text ends a sentence that begins with the message."""


class Followers:
    """Checks what hangs on one message after the other.

    Args:
        queues: Names of further queues that a link may lead to, beside those of accounts and Celery's own.
    """

    def __init__(self, queues: Collection[str] = ()) -> None:
        self._queues = frozenset({*queues, FOREIGN_QUEUE})

    def check(self, embed: Mapping[str, Any]) -> None:
        """Check the third part of a message's body.

        Raises:
            Unfit: Something in it is not what Celery writes, or leads where the configuration lets no link lead.
        """
        left = [MAX_SIGNATURES]
        for name in ("callbacks", "errbacks", "chain"):
            if embed.get(name) is not None:
                self._several(embed[name], name, left, 0)
        if embed.get("chord") is not None:
            self._one(embed["chord"], "chord", left, 0)

    def _several(self, value: Any, name: str, left: list[int], depth: int) -> None:
        if not isinstance(value, list):
            raise Unfit(f"has {name} that are no list")
        for item in value:
            self._one(item, name, left, depth)

    def _one(self, value: Any, name: str, left: list[int], depth: int) -> None:
        left[0] -= 1
        if left[0] < 0 or depth > MAX_DEPTH:
            raise Unfit(f"has more than {MAX_SIGNATURES} signatures, or some more than {MAX_DEPTH} deep")
        if not isinstance(value, dict) or not _REQUIRED <= value.keys() <= _FIELDS:
            raise Unfit(f"has {name} that are no Celery signatures")
        task, args, kwargs, options = value["task"], value["args"], value["kwargs"], value["options"]
        if (
            not isinstance(args, list)
            or not isinstance(kwargs, dict)
            or not isinstance(options, dict)
            or is_short(task)
        ):
            raise Unfit(f"has {name} whose task, arguments or options are not what Celery writes")
        if sentence := broken(is_flag, value.get("immutable")) or broken(is_count, value.get("chord_size")):
            raise Unfit(f"has {name} of which something {sentence}")
        self._options(options, name, left, depth)
        kind = value.get("subtask_type")
        if kind in (None, ""):
            self._leads_somewhere(task, kwargs, options, name)
        elif isinstance(kind, str) and kind in _PARTS and task == f"celery.{kind}":
            for part in _PARTS[kind]:
                if not kwargs.get(part):
                    raise Unfit(f"has {name} of which a part is missing")
                self._parts(kwargs[part], name, left, depth + 1)
        else:
            raise Unfit(f"has {name} of an unknown kind")

    def _parts(self, value: Any, name: str, left: list[int], depth: int) -> None:
        if isinstance(value, list):
            self._several(value, name, left, depth)
        elif value is not None:
            self._one(value, name, left, depth)

    def _options(self, options: Mapping[str, Any], name: str, left: list[int], depth: int) -> None:
        for option, value in options.items():
            if option in _LINKS:
                self._parts(value, name, left, depth + 1)
            elif option in ("queue", "routing_key"):
                self._allowed(value, name)
            elif option not in _OPTIONS:
                raise Unfit(f"has {name} with an option that a link cannot have")
            elif sentence := broken(_OPTIONS[option], value):
                raise Unfit(f"has {name} whose {option} {sentence}")

    def _leads_somewhere(self, task: str, kwargs: Mapping[str, Any], options: Mapping[str, Any], name: str) -> None:
        provider = provider_of(task)
        if provider and options.get("queue") is None and options.get("routing_key") is None:
            # `config.topology.route` makes a queue's name of it.
            self._allowed(f"{provider}.{kwargs.get('account') or 'main'}", name)

    def _allowed(self, queue: Any, name: str) -> None:
        if queue is None or (isinstance(queue, str) and (queue in self._queues or _is_account_queue(queue))):
            return
        raise Unfit(f"has {name} for a queue that POSTBACK_LINK_QUEUES does not name")


def _is_account_queue(queue: str) -> bool:
    provider, _, account = queue.partition(".")
    if provider_of(provider) is None:
        return False
    try:
        check_account_name(account)
    except Refused:
        return False
    return True
