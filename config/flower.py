"""Flower's configuration file (``flower --conf=config/flower.py``).

Flower's own defaults are open: every interface, no password. Here it serves loopback only until ``FLOWER_BASIC_AUTH``
is set. Flower executes this file after it has read its environment, and what the file says wins, so the three variables
are read again here.

Names at the top level are Flower's options: import nothing under a name that Flower has (``logging`` is one).
"""

import ipaddress
import os
from collections.abc import Mapping
from typing import Any

from postback.errors import ConfigurationError


def flower_options(environ: Mapping[str, str]) -> dict[str, Any]:
    """Address, port and passwords. A variable that is set but empty counts as not set.

    Returns:
        ``address`` ("" means every interface), ``port``, ``basic_auth`` (list of ``user:password``, empty for none).

    Raises:
        ConfigurationError: A value is impossible, or would serve Flower to others without a password. No password is
        shown.
    """
    passwords = [pair.strip() for pair in environ.get("FLOWER_BASIC_AUTH", "").split(",") if pair.strip()]
    if not all(user and colon and password for user, colon, password in (pair.partition(":") for pair in passwords)):
        raise ConfigurationError("FLOWER_BASIC_AUTH must be user:password, or several of them separated by commas")
    address = environ.get("FLOWER_ADDRESS", "").strip()
    if not passwords:
        address = address or "127.0.0.1"
        if not _is_loopback(address):
            raise ConfigurationError(
                f"FLOWER_ADDRESS is {address}, which others can reach, and Flower can cancel and send tasks: "
                "set FLOWER_BASIC_AUTH too"
            )
    number = environ.get("FLOWER_PORT", "").strip() or "5555"
    # Port 0 is whatever the system has free; Flower prints which one it was.
    if not number.isascii() or not number.isdecimal() or int(number) > 65535:
        raise ConfigurationError("FLOWER_PORT must be a whole number from 0 to 65535")
    return {"address": address, "port": int(number), "basic_auth": passwords}


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        # A host name may resolve to anything, today or tomorrow.
        return False


_options = flower_options(os.environ)

address: str = _options["address"]
port: int = _options["port"]
basic_auth: list[str] = _options["basic_auth"]

#: Flower keeps tasks in memory only and is no record: 10,000 take some 50 MB, Flower's default of 100,000 ten times
#: that.
max_tasks = 10_000
#: The state kept on disk would hold task arguments, and an old file breaks the next version's start.
persistent = False
#: A RabbitMQ setting; the Redis broker is asked directly.
broker_api = None
#: Which columns, in order: what people look for first, and no arguments but the short ones that Postback writes itself.
tasks_columns = "name,uuid,state,exception,kwargs,result,received,started,runtime,worker"
natural_time = True
