"""``manage.py postback_relay``: moves events from the outbox to Redis."""

from __future__ import annotations

import dataclasses
import signal
import threading
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from postback.contrib.django.apps import PostbackConfig
from postback.contrib.django.checks import has_tables
from postback.contrib.django.conf import OutboxSettings, read_outbox_value
from postback.contrib.django.outbox import missing_tables
from postback.contrib.django.relay import Relay
from postback.errors import ConfigurationError

__all__ = ["Command"]


class Command(BaseCommand):
    """Runs until SIGTERM or Ctrl-C; any number may run side by side."""

    help = "Moves events from the outbox to Redis, in order. Several may run at once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """See ``--help``."""
        parser.add_argument(
            "--once", action="store_true", help="move what is there and end (for cron); exit with 1 if events are left"
        )
        parser.add_argument("--batch", type=int, metavar="N", help="events per transaction, 1 to 500 (default 100)")
        parser.add_argument(
            "--poll-s", type=float, metavar="S", help="seconds between two looks at the outbox (default 0.5)"
        )
        parser.add_argument("--database", default="default", metavar="ALIAS", help="where the outbox is")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run.

        Raises:
            CommandError: A setting or an option is wrong, or the tables are missing. With
                ``--once`` also: Redis or the database is away.
        """
        database: str = options["database"]
        try:
            settings = self._settings(options)
            if not has_tables(database):
                raise missing_tables(database)
        except ConfigurationError as wrong:
            raise CommandError(str(wrong)) from wrong
        except DatabaseError as away:
            if options["once"]:
                raise CommandError(f"the database {database!r} is away: {type(away).__name__}") from away
        stop = threading.Event()
        self._stop_on_signals(stop)
        relay = Relay(settings, database=database, stop=stop)
        if options["once"]:
            self._once(relay)
        else:
            self.stderr.write(f"relaying from {database!r}")
            relay.run()

    def _settings(self, options: dict[str, Any]) -> OutboxSettings:
        """The project's settings with the options in their place."""
        config = apps.get_app_config(PostbackConfig.label)
        assert isinstance(config, PostbackConfig)
        config.require_usable()
        changed = {
            attribute: read_outbox_value(f"--{attribute.replace('_', '-')}", attribute.upper(), options[attribute])
            for attribute in ("batch", "poll_s")
            if options[attribute] is not None
        }
        return dataclasses.replace(config.postback_settings.outbox, **changed)

    def _once(self, relay: Relay) -> None:
        try:
            moved = relay.drain()
        except DatabaseError as away:
            raise CommandError(f"the database {relay.database!r} is away: {type(away).__name__}") from away
        self.stdout.write(f"{moved.queued} queued, {moved.failed} failed")
        if moved.away:
            raise CommandError(moved.away)

    def _stop_on_signals(self, stop: threading.Event) -> None:
        def on_signal(number: int, frame: FrameType | None) -> None:
            stop.set()

        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, on_signal)
