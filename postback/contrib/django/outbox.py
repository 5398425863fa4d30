"""Writing into the outbox."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from celery.utils import uuid
from django.db import OperationalError, ProgrammingError, router
from django.utils import timezone
from kombu.utils import json as kombu_json

from postback._events.event import EventData
from postback._send import one
from postback._send.message import check_message
from postback._send.options import Options, read_options
from postback._send.producer import current
from postback._send.ways import ways
from postback.errors import ConfigurationError
from postback.results import EventResult

__all__ = ["missing_tables", "write"]


class Configured(Protocol):
    """The installed app.

    Attributes:
        problems: What is wrong with its settings.
    """

    problems: list[str]

    def require_usable(self) -> None:
        """Refuse to work with wrong settings.

        Raises:
            ConfigurationError: The first thing that is wrong.
        """


def missing_tables(alias: str) -> ConfigurationError:
    """The error that says so."""
    return ConfigurationError(
        f"the outbox's tables are missing in database {alias!r}: run manage.py migrate postback"
        + ("" if alias == "default" else f" --database {alias}")
    )


def write(config: Configured, event: EventData, given: dict[str, Any], using: str | None) -> EventResult:
    """See :meth:`postback._send.event.Event.delay_via_outbox`."""
    now_s = time.time()
    options = read_options(event, given)
    check_message(event, options)
    task_id = options.task_id or uuid()
    if ways.sink is not None and not config.problems:
        # In a test: collected when the transaction commits, as the relay would not see it before either.
        one.send_on_commit(event, {**given, "task_id": task_id}, using)
    else:
        config.require_usable()
        _insert(event.with_time(now_s), task_id, _kept(event, given, options, task_id, now_s), using)
    has_result = event.has_result and not options.ignore_result
    return EventResult(task_id, app=current(event.provider).app, provider=event.provider, has_result=has_result)


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
        # PostgreSQL calls a missing table the one, SQLite the other; what else goes wrong is the database's to tell.
        if isinstance(failed, ProgrammingError) or "no such table" in str(failed):
            raise missing_tables(alias) from failed
        raise


def _kept(event: EventData, given: dict[str, Any], options: Options, task_id: str, now_s: float) -> str:
    """The options as JSON, fit for a send at any later time.

    Raises:
        TypeError: One of them is not JSON.
    """
    kept = {name: value for name, value in given.items() if value is not None}
    kept.pop("task_id", None)
    now = datetime.fromtimestamp(now_s, UTC)
    countdown = kept.pop("countdown", None)
    if countdown is not None:
        kept["eta"] = now + timedelta(seconds=countdown)
    elif "eta" in kept:
        kept["eta"] = options.timing["eta"]
    if "expires" in kept:
        expires = options.timing["expires"]
        kept["expires"] = expires if isinstance(expires, datetime) else now + timedelta(seconds=expires)
    for name in ("link", "link_error"):
        if name in kept:
            kept[name] = getattr(options, name)
    # A relay that is killed between its send and its commit sends again. The key lets a worker tell: what the caller
    # chose or the event has by itself would do, else the id.
    kept["idempotency_key"] = kept.get("idempotency_key") or event.idempotency_key() or task_id
    parent = options.parent
    if parent is not None:
        kept.setdefault("root_id", parent.request.root_id or parent.request.id)
        kept.setdefault("parent_id", parent.request.id)
    try:
        text: str = kombu_json.dumps(kept)
    except (TypeError, ValueError) as unencodable:
        raise TypeError(f"{event.title()}: headers, link and the other options must be JSON") from unencodable
    return text
