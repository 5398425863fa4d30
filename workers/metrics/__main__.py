"""``python -m workers.metrics``: the exporter of what is in Redis.

One is enough, wherever Redis can be reached.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from prometheus_client import CollectorRegistry, ProcessCollector

from config.settings import load_settings
from postback.errors import ConfigurationError
from postback.operations.sites import sites
from workers.metrics.exporter import Exporter
from workers.observe import logs
from workers.observe.masking import Masker
from workers.observe.metrics_server import Server, metrics_page, reached_at

logger = logging.getLogger("postback.metrics")


def main() -> int:
    """Serve until told to stop.

    Returns the exit status; 2 if the settings are wrong or the port is taken.
    """
    try:
        settings = load_settings(os.environ)
        exporter = Exporter(sites(os.environ), settings.metrics_accounts)
        masker = Masker()
        masker.learn_broker(settings)
        logs.configure(settings, masker)
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(exporter)
        pages = {"/metrics": metrics_page(registry), "/workers": exporter.workers_page}
        try:
            server = Server(settings.metrics_address, settings.exporter_port, pages)
        except OSError as error:
            where = reached_at(settings.metrics_address, settings.exporter_port)
            raise ConfigurationError(f"POSTBACK_EXPORTER_PORT: cannot listen on {where}: {error.strerror}") from None
    except ConfigurationError as error:
        print(f"postback: {error}", file=sys.stderr)
        return 2
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    logger.info("metrics at http://%s/metrics", reached_at(settings.metrics_address, server.port))
    stopped.wait()
    server.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
