"""Every Redis key that Postback uses, built in this one module.

A *queue* is an account's list of Celery messages, ``<provider>.<account>``. The account's other
keys have the same name with a suffix. So ``KEYS tgtrack.main*`` in a console shows the whole
account.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Final

#: kombu's separator between a queue's name and a priority step
#: (``kombu.transport.redis.Channel.sep``).
PRIORITY_SEPARATOR: Final = "\x06\x16"
#: kombu's priority steps, the most urgent first; step 0 is the plain name.
PRIORITY_STEPS: Final = (0, 3, 6, 9)

#: hash: ``<provider>.<account>`` -> JSON in which the provider's workers announce limits, never a
#: credential.
ACCOUNTS: Final = "postback.accounts"
#: hash: worker node name -> JSON heartbeat.
WORKERS: Final = "postback.workers"
#: zset: id of a revoked event -> when it was revoked (ms); see ADR 23.
REVOKED: Final = "postback.revoked"
#: zset: ``keys`` -> format of the keys, recorded by workers; see ``postback/wire/formats.py``.
FORMAT: Final = "postback.format"

#: string: the key of the credentials' fingerprints (ADR 33). All workers of this Redis use the
#: same.
FINGERPRINTS: Final = "postback.fingerprints"

#: set with an expiry: the accounts of those workers that serve the same accounts.
_SERVED: Final = "postback.served."
#: hash of a provider's quota: its log, the freeze after a 429. Keys with a suffix hold the log's
#: times (``.log``), its requests in flight (``.flight``) and the accounts that wait for it
#: (``.waiting``).
_QUOTA: Final = "postback.quota."
#: hash of a provider's credential: its health. Keys with a suffix hold its requests in flight
#: (``.flight``), if its quota has other credentials too, and the accounts that wait for its first
#: answer (``.blocked``).
_CREDENTIAL: Final = "postback.credential."
#: zset of a provider: queue -> when it may be asked (ms, Redis clock). A send to a queue that is in
#: it already changes nothing; see ADR 29.
_SCHEDULE: Final = "postback.schedule."
#: zset of a provider: queue -> when it must be asked even if nothing is sent to it (ms).
_TIMERS: Final = "postback.timers."
#: channel of a provider: wakes the workers that wait.
_WAKE: Final = "postback.wake."
#: string with an expiry, for a provider: the worker that looks for unscheduled queues in this
#: second.
_SWEEPER: Final = "postback.sweeper."
#: list of a provider: messages that TAKE has buried. One worker reports each of them.
_BURIED: Final = "postback.buried."

#: hash: the journal (ADR 41). ``id`` names this Redis in the journal's database; ``at`` is when a
#: process last wrote to that database (ms).
JOURNAL: Final = "postback.journal"
#: string with an expiry: the process that writes the journal now.
JOURNAL_WRITER: Final = "postback.journal_writer"

#: set: kombu's bindings of the mailboxes in which workers receive remote control.
MAILBOXES: Final = "_kombu.binding.celery.pidbox"

#: Celery's own keys of results begin so; the task's id follows
#: (``BaseKeyValueStoreBackend.task_keyprefix``).
RESULT_PREFIX: Final = "celery-task-meta-"


def queue(provider: str, account: str) -> str:
    """Name of an account's queue: ``tgtrack.main``."""
    return f"{provider}.{account}"


def dead(provider: str) -> str:
    """Name of a provider's dead-letter list: ``tgtrack.dead``."""
    return f"{provider}.dead"


def dead_notices(provider: str) -> str:
    """list: dead letters that wait for the hook, if there is one; the oldest at the right."""
    return f"{provider}.dead.notices"


def dead_notices_failed(provider: str) -> str:
    """list: notices whose hook has raised; the next to be tried at the right."""
    return f"{provider}.dead.notices.failed"


def dead_notices_lock(provider: str) -> str:
    """String with an expiry: the process that calls the hook now."""
    return f"{provider}.dead.notices.lock"


def name_of_set(queue_names: Iterable[str]) -> str:
    """A name for a set of queues; their order does not matter."""
    return hashlib.sha256(" ".join(sorted(queue_names)).encode()).hexdigest()[:16]


def served(accounts: str) -> str:
    """Set with an expiry: queues of the workers whose heartbeat has this name of a set."""
    return f"{_SERVED}{accounts}"


def quota(provider: str, name: str) -> str:
    """hash: a quota's place in its log, and its freeze after a 429."""
    return f"{_QUOTA}{provider}.{name}"


