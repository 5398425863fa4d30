"""Which engine sends: curl where it is there, ``requests`` in threads elsewhere, or as ``POSTBACK_HTTP`` says."""

from __future__ import annotations

import importlib.util
import logging
import select

from config.settings import Settings
from postback.errors import ConfigurationError
from workers.http.threads import ThreadWire
from workers.http.wire import Wire

logger = logging.getLogger(__name__)


def open_wire(settings: Settings) -> Wire:
    """The engine of a process.

    Raises:
        ConfigurationError: curl is asked for and not there, or the machine allows too few open files.
    """
    # The wire waits in epoll, which is Linux'.
    there = importlib.util.find_spec("pycurl") is not None and hasattr(select, "epoll")
    if settings.http == "requests" or (settings.http is None and not there):
        if settings.http is None:
            logger.warning("pycurl (or epoll) is not here: requests are sent by threads, which is slower")
        return ThreadWire(settings.concurrency)
    if not there:
        raise ConfigurationError("POSTBACK_HTTP=curl: pycurl is not installed, or this system has no epoll")
    from workers.http.curl import CurlWire

    try:
        return CurlWire(settings.concurrency)
    except OSError as error:
        raise ConfigurationError(str(error)) from None
