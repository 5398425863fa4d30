"""``python -m workers PROVIDER``: a worker for one provider's accounts."""

from __future__ import annotations

import argparse
import os
import sys

from config.policies import PROVIDERS
from config.settings import load_settings
from postback.errors import ConfigurationError
from workers.composition import compose, node_name


def main(argv: list[str] | None = None) -> int:
    """Run a worker until it is told to stop. Returns the exit status; 2 if the settings are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m workers", description="Deliver the events of one provider's accounts."
    )
    parser.add_argument("provider", choices=PROVIDERS)
    provider = parser.parse_args(argv).provider
    try:
        settings = load_settings(os.environ)
        app = compose(settings, os.environ, provider)
    except ConfigurationError as error:
        print(f"postback: {error}", file=sys.stderr)
        return 2
    app.worker_main(
        [
            # Celery's banner is no JSON.
            *(["--quiet"] if settings.log_format == "json" else []),
            "worker",
            "--pool=threads",
            f"--concurrency={settings.concurrency}",
            f"--hostname={node_name(provider)}",
            f"--loglevel={settings.log_level}",
            "--without-gossip",
            # Mingling asks other workers over remote control.
            *([] if settings.remote_control else ["--without-mingle"]),
            "--task-events",
        ]
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
