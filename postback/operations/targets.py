"""Which accounts an operator means; a name that is none is refused."""

from __future__ import annotations

from collections.abc import Iterable

import redis

from postback._events.account_names import is_account_name
from postback.errors import PostbackError, UnknownAccount
from postback.operations.dead_counts import count_dead
from postback.operations.queues import announced, check_provider, queues_with_events

__all__ = ["known_accounts", "select"]


def known_accounts(client: redis.Redis, names: Iterable[str]) -> set[str]:
    """Queues of accounts that Redis knows.

    A worker has announced them, or they hold events, or they have left dead letters: an orphan is
    an account too.

    Args:
        client: Replies as bytes.
        names: Providers.

    Raises:
        redis.RedisError: As the client does.
    """
    wanted = list(names)
    buried = {queue for name in wanted for queue in count_dead(client, name).queues}
    return set(announced(client, wanted)) | queues_with_events(client, wanted) | buried


def select(client: redis.Redis, target: str) -> list[str]:
    """The queues that ``tgtrack.main`` (one) or ``tgtrack`` (all of the provider) names.

    While Redis knows no account of the provider, any account may be named: it can be paused before
    its first worker runs.

    Raises:
        UnknownProvider: There is no such provider.
        UnknownAccount: The provider has no such account.
        PostbackError: All of the provider are named, and there is none.
        redis.RedisError: As the client does.
    """
    provider, dot, account = target.partition(".")
    served = announced(client, [check_provider(provider)])
    if target in served:
        return [target]
    if not dot:
        queues = set(served) | queues_with_events(client, [provider])
        if not queues:
            raise PostbackError(f"{provider} has no account yet: no worker has announced one and no queue holds events")
        return sorted(queues)
    queues = known_accounts(client, [provider])
    if not is_account_name(account) or (queues and target not in queues):
        raise UnknownAccount(provider, account, [queue.partition(".")[2] for queue in queues])
    return [target]
