"""The composition root: makes a Celery app of settings, accounts, governor, tasks and transport."""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import select
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, cast

from celery import Celery, signals

from config.accounts import Accounts, load_accounts
from config.celery import FOREIGN_VARIABLES, celery_config
from config.settings import Settings
from config.topology import DEFAULT_EXCHANGE, account_queues
from postback.errors import ConfigurationError
from postback.wire.broker import connect
from tasks import task
from tasks.followers import follow_up
from tasks.links import LinkRules
from tasks.records import record_of
from workers import writes
from workers.governor import Server
from workers.http.engine import Engine
from workers.http.requests import RequestsSender
from workers.http.threads import ThreadEngine
from workers.observe import logs
from workers.observe.masking import Masker
from workers.observe.measurements import Measurements
from workers.observe.metrics_server import Endpoint
from workers.observe.outcome_log import log_outcomes
from workers.observe.rows import Rows
from workers.remote_control import install_control
from workers.rounds.rounds import Rounds
from workers.rounds.step import delivery_step
from workers.rounds.watcher import Watcher
from workers.upkeep.accounts_file import AccountsFile
from workers.upkeep.heartbeat import Heartbeat
from workers.upkeep.key_format import format_step
from workers.upkeep.notices import Notices, load_hook, notices_step
from workers.upkeep.periodic import PeriodicWork, periodic_step
from workers.worker import Worker

logger = logging.getLogger(__name__)

#: Seconds to wait for Redis' reply to a script, and for a connection. Both block the event loop, so
#: they are short.
REPLY_S: Final = 3.0
CONNECT_S: Final = 1.0


def compose(settings: Settings, environ: Mapping[str, str], provider: str | None = None) -> Celery:
    """The worker app.

    Args:
        settings: From the environment.
        environ: For the ``env:NAME`` values of the accounts file.
        provider: Serve this provider's accounts only; None for all of the common broker.

    Raises:
        ConfigurationError: The accounts file is wrong or has no account to serve, or the hook
            cannot be called.
    """
    accounts = served(settings, environ, provider)
    # The hook is foreign code. Our logging and our app are made after it, so that it does not
    # replace them.
    hook = load_hook(settings.on_dead, settings, provider) if settings.on_dead else None
    masker = Masker()
    masker.learn(accounts)
    masker.learn_broker(settings)
    logs.configure(settings, masker)
    client: Callable[..., writes.Client] = partial(
        cast("Callable[..., writes.Client]", connect),
        settings.broker_of(provider),
        timeout_s=REPLY_S,
        connect_timeout_s=CONNECT_S,
        client_class=writes.Client,
    )
    measurements = endpoint = None
    if settings.metrics_port is not None:
        measurements = Measurements(settings.metrics_accounts)
        endpoint = Endpoint(measurements.registry, settings.metrics_address, settings.metrics_port)
    server = Server(
        partial(client, single=True),
        notices=hook is not None,
        journal=settings.journal_backlog,
        observe=measurements.ran if measurements else None,
    )
    link_rules = LinkRules(settings.link_queues)
    worker = Worker(server, accounts, RequestsSender(), scrub=masker.scrub, link_rules=link_rules)
    rows = Rows(worker.account)
    worker.observers += [log_outcomes, rows.observe]
    if measurements:
        measurements.watch(worker)
    atexit.register(worker.governor.release_all)
    for name in FOREIGN_VARIABLES:
        os.environ.pop(name, None)
    app = Celery("postback.worker")
    app.config_from_object(celery_config(settings, provider))
    sentinel = settings.broker_url_of(provider).startswith("sentinel:")
    app.conf.broker_transport = "workers.transport:SentinelTransport" if sentinel else "workers.transport:Transport"
    app.loader.override_backends = writes.BACKENDS
    app.conf.task_queues = account_queues(accounts.values())
    # No queue of an account or of a link needs an exchange, so Redis gets no bindings.
    app.amqp.default_exchange = DEFAULT_EXCHANGE  # type: ignore[misc]
    app.amqp.autoexchange = lambda name: DEFAULT_EXCHANGE  # type: ignore[assignment]
    task.register(app, worker)
    install_control(worker, client())
    heartbeat = Heartbeat(worker, client(), provider)
    accounts_file = AccountsFile(worker, settings, environ, provider, masker, heartbeat)
    periodic_work = PeriodicWork(heartbeat, accounts_file, rows, client(), endpoint)
    engine = open_engine(settings)
    rounds = Rounds(
        worker,
        engine,
        settings.concurrency,
        lambda event: follow_up(app, worker.hostname, event),
        record=lambda report: record_of(report, worker.hostname) if settings.journal_backlog else b"",
    )
    watcher = Watcher(worker, partial(client, single=True), rounds.wake)
    first_steps = format_step(client()), periodic_step(periodic_work)
    app.steps["consumer"].update((*first_steps, delivery_step(worker, rounds, watcher, after=first_steps)))
    if hook is not None:
        providers = [provider] if provider else settings.broker_urls_in_use()[settings.broker_url]
        app.steps["worker"].add(notices_step([Notices(name, client(), hook) for name in providers]))
    return app


def served(settings: Settings, environ: Mapping[str, str], provider: str | None) -> Accounts:
    """The accounts that a process serves.

    Raises:
        ConfigurationError: The file is wrong or has no account to serve.
    """
    accounts = load_accounts(settings.accounts_path, environ, provider=provider)
    if not accounts:
        raise ConfigurationError(
            f"{settings.accounts_path}: names no {provider} account; add a table such as [{provider}.main]"
        )
    return accounts


def open_engine(settings: Settings) -> Engine:
    """The engine of a process: by ``POSTBACK_HTTP``, else curl, else ``requests`` in threads.

    Raises:
        ConfigurationError: pycurl is wanted and missing, or too few files may be open.
    """
    # The curl engine waits in epoll, which only Linux has.
    has_curl = importlib.util.find_spec("pycurl") is not None and hasattr(select, "epoll")
    if settings.http == "requests" or (settings.http is None and not has_curl):
        if settings.http is None:
            logger.warning("pycurl (or epoll) is missing: threads send the requests, which is slower")
        return ThreadEngine(settings.concurrency)
    if not has_curl:
        raise ConfigurationError("POSTBACK_HTTP=curl: pycurl is not installed, or this system has no epoll")
    from workers.http.curl import CurlEngine

    try:
        return CurlEngine(settings.concurrency)
    except OSError as error:
        raise ConfigurationError(str(error)) from None


@signals.worker_init.connect
def _refuse_forks(sender: Any = None, **_: Any) -> None:
    """Refuse a forking pool: grants belong to one process, and a child could not settle them."""
    module = sender.pool_cls.__module__
    if module not in ("celery.concurrency.thread", "celery.concurrency.solo"):
        raise SystemExit(
            f"Postback needs no pool: start the worker without -P, or with -P threads (not {module.rpartition('.')[2]})"
        )


@signals.setup_logging.connect
def _keep_logging(**_: Any) -> None:
    """Keep Celery from configuring logging, as any receiver does; ``logs.configure`` does that."""


def node_name(provider: str) -> str:
    """A Celery node name that is unique on the host."""
    return f"{provider}-{os.getpid()}@{socket.gethostname()}"
