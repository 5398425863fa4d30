"""``postback check``: is everything set up so that events are kept and delivered?"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from importlib import import_module
from typing import Any, Final

from postback._send.accounts import VARIABLE, names_in_file
from postback.cli.arguments import Commands, command
from postback.cli.connections import RedisAway, sites
from postback.cli.terminal import Console, clean, listed, megabytes
from postback.errors import ConfigurationError
from postback.operations.queues import ALIVE_S, announced, providers, served, workers
from postback.operations.server import RedisStatus, redis_status
from postback.wire.time import redis_now_ms

#: Accounts that are listed one by one.
LISTED: Final = 50
#: Where the checkout keeps its accounts file.
ACCOUNTS_FILE: Final = "config/accounts.toml"


class Findings:
    """What was looked at, told as it is found."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.failed = False
        self.away = False

    def tell(self, good: bool, text: str) -> None:
        """One line; ``good`` or not."""
        self.failed = self.failed or not good
        self._console.line(f"{self._console.mark(good)} {clean(text)}")


def add(commands: Commands, given: list[str]) -> None:
    """Declare the command."""
    command(
        commands,
        "check",
        "Check settings, the accounts file, Redis and the workers; exits 1 if something is wrong, 2 if Redis is away.",
        "postback check && systemctl restart bot",
        run,
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Look at everything, then exit with the worst."""
    findings = Findings(console)
    wanted = _accounts(findings)
    try:
        places = sites()
    except ConfigurationError as wrong:
        findings.tell(False, str(wrong))
        return 2
    for site in places:
        try:
            with site.asked() as client:
                _redis(findings, redis_status(client, site.providers, url=site.broker.shown))
                now_ms = redis_now_ms(client)
                told = announced(client, site.providers)
                alive = workers(client, now_ms)
                serving = served(client, alive, told, now_ms)
        except RedisAway as away:
            findings.tell(False, str(away))
            findings.away = True
            continue
        own = {queue for queue in wanted if queue.partition(".")[0] in site.providers}
        if wanted:
            for queue in sorted(told.keys() - own):
                findings.tell(False, f"{queue}: announced by a worker, but not in the accounts file here")
        _serving(findings, own | told.keys(), serving)
        if not own and not told:
            findings.tell(False, f"no account is known at {site.broker.shown}: start a worker")
        elif not alive:
            findings.tell(False, f"no worker has announced itself at {site.broker.shown} in the last {ALIVE_S:g} s")
    return 2 if findings.away else int(findings.failed)


def _redis(findings: Findings, one: RedisStatus) -> None:
    findings.tell(True, f"Redis {one.version} answers at {one.url}")
    findings.tell(
        one.policy == "noeviction",
        "maxmemory-policy is noeviction"
        if one.policy == "noeviction"
        else f"maxmemory-policy is {one.policy}: a full Redis would throw events away; set noeviction",
    )
    findings.tell(
        one.append_only,
        "the append-only file is on"
        if one.append_only
        else "the append-only file is off: a restart of Redis loses events; set appendonly yes",
    )
    share = one.memory_share
    if share is None:
        findings.tell(True, f"memory: {megabytes(one.used_bytes)} used, no limit set")
    else:
        full = f"memory: {megabytes(one.used_bytes)} of {megabytes(one.max_bytes)} used ({share:.0%})"
        findings.tell(share <= 0.9, full if share <= 0.9 else f"{full}; a full Redis refuses events")


def _accounts(findings: Findings) -> set[str]:
    """Queues of the accounts file; empty if there is none here. Settings are checked along with it."""
    path = os.environ.get(VARIABLE, "").strip()
    house = _house()
    try:
        if house is not None:
            house.load_settings(os.environ)
            findings.tell(True, "settings are right")
            path = path or ACCOUNTS_FILE
            queues = set(house.load_accounts(path, os.environ))
        elif path:
            queues = _queues(names_in_file(path).items())
        else:
            findings.tell(True, f"{VARIABLE} is not set: accounts are those that workers announce")
            return set()
    except ConfigurationError as wrong:
        findings.tell(False, str(wrong))
        return set()
    findings.tell(True, f"{path}: {listed(sorted(queues), LISTED)}")
    return queues


def _serving(findings: Findings, queues: set[str], serving: set[str]) -> None:
    """Whether live workers serve these accounts; of very many only those that none serves."""
    good = sorted(queues & serving)
    for queue in good if len(good) <= LISTED else ():
        findings.tell(True, f"{queue}: a live worker serves it")
    if len(good) > LISTED:
        findings.tell(True, f"live workers serve {len(good):,} accounts")
    idle: dict[str, list[str]] = {}
    for queue in sorted(queues - serving):
        idle.setdefault(queue.partition(".")[0], []).append(queue)
    for provider, some in idle.items():
        for queue in some[:LISTED]:
            findings.tell(False, f"{queue}: no live worker serves it: start `python -m workers {provider}`")
        if len(some) > LISTED:
            findings.tell(False, f"and {len(some) - LISTED:,} more of {provider}")


def _queues(tables: Iterable[tuple[str, Iterable[str]]]) -> set[str]:
    known = set(providers())
    return {f"{provider}.{name}" for provider, names in tables if provider in known for name in names}


class _House:
    """The checkout's own reading of settings and accounts, stricter than a producer's."""

    def __init__(self, load_settings: Any, load_accounts: Any) -> None:
        self.load_settings = load_settings
        self.load_accounts = load_accounts


def _house() -> _House | None:
    """``config`` of the checkout; None where only the wheel is installed, or ``config`` is somebody else's module."""
    try:
        settings, accounts = import_module("config.settings"), import_module("config.accounts")
        return _House(settings.load_settings, accounts.load_accounts) if hasattr(accounts, "build_account") else None
    except Exception:  # a foreign `config` may do anything when it is imported
        return None