def quota_log(provider: str, name: str) -> str:
    """string: a quota's log, one big-endian double (ms) for each of the latest answers."""
    return f"{quota(provider, name)}.log"


def quota_flight(provider: str, name: str) -> str:
    """zset: grant -> end of its lease (ms), for all accounts of a quota."""
    return f"{quota(provider, name)}.flight"


def credential(provider: str, name: str) -> str:
    """hash: a credential's health, and since when the provider refuses it."""
    return f"{_CREDENTIAL}{provider}.{name}"


def schedule(provider: str) -> str:
    """zset: queue -> when it may be asked (ms, Redis clock)."""
    return f"{_SCHEDULE}{provider}"


def timers(provider: str) -> str:
    """zset: queue -> when it must be asked even if nothing is sent to it (ms, Redis clock)."""
    return f"{_TIMERS}{provider}"


def wake(provider: str) -> str:
    """Channel that wakes the workers that wait."""
    return f"{_WAKE}{provider}"


def sweeper(provider: str) -> str:
    """String with an expiry: the worker that looks for unscheduled queues."""
    return f"{_SWEEPER}{provider}"


def buried(provider: str) -> str:
    """list: ``queue id task`` of messages that TAKE has buried, the oldest at the left."""
    return f"{_BURIED}{provider}"


def journal(provider: str) -> str:
    """stream: records for the journal, which a process moves into its database."""
    return f"{JOURNAL}.{provider}"


def journal_gap(provider: str) -> str:
    """hash: how many records a full stream has lost (``lost``), ``since`` and ``until`` (ms)."""
    return f"{journal(provider)}.gap"


def priority_list(queue_name: str, step: int) -> str:
    """The list that holds a queue's messages of one priority step."""
    return f"{queue_name}{PRIORITY_SEPARATOR}{step}" if step else queue_name


def mailbox(node: str) -> str:
    """A worker's member of :data:`MAILBOXES`."""
    return PRIORITY_SEPARATOR.join(("", "", f"{node}.celery.pidbox"))


def queue_of(list_name: str) -> str:
    """The queue of a priority step's list."""
    return list_name.partition(PRIORITY_SEPARATOR)[0]


def priority_lists(queue_name: str) -> list[str]:
    """All lists of a queue, the most urgent first."""
    return [priority_list(queue_name, step) for step in PRIORITY_STEPS]


def delayed(queue_name: str) -> str:
    """zset: message -> due time (ms, Redis clock)."""
    return f"{queue_name}.delayed"


def held(queue_name: str) -> str:
    """zset: message held in a run of failures -> its first grant (us, Redis clock)."""
    return f"{queue_name}.held"


def groups(queue_name: str) -> str:
    """list: halves of a refused batch (cmsgpack), each to be sent as one request."""
    return f"{queue_name}.groups"


def meta(queue_name: str) -> str:
    """hash: the account's state (its quota and credential, pause, failures, last outcomes)."""
    return f"{queue_name}.meta"


def ring(queue_name: str) -> str:
    """string: the first edition's quota log of an account."""
    return f"{queue_name}.ring"


def flight(queue_name: str) -> str:
    """zset: grant -> end of its lease (ms)."""
    return f"{queue_name}.flight"


def unacked(queue_name: str) -> str:
    """hash: grant -> its messages (cmsgpack)."""
    return f"{queue_name}.unacked"


def idempotency(queue_name: str) -> str:
    """hash: idempotency key (sha256) -> ``<id> <end ms> <delivery tag>`` of the message with it."""
    return f"{queue_name}.idem"


def idempotency_ends(queue_name: str) -> str:
    """zset: idempotency key -> when it is forgotten (ms)."""
    return f"{queue_name}.idem_ends"


def account(queue_name: str) -> tuple[str, ...]:
    """The keys of an account's events and state, in the order in which scripts take them."""
    places = (delayed, held, groups, meta, ring, flight, unacked)
    return (*priority_lists(queue_name), *(place(queue_name) for place in places))


#: Functions whose key is the name of a queue or a provider with a suffix.
_SUFFIXED: Final[tuple[Callable[[str], str], ...]] = (
    dead, delayed, held, groups, meta, ring, flight, unacked, idempotency, idempotency_ends,
)  # fmt: skip
#: Names that an account cannot have. Its queue would be named like another key (``tgtrack.dead``).
RESERVED_NAMES: Final = frozenset(key("").removeprefix(".") for key in _SUFFIXED)
