"""Where a worker's own metrics are read."""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry

from workers.observe.server import listen, metrics_page, reached_at

logger = logging.getLogger(__name__)


class Endpoint:
    """Serves one process's metrics."""

    def __init__(self, registry: CollectorRegistry, address: str, port: int) -> None:
        """It is not open yet.

        Args:
            registry: The metrics.
            address: An address of this machine.
            port: The first port that is tried; 0 for any free one.
        """
        self._registry, self._address, self._port = registry, address, port
        self._reached_at = ""

    def open(self) -> str:
        """Listen from now on, if it does not yet.

        Returns:
            ``host:port``; empty if it cannot listen: events are worth more than their metrics.
        """
        if self._reached_at:
            return self._reached_at
        try:
            server = listen(self._address, self._port, {"/metrics": metrics_page(self._registry)})
        except OSError as error:
            logger.error(
                "no metrics: POSTBACK_METRICS_PORT: cannot listen on %s from port %d on: %s",
                self._address,
                self._port,
                error.strerror,
            )
            return ""
        self._reached_at = reached_at(self._address, server.port)
        logger.info("metrics at http://%s/metrics", self._reached_at)
        return self._reached_at
