"""Flower's configuration file (``flower --conf=config/flower.py``).

By its own defaults Flower serves every interface without a password. Here it serves loopback only,
until ``FLOWER_BASIC_AUTH`` is set. Flower reads its environment first and executes this file then.
The file wins, so it reads the three variables again.

Names at the top level are Flower's options. So import nothing under a name that Flower has, such as
``logging``.
"""

import ipaddress
import os
from collections.abc import Mapping
from typing import Any

from postback.errors import ConfigurationError


def flower_options(environ: Mapping[str, str]) -> dict[str, Any]:
    """Address, port and passwords. A variable that is set but empty counts as not set.

    Returns:
        ``address`` ("" is every interface), ``port`` and ``basic_auth`` (``["user:password", …]``,
        empty for none).

    Raises:
        ConfigurationError: A value is impossible, or would serve Flower to others without a
            password. The message shows no password.
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
    # With port 0 the system chooses one, and Flower prints it.
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

#: Tasks that Flower keeps, in memory only. 10,000 take about 50 MB; Flower's default is 100,000.
max_tasks = 10_000
#: A state on disk would hold task arguments, and an old file breaks the start of the next version.
persistent = False
#: It is for RabbitMQ. Flower asks a Redis broker directly.
broker_api = None
#: The columns, in order: first what people look for. ``kwargs`` is the short text that Postback
#: writes.
tasks_columns = "name,uuid,state,exception,kwargs,result,received,started,runtime,worker"
natural_time = True
