"""``postback check``: is everything set up so that events are kept and delivered?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, Final

import click

from postback._send.directory import VARIABLE, names_in_file
from postback.cli.parameters import example
from postback.cli.terminal import Terminal, mark
from postback.cli.wording import listed, megabytes
from postback.errors import ConfigurationError
from postback.operations.alarms import MEMORY_SHARE
from postback.operations.queues import ALIVE_S, announced, providers, served, workers
from postback.operations.server import RedisStatus, redis_status
from postback.operations.sites import RedisAway, sites
from postback.wire.time import redis_now_ms

#: Accounts that are listed one by one.
LISTED: Final = 50
#: Where the checkout keeps its accounts file.
ACCOUNTS_FILE: Final = "config/accounts.toml"


class Findings:
    """What was looked at, written as it is found."""

    def __init__(self) -> None:
        self._terminal = Terminal()
        self.failed = False
        self.away = False

    def report(self, good: bool, text: str, otherwise: str = "") -> None:
        """One line: the text, or the other one if it is not good."""
        self.failed = self.failed or not good
        self._terminal.say(mark(good), f" {text if good or not otherwise else otherwise}")


@click.command(epilog=example("postback check && systemctl restart bot"))
@click.pass_obj
def check(environ: Mapping[str, str]) -> int:
    """Check settings, accounts file, Redis and workers.

    Exits 1 if something is wrong, 2 if Redis is away.
    """
    findings = Findings()
    wanted = _accounts(findings, environ)
    try:
        places = sites(environ)
    except ConfigurationError as wrong:
        findings.report(False, str(wrong))
        return 2
    for site in places:
        try:
            with site.asked() as client:
                _redis(findings, redis_status(client, site.providers, url=site.broker.shown))
                now_ms = redis_now_ms(client)
                announcements = announced(client, site.providers)
                alive = workers(client, now_ms)
                serving = served(client, alive, announcements, now_ms)
        except RedisAway as away:
            findings.report(False, str(away))
            findings.away = True
            continue
        own = {queue for queue in wanted if queue.partition(".")[0] in site.providers}
        if wanted:
            for queue in sorted(announcements.keys() - own):
                findings.report(False, f"{queue}: announced by a worker, but not in the accounts file here")
        _serving(findings, own | announcements.keys(), serving)
        if not own and not announcements:
            findings.report(False, f"no account is known at {site.broker.shown}: start a worker")
        elif not alive:
            findings.report(False, f"no worker has announced itself at {site.broker.shown} in the last {ALIVE_S:g} s")
    return 2 if findings.away else int(findings.failed)


def _redis(findings: Findings, one: RedisStatus) -> None:
    findings.report(True, f"Redis {one.version} answers at {one.url}")
    findings.report(
        one.policy == "noeviction",
        "maxmemory-policy is noeviction",
        f"maxmemory-policy is {one.policy}: a full Redis would throw events away; set noeviction",
    )
    findings.report(
        one.append_only,
        "the append-only file is on",
        "the append-only file is off: a restart of Redis loses events; set appendonly yes",
    )
    share = one.memory_share
    if share is None:
        findings.report(True, f"memory: {megabytes(one.used_bytes)} used, no limit set")
    else:
        used = f"memory: {megabytes(one.used_bytes)} of {megabytes(one.max_bytes)} used ({share:.0%})"
        findings.report(share <= MEMORY_SHARE, used, f"{used}; a full Redis refuses events")


def _accounts(findings: Findings, environ: Mapping[str, str]) -> set[str]:
    """Queues of the accounts file; empty if there is none here.

    Settings are checked along with it.
    """
    path = environ.get(VARIABLE, "").strip()
    checkout = _checkout()
    try:
        if checkout is not None:
            load_settings, load_accounts = checkout
            load_settings(environ)
            findings.report(True, "settings are right")
            path = path or ACCOUNTS_FILE
            queues = set(load_accounts(path, environ))
        elif path:
            queues = _queues(names_in_file(path).items())
        else:
            findings.report(True, f"{VARIABLE} is not set: accounts are those that workers announce")
            return set()
    except ConfigurationError as wrong:
        findings.report(False, str(wrong))
        return set()
    findings.report(True, f"{path}: {listed(sorted(queues), LISTED)}")
    return queues


def _serving(findings: Findings, queues: set[str], serving: set[str]) -> None:
    """Whether live workers serve these accounts; of very many only those that none serves."""
    good = sorted(queues & serving)
    for queue in good if len(good) <= LISTED else ():
        findings.report(True, f"{queue}: a live worker serves it")
    if len(good) > LISTED:
        findings.report(True, f"live workers serve {len(good):,} accounts")
    idle: dict[str, list[str]] = {}
    for queue in sorted(queues - serving):
        idle.setdefault(queue.partition(".")[0], []).append(queue)
    for provider, unserved in idle.items():
        for queue in unserved[:LISTED]:
            findings.report(False, f"{queue}: no live worker serves it: start `python -m workers {provider}`")
        if len(unserved) > LISTED:
            findings.report(False, f"and {len(unserved) - LISTED:,} more of {provider}")


def _queues(tables: Iterable[tuple[str, Iterable[str]]]) -> set[str]:
    known = set(providers())
    return {f"{provider}.{name}" for provider, names in tables if provider in known for name in names}


def _checkout() -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    """The checkout's own reading of settings and of accounts, stricter than a producer's.

    None where only the wheel is installed, or ``config`` is somebody else's module.
    """
    try:
        settings, accounts = import_module("config.settings"), import_module("config.accounts")
        return (settings.load_settings, accounts.load_accounts) if hasattr(accounts, "build_account") else None
    except Exception:  # a foreign `config` may do anything when it is imported
        return None
