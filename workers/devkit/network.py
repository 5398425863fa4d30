"""Ports and pages on loopback."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final

#: Everything is on this machine: no proxy between.
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fetch(
    url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, timeout_s: float = 10.0
) -> tuple[int, str]:
    """Status and text of an answer; status 0 if nobody answers.

    Args:
        url: An address on this machine.
        body: Posted; None asks with GET.
        headers: Sent with it.
        timeout_s: Seconds to wait for the answer.
    """
    request = urllib.request.Request(url, body, dict(headers or {}))
    try:
        with _DIRECT.open(request, timeout=timeout_s) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""
