"""Writing into the outbox."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.utils import uuid
from django.db import OperationalError, ProgrammingError, router
from django.utils import timezone
from kombu.utils import json as kombu_json

from postback._events.event import EventData
from postback._send import one
from postback._send.options import Options, read_options
from postback._send.outgoing import check_message, later_result
from postback._send.redirects import redirects
from postback.errors import ConfigurationError
from postback.results import EventResult

__all__ = ["missing_tables", "write"]


def missing_tables(alias: str) -> ConfigurationError:
    """The error for a database without the outbox's tables."""
    return ConfigurationError(
        f"the outbox's tables are missing in database {alias!r}: run manage.py migrate postback"
        + ("" if alias == "default" else f" --database {alias}")
    )


def write(event: EventData, options: dict[str, Any], using: str | None) -> EventResult:
    """See :meth:`postback._send.event.Event.delay_via_outbox`."""
    if redirects.sink_in_place() is not None:
        # A test collects it when the transaction commits; the relay would not see it before either.
        return one.send_on_commit(event, options, using)
    now_s = time.time()
    checked = read_options(event, options)
    check_message(event, checked)
    with suppress(ConfigurationError):  # an accounts file that is gone is not the event's fault
        one.account_of(event)
    task_id = checked.task_id or uuid()
    _insert(event.with_time(now_s), task_id, _lasting(event, options, checked, task_id, now_s), using)
    return later_result(event, task_id, checked)


def _insert(event: EventData, task_id: str, options: str, using: str | None) -> None:
    from postback.contrib.django.models import OutboxEvent  # models exist only once Django is set up

    alias = using or router.db_for_write(OutboxEvent)
    try:
        OutboxEvent.objects.using(alias).create(
            event_id=task_id,
            provider=event.provider,
            task=event.task_name,
            account=event.account or "",
            wire=json.dumps(event.wire()),
            options=options,
            created_at=timezone.now(),
        )
    except (ProgrammingError, OperationalError) as failed:
        # A missing table is a ProgrammingError on PostgreSQL, an OperationalError on SQLite. Any
        # other failure is the database's own to report.
        if isinstance(failed, ProgrammingError) or "no such table" in str(failed):
            raise missing_tables(alias) from failed
        raise


def _lasting(event: EventData, options: dict[str, Any], checked: Options, task_id: str, now_s: float) -> str:
    """The options as JSON, fit for a send at any later time: what counts from now gets a date.

    Raises:
        TypeError: One of them is not JSON.
    """
    lasting = {name: value for name, value in options.items() if value is not None}
    lasting.pop("task_id", None)
    now = datetime.fromtimestamp(now_s, UTC)
    countdown = lasting.pop("countdown", None)
    if countdown is not None:
        lasting["eta"] = now + timedelta(seconds=countdown)
    elif "eta" in lasting:
        lasting["eta"] = checked.timing["eta"]
    if "expires" in lasting:
        expires = checked.timing["expires"]
        lasting["expires"] = expires if isinstance(expires, datetime) else now + timedelta(seconds=expires)
    for name in ("link", "link_error"):
        if name in lasting:
            lasting[name] = getattr(checked, name)
    # A relay that is killed between its send and its commit sends again. The key lets a worker see
    # that: the caller's, else the event's own, else the id.
    lasting["idempotency_key"] = lasting.get("idempotency_key") or event.idempotency_key() or task_id
    parent = checked.parent
    if parent is not None:
        lasting.setdefault("root_id", parent.request.root_id or parent.request.id)
        lasting.setdefault("parent_id", parent.request.id)
    try:
        text: str = kombu_json.dumps(lasting)
    except (TypeError, ValueError) as unencodable:
        raise TypeError(f"{event.title()}: headers, link and the other options must be JSON") from unencodable
    return text
