"""One event: sent at once, made into a signature, sent when a transaction is committed, kept in an outbox."""

from __future__ import annotations

import logging
from contextlib import suppress
from importlib import import_module
from typing import Any

from celery.canvas import Signature
from celery.utils import uuid

from postback._events.event import EventData
from postback._events.names import DEFAULT_ACCOUNT
from postback._send.message import Item, check_message, full, headers_of, in_one_line, ready, result_of, shown_as
from postback._send.options import read_options
from postback._send.producer import LINK_ERRORS, REFUSALS, current
from postback._send.ways import ways
from postback.errors import ConfigurationError, EnqueueUnknown, NotEnqueued, PostbackError
from postback.results import EventResult
from postback.wire import keys

__all__ = ["send", "send_on_commit", "send_via_outbox", "signature"]

logger = logging.getLogger("postback")


def send(event: EventData, given: dict[str, Any]) -> EventResult:
    """Enqueue one event; see :meth:`postback._send.event.Event.apply_async`."""
    if ways.sink is not None:
        return ways.sink(event, given)
    options = read_options(event, given)
    producer = current(event.provider)
    task_id = options.task_id or uuid()
    try:
        item = Item(event, task_id, producer.accounts.choose(event.provider, event.account), options)
        pushed = ready(producer, item)
        with producer.link() as link:
            link.check()
            if producer.rooms(link, [item.place]).get(item.place) == 0:
                raise full(producer, item)
            try:
                (refusal,) = link.push([pushed])
            except REFUSALS:
                raise
            except LINK_ERRORS as lost:
                raise EnqueueUnknown(
                    f"{event.title()} {task_id} may be in the queue or not: {in_one_line(producer, lost)}", [task_id]
                ) from None
            if refusal:
                raise refusal
    except LINK_ERRORS as away:
        raise NotEnqueued(
            f"{event.title()} {task_id} is not in the queue: {in_one_line(producer, away)}", [task_id]
        ) from None
    return result_of(producer, item)


def signature(event: EventData, given: dict[str, Any]) -> Signature[Any]:
    """See :meth:`postback._send.event.Event.si`."""
    options = read_options(event, given)
    check_message(event, options)
    producer = current(event.provider)
    account = event.account or DEFAULT_ACCOUNT
    if ways.sink is None:
        with suppress(*LINK_ERRORS):  # nothing is sent yet: what cannot be looked up is taken at its word
            account = producer.accounts.choose(event.provider, event.account)
    wire = event.wire()
    made: Signature[Any] = Signature(
        event.task_name,
        args=(),
        kwargs={"account": account, "event": wire},
        immutable=True,
        app=producer.app,
        options={
            **options.for_signature(),
            "queue": keys.queue(event.provider, account),
            "priority": options.priority,
            "headers": headers_of(event, options),
            "ignore_result": options.ignore_result,
            "argsrepr": "()",
            "kwargsrepr": shown_as(event, account, wire),
        },
    )
    for callback in options.link:
        made.link(callback)
    for callback in options.link_error:
        made.link_error(callback)
    return made


def send_on_commit(event: EventData, given: dict[str, Any], using: str | None) -> None:
    """See :meth:`postback._send.event.Event.delay_on_commit`."""
    # What is wrong must fail here, not in a hook after the commit.
    check_message(event, read_options(event, given))
    given = {**given, "task_id": given.get("task_id") or uuid()}

    def send_committed() -> None:
        try:
            send(event, given)
        except Exception as failed:
            # The order is committed: an exception from here would answer its buyer with an error page and keep Django
            # from running the hooks behind this one.
            told = str(failed) if isinstance(failed, PostbackError) else type(failed).__name__
            logger.error("%s %s was not sent after the commit: %s", event.title(), given["task_id"], told)

    on_commit = import_module("django.db.transaction").on_commit  # Django is not a dependency
    on_commit(send_committed, using=using)


def send_via_outbox(event: EventData, given: dict[str, Any], using: str | None) -> EventResult:
    """See :meth:`postback._send.event.Event.delay_via_outbox`."""
    if ways.outbox is None:
        raise ConfigurationError(
            "delay_via_outbox needs Django (pip install 'postback[django]') with 'postback.contrib.django' in "
            "INSTALLED_APPS, and django.setup()"
        )
    return ways.outbox(event, given, using)
