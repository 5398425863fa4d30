"""``python -m workers PROVIDER``: a worker for one provider's accounts."""

from __future__ import annotations

import argparse
import os
import sys

from celery.concurrency import get_implementation
from celery.platforms import EX_FAILURE

from config.providers import PROVIDERS
from config.settings import load_settings
from postback.errors import ConfigurationError


def main(argv: list[str] | None = None) -> int:
    """Run a worker until it is told to stop.

    Returns:
        The exit status: 0 after a warm shutdown (SIGTERM), 2 if the settings are wrong, else 1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m workers", description="Deliver the events of one provider's accounts."
    )
    parser.add_argument("provider", choices=PROVIDERS)
    try:
        # It imports every provider's modules, and says so if one is missing.
        from workers.composition import compose, node_name

        provider = parser.parse_args(argv).provider
        settings = load_settings(os.environ)
        app = compose(settings, os.environ, provider)
    except ConfigurationError as error:
        print(f"postback: {error}", file=sys.stderr)
        return 2
    worker = app.Worker(
        hostname=node_name(provider),
        pool_cls=get_implementation("threads"),
        concurrency=1,
        loglevel=settings.log_level,
        without_gossip=True,
        # Mingle waits a second for other workers' revocations. Ours are in Redis (ADR 23).
        without_mingle=True,
        task_events=True,
        # Celery's banner is not JSON.
        quiet=settings.log_format == "json",
    )
    worker.start()
    # Celery sets no exit code if the worker was interrupted.
    return EX_FAILURE if worker.exitcode is None else int(worker.exitcode)


if __name__ == "__main__":
    raise SystemExit(main())
