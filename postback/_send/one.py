"""One event: sent at once or on commit, made into a signature, kept in an outbox."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any, Final

from celery.canvas import Signature
from celery.utils import uuid

from postback._events.account_names import DEFAULT_ACCOUNT
from postback._events.event import EventData
from postback._send.connections import CONNECTION_ERRORS, REFUSALS
from postback._send.options import read_options
from postback._send.outgoing import (
    Outgoing,
    arguments_text,
    check_message,
    headers_of,
    in_one_line,
    later_result,
    prepare,
    queue_full,
    result_of,
)
from postback._send.producer import current
from postback._send.redirects import redirects
from postback.errors import ConfigurationError, EnqueueUnknown, NotEnqueued, PostbackError
from postback.results import EventResult
from postback.wire import keys

__all__ = ["account_of", "send", "send_on_commit", "send_via_outbox", "signature"]

#: How an application gets Django with Postback.
INSTALL_DJANGO: Final = "install postback with the extra [django]"

logger = logging.getLogger("postback")


def send(event: EventData, options: dict[str, Any]) -> EventResult:
    """Enqueue one event; see :meth:`postback._send.event.Event.apply_async`."""
    sink = redirects.sink_in_place()
    if sink is not None:
        return sink(event, options)
    checked = read_options(event, options)
    producer = current(event.provider)
    task_id = checked.task_id or uuid()
    try:
        outgoing = Outgoing(event, task_id, producer.accounts.choose(event.provider, event.account), checked)
        entry = prepare(producer, outgoing)
        with producer.connection() as connection:
            connection.check()
            if producer.rooms(connection, [outgoing.place]).get(outgoing.place) == 0:
                raise queue_full(producer, outgoing)
            try:
                (refusal,) = connection.push([entry])
            except REFUSALS:
                raise
            except CONNECTION_ERRORS as lost:
                raise EnqueueUnknown(
                    f"{event.title()} {task_id} may be in the queue or not: {in_one_line(producer, lost)}", [task_id]
                ) from None
            if refusal:
                raise refusal
    except CONNECTION_ERRORS as away:
        raise NotEnqueued(
            f"{event.title()} {task_id} is not in the queue: {in_one_line(producer, away)}", [task_id]
        ) from None
    return result_of(producer, outgoing)


def signature(event: EventData, options: dict[str, Any]) -> Signature[Any]:
    """See :meth:`postback._send.event.Event.si`."""
    checked = read_options(event, options)
    check_message(event, checked)
    producer = current(event.provider)
    account = account_of(event)
    wire = event.wire()
    immutable: Signature[Any] = Signature(
        event.task_name,
        args=(),
        kwargs={"account": account, "event": wire},
        immutable=True,
        app=producer.app,
        options={
            **checked.for_signature(),
            "queue": keys.queue(event.provider, account),
            "priority": checked.priority,
            "headers": headers_of(event, checked),
            "ignore_result": checked.ignore_result,
            "argsrepr": "()",
            "kwargsrepr": arguments_text(event, account, wire),
        },
    )
    for callback in checked.link:
        immutable.link(callback)
    for callback in checked.link_error:
        immutable.link_error(callback)
    return immutable


def account_of(event: EventData) -> str:
    """The account of an event that is sent later. What a test collects needs none.

    Raises:
        UnknownAccount: The provider has no such account.
        ConfigurationError: The process's settings are wrong.
    """
    if redirects.sink_in_place() is not None:
        return event.account or DEFAULT_ACCOUNT
    return current(event.provider).account_later(event.provider, event.account)


def send_on_commit(event: EventData, options: dict[str, Any], using: str | None) -> EventResult:
    """See :meth:`postback._send.event.Event.delay_on_commit`."""
    try:
        on_commit = import_module("django.db.transaction").on_commit  # Django is not a dependency
    except ImportError:
        raise ConfigurationError(f"delay_on_commit needs Django: {INSTALL_DJANGO}") from None
    # What is wrong must fail here, not in a hook after the commit.
    checked = read_options(event, options)
    check_message(event, checked)
    account_of(event)
    options = {**options, "task_id": checked.task_id or uuid()}

    def send_committed() -> None:
        try:
            send(event, options)
        except Exception as failed:
            # The order is committed. An exception from here would show its buyer an error page, and
            # Django would not run the hooks behind this one.
            reason = str(failed) if isinstance(failed, PostbackError) else type(failed).__name__
            logger.error("%s %s was not sent after the commit: %s", event.title(), options["task_id"], reason)

    on_commit(send_committed, using=using)
    return later_result(event, options["task_id"], checked)


def send_via_outbox(event: EventData, options: dict[str, Any], using: str | None) -> EventResult:
    """See :meth:`postback._send.event.Event.delay_via_outbox`."""
    if redirects.outbox is None:
        raise ConfigurationError(
            f"delay_via_outbox needs Django ({INSTALL_DJANGO}) with 'postback.contrib.django' in INSTALLED_APPS, "
            "and django.setup()"
        )
    return redirects.outbox(event, options, using)
