"""``python -m workers.flower``: unmodified Flower, with a Broker page for many accounts.

It reads no accounts file and holds no provider's credential. It uses the plain Redis URL: the
workers' transport is for workers only, and Flower's Broker page knows only Celery's own URLs.

Flower asks the workers for their queues once, when it starts. A later worker or account would be
missing on the Broker page until somebody opens the Workers page. So the question is repeated here.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import ssl
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl, urlsplit

import redis
from celery import Celery
from kombu import Queue

from config.celery import FOREIGN_VARIABLES, HEALTH_CHECK_INTERVAL_S, SOCKET_CONNECT_TIMEOUT_S, SOCKET_TIMEOUT_S
from config.settings import Settings, load_settings
from config.topology import DEFAULT_EXCHANGE, dead_letter_names, together
from postback.errors import ConfigurationError
from postback.wire import keys
from postback.wire.broker import Broker, connect

#: The first Flower in which `read_only` takes everything away that changes something.
FIRST_READ_ONLY: Final = (2, 2)
#: Milliseconds between two questions to the workers about their queues.
REFRESH_MS: Final = 10_000
#: Seconds to wait for Redis' reply at the start.
REPLY_S: Final = 2.0
#: Certificate check in a URL -> the same in Python's ``ssl``.
CERTIFICATES: Final = {
    "CERT_REQUIRED": ssl.CERT_REQUIRED,
    "CERT_OPTIONAL": ssl.CERT_OPTIONAL,
    "CERT_NONE": ssl.CERT_NONE,
}


def make_app(settings: Settings) -> Celery:
    """The Celery app that Flower watches through."""
    broker = settings.broker
    app = Celery("postback.flower", set_as_current=False)
    app.conf.update(
        broker_url=broker.url,
        broker_transport_options={
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": SOCKET_CONNECT_TIMEOUT_S,
            "socket_keepalive": True,
            "health_check_interval": HEALTH_CHECK_INTERVAL_S,
            "priority_steps": list(keys.PRIORITY_STEPS),
            "sep": keys.PRIORITY_SEPARATOR,
            **broker.options,
        },
        broker_use_ssl=tls_options(broker) or None,
        broker_connection_retry_on_startup=True,
        accept_content=["json"],
        result_accept_content=["json"],
        # The Broker page lists these until the first worker has answered.
        task_queues=[Queue(name, exchange=DEFAULT_EXCHANGE, routing_key=name) for name in announced_queues(broker)],
    )
    return app


def tls_options(broker: Broker) -> dict[str, Any]:
    """TLS settings for Flower's own Redis client, which ignores the URL's; empty without TLS."""
    if not broker.url.startswith("rediss:"):
        return {}
    options: dict[str, Any] = {
        name: value for name, value in parse_qsl(urlsplit(broker.url).query) if name.startswith("ssl_")
    }
    options["ssl_cert_reqs"] = CERTIFICATES.get(options.get("ssl_cert_reqs", ""), ssl.CERT_REQUIRED)
    return options


def announced_queues(broker: Broker) -> list[str]:
    """The queues of announced accounts, and all dead-letter lists."""
    accounts: list[str] = []
    client = connect(broker, timeout_s=REPLY_S, connect_timeout_s=REPLY_S, decode=True)
    try:
        accounts = [str(name) for name in client.hkeys(keys.ACCOUNTS)]
    except redis.RedisError as error:
        print(f"postback: Redis is away ({type(error).__name__}); Flower waits for it", file=sys.stderr)
    finally:
        client.close()
    return sorted({*together(accounts), *dead_letter_names()})


def serve(settings: Settings, arguments: Sequence[str]) -> None:
    """Run Flower until SIGINT or SIGTERM.

    Raises:
        ConfigurationError: One of Flower's variables is wrong, or its port is taken.
    """
    # These modules read the environment when they are imported.
    import flower
    from flower import command
    from flower.app import Flower
    from flower.urls import settings as web_settings
    from tornado.ioloop import PeriodicCallback
    from tornado.options import Error, options

    from config import flower as flower_options
    from workers.broker_page import pages

    try:
        command.apply_env_options()
        command.apply_options("flower", [f"--conf={flower_options.__file__}", *arguments])
    except (Error, ValueError) as error:
        raise ConfigurationError(f"Flower does not take its options (FLOWER_… or the command line): {error}") from None
    check_read_only(options.read_only, flower.__version__)
    command.extract_settings()
    command.setup_logging()
    server = Flower(capp=make_app(settings), options=options, **web_settings)
    try:
        port = server.start_http_server()
    except OSError as error:
        raise ConfigurationError(
            f"Flower cannot listen on FLOWER_PORT {options.port}: {error.strerror or error}"
        ) from None
    server.add_handlers(".*", pages(settings.broker, options.url_prefix))
    atexit.register(server.stop)
    signal.signal(signal.SIGTERM, _leave)
    password = "with password" if options.basic_auth else "no password, this machine only"
    print(
        f"Flower on http://{options.address or '0.0.0.0'}:{port} ({password}), broker {settings.broker.shown}",
        flush=True,
    )
    PeriodicCallback(server.update_workers, REFRESH_MS).start()
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        server.start()


def check_read_only(wanted: bool, version: str) -> None:
    """Refuse to serve pages that only look read-only.

    Raises:
        ConfigurationError: It is wanted, and this Flower does not obey it.
    """
    if wanted and tuple(map(int, version.split(".")[:2])) < FIRST_READ_ONLY:
        raise ConfigurationError(f"FLOWER_READ_ONLY needs Flower 2.2; {version} obeys it in part only")


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run Flower. Returns the exit status; 2 if the settings are wrong."""
    for name in [name for name, value in os.environ.items() if name.startswith("FLOWER_") and not value.strip()]:
        del os.environ[name]  # Compose sets a missing variable to an empty text
    for name in FOREIGN_VARIABLES:
        os.environ.pop(name, None)
    try:
        serve(load_settings(os.environ), sys.argv[1:] if arguments is None else arguments)
    except ConfigurationError as error:
        print(f"postback: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("flower", "tornado"):
            raise
        print('postback: Flower is not installed; run pip install -e ".[worker]"', file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
