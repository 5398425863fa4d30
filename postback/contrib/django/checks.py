"""System checks: ``manage.py check`` says in a sentence what is wrong, and shows no secret."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import DatabaseError, connections, router

from postback.contrib.django.conf import read_settings
from postback.errors import ConfigurationError
from postback.wire.broker import DEFAULT_URL, VARIABLE

__all__ = ["check_settings", "check_tables", "has_tables"]


def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check that ``settings.POSTBACK`` can be used (E001) and a setting names a Redis (W001)."""
    settings, problems = read_settings(getattr(django_settings, "POSTBACK", {}))
    messages: list[CheckMessage] = [
        Error(problem if problem.endswith("?") else f"{problem}.", id="postback.E001") for problem in problems
    ]
    if settings.broker_url is None and not _has_own_broker() and not problems:
        messages.append(
            Warning(
                f"POSTBACK has no 'BROKER_URL' and {VARIABLE} is not set: events go to {DEFAULT_URL}.",
                'Set POSTBACK = {"BROKER_URL": "redis://…"}.',
                id="postback.W001",
            )
        )
    return messages


def _has_own_broker() -> bool:
    """Whether the environment names a broker, for all providers or for one."""
    return any(
        name.startswith("POSTBACK_") and name.endswith("BROKER_URL") and value.strip()
        for name, value in os.environ.items()
    )


def check_tables(app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the outbox's tables exist where the routers put them (W002).

    It runs with ``check --database``.
    """
    return [
        Warning(
            f"The outbox's tables are missing in database {alias!r}: delay_via_outbox() and postback_relay fail.",
            "Run manage.py migrate postback.",
            id="postback.W002",
        )
        for alias in databases or ()
        if router.allow_migrate_model(alias, apps.get_model("postback", "OutboxEvent")) and not _looks_migrated(alias)
    ]


def _looks_migrated(alias: str) -> bool:
    try:
        return has_tables(alias)
    except DatabaseError:
        return True  # another check reports a database that cannot be reached


def has_tables(alias: str) -> bool:
    """Whether a database has the outbox's tables.

    Raises:
        ConfigurationError: There is no database of this alias.
        django.db.DatabaseError: It cannot be asked.
    """
    if alias not in connections:
        raise ConfigurationError(f"DATABASES has no {alias!r}")
    connection = connections[alias]
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
    wanted = {model._meta.db_table for model in apps.get_app_config("postback").get_models()}
    return wanted <= set(tables)
