"""The composition root: puts settings, accounts, governor, tasks and transport together into one Celery app."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from celery import Celery, bootsteps, signals

from config.accounts import Accounts, load_accounts
from config.celeryconfig import FOREIGN_VARIABLES, celery_config
from config.settings import Settings
from config.topology import DEFAULT_EXCHANGE, account_queues
from postback.broker import connect
from postback.errors import ConfigurationError
from tasks import runtime, task
from tasks.delivery import Report
from tasks.grants import REGISTRY, Grant
from tasks.signatures import Followers
from workers import logs, process, rows, scripts, writes
from workers.control import install_control
from workers.formats import format_step
from workers.http import RequestsSender
from workers.inspection import install_active_queues
from workers.metrics.measurements import Measurements
from workers.notices import Notices, load_hook, notices_step
from workers.watch import Watch

#: Seconds to wait for Redis' reply to a script, and for a connection. Both block the event loop, so
#: they are short.
REPLY_S: Final = 3.0
CONNECT_S: Final = 1.0


def compose(settings: Settings, environ: Mapping[str, str], provider: str | None = None) -> Celery:
    """The worker app.

    Args:
        settings: From the environment.
        environ: Where the accounts file's ``env:NAME`` values come from.
        provider: Serve this provider's accounts only; None for all of the common broker.

    Raises:
        ConfigurationError: The accounts file is wrong, or names no account to serve; or the hook cannot be called.
    """
    accounts = served(settings, environ, provider)
    # Foreign code: our logging and our app come after it, so that theirs do not take their place.
    hook = load_hook(settings.on_dead, settings, provider) if settings.on_dead else None
    logs.configure(settings, accounts)
    client = partial(
        connect,
        settings.broker_of(provider),
        timeout_s=REPLY_S,
        connect_timeout_s=CONNECT_S,
        client_class=writes.Client,
    )
    governor = process.install(
        partial(client, single=True), accounts, Followers(settings.link_queues), notices=hook is not None
    )
    measurements: Measurements | None = None
    if settings.metrics_port is not None:
        measurements = Measurements(process.current_accounts, lambda: list(REGISTRY.values()), lambda: governor.unsent)
        scripts.on_run = measurements.ran
    observers = [logs.observe, *([measurements.observe] if measurements else [])]
    closed = partial(tell, [*observers, rows.observe_closed])
    process.on_closed(closed)
    runtime.install(
        runtime.Runtime(
            account=lambda queue: process.current_accounts().get(queue),
            sender=RequestsSender(),
            settle=governor.settle,
            scrub=logs.scrub,
            observe=partial(tell, [*observers, rows.observe]),
        )
    )
    for name in FOREIGN_VARIABLES:
        os.environ.pop(name, None)
    app = Celery("postback.worker")
    app.config_from_object(celery_config(settings, provider))
    sentinel = settings.broker_url_of(provider).startswith("sentinel:")
    app.conf.broker_transport = "workers.transport:SentinelTransport" if sentinel else "workers.transport:Transport"
    app.loader.override_backends = writes.BACKENDS
    app.conf.task_queues = account_queues(accounts.values())
    # Neither an account's queue nor a link's needs an exchange: Redis gets no binding.
    app.amqp.default_exchange = DEFAULT_EXCHANGE  # type: ignore[misc]
    app.amqp.autoexchange = lambda name: DEFAULT_EXCHANGE  # type: ignore[assignment]
    task.register(app)
    install_active_queues()
    install_control(client())
    watch = Watch(settings, environ, provider, client(), closed, measurements.registry if measurements else None)
    app.steps["consumer"].update((format_step(client()), watch_step(watch)))
    if hook is not None:
        providers = [provider] if provider else settings.broker_urls_in_use()[settings.broker_url]
        app.steps["worker"].add(notices_step([Notices(name, client(), hook) for name in providers]))
    return app


def tell(observers: Sequence[Callable[[Grant, Report], None]], grant: Grant, report: Report) -> None:
    """Tell everyone who wants to know of outcomes."""
    for observer in observers:
        observer(grant, report)


def served(settings: Settings, environ: Mapping[str, str], provider: str | None) -> Accounts:
    """The accounts that a process serves.

    Raises:
        ConfigurationError: There are none, or the file is wrong.
    """
    accounts = load_accounts(settings.accounts_path, environ, provider=provider)
    if not accounts:
        raise ConfigurationError(
            f"{settings.accounts_path}: names no {provider} account; add a table such as [{provider}.main]"
        )
    return accounts


def watch_step(watch: Watch) -> type[bootsteps.StartStopStep]:
    """Starts the process's periodic work with each connection's consumer."""

    class WatchStep(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)
        name = "postback.watch"

        def start(self, c: Any) -> None:
            watch.start(c)

        def stop(self, c: Any) -> None:
            watch.stop()

    return WatchStep


@signals.worker_init.connect
def _refuse_other_pools(sender: Any = None, **_: Any) -> None:
    """Grants live in one process: a forked child could not settle them."""
    module = sender.pool_cls.__module__
    if module != "celery.concurrency.thread":
        raise SystemExit(
            f"Postback runs in threads: start the worker without -P, or with -P threads (not {module.rpartition('.')[2]})"
        )


@signals.setup_logging.connect
def _keep_logging(**_: Any) -> None:
    """A receiver of this signal keeps Celery from configuring logging; ``logs.configure`` has done it."""


def node_name(provider: str) -> str:
    """A Celery node name that two copies on one host do not share."""
    return f"{provider}-{os.getpid()}@{socket.gethostname()}"
