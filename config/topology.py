"""Queues: one for each account, a dead-letter list for each provider, and where a task belongs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kombu import Exchange, Queue

from config.accounts import Account
from config.providers import POLICIES, PROVIDERS
from postback.wire import keys

#: The exchange without a name. It delivers to the queue that the routing key names, and needs no
#: binding. A named one would add a set ``_kombu.binding.*`` for each account and an SMEMBERS for
#: each message.
DEFAULT_EXCHANGE: Final = Exchange("", type="direct")

#: Celery's own queue, for tasks that are not ours (``link`` callbacks without a queue). No worker
#: of Postback consumes it.
FOREIGN_QUEUE: Final = "celery"


#: Accounts that Flower's pages list one by one.
MOST_LISTED: Final = 200
#: What follows a provider's name if all of its accounts are meant. No account can have this name.
TOGETHER: Final = ".*"


def dead_letter_name(provider: str) -> str:
    """``tgtrack.dead``."""
    return keys.dead(provider)


def dead_letter_names(providers: Iterable[str] = PROVIDERS) -> tuple[str, ...]:
    """Dead-letter lists of some providers; of all by default."""
    return tuple(keys.dead(provider) for provider in providers)


def provider_of(task_name: str) -> str | None:
    """A task's provider, ``tgtrack.add_event`` -> ``tgtrack``; None if the task is not ours."""
    provider = task_name.partition(".")[0]
    return provider if provider in POLICIES else None


def account_queue(name: str) -> Queue:
    """Kombu's queue for one account.

    Args:
        name: The queue's name, ``tgtrack.main``.
    """
    return Queue(name, exchange=DEFAULT_EXCHANGE, routing_key=name)


def together(queues: Iterable[str]) -> list[str]:
    """Names of queues for Flower's pages.

    Of more than :data:`MOST_LISTED` queues it is one name for each provider, ``tgtrack.*``.

    Args:
        queues: Queues of accounts.
    """
    names = list(queues)
    if len(names) <= MOST_LISTED:
        return names
    return list(dict.fromkeys(name.partition(".")[0] + TOGETHER for name in names))


def account_queues(accounts: Iterable[Account]) -> list[Queue]:
    """Kombu's queues for some accounts, in their order.

    Dead-letter lists must not be among them, because a worker would consume them.
    """
    return [account_queue(account.queue) for account in accounts]


def route(
    name: str,
    args: object,
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    task: object = None,
    **_: object,
) -> dict[str, Any] | None:
    """Celery's router (``task_routes``): an event goes to its account's queue.

    It routes what a worker sends, such as a ``link`` to an event of another provider. A message
    without an account goes to ``main``, as in the SDK where the accounts are not known.
    """
    provider = provider_of(name)
    if provider is None:
        return None
    account = (kwargs or {}).get("account") or "main"
    return {"queue": account_queue(keys.queue(provider, str(account)))}
