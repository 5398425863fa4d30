"""What the tasks need of the process they run in. The composition root (``workers.app``) installs it; imports go one way only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from config.accounts import Account
from tasks.delivery import Report
from tasks.exchange import Sender
from tasks.grants import Grant


@dataclass(frozen=True, slots=True)
class Runtime:
    """The process's parts that a task uses."""

    #: Queue name -> account, or None if the accounts file no longer has it.
    account: Callable[[str], Account | None]
    sender: Sender
    #: Applies a grant's settlement in Redis; keeps it and tries again if Redis is away. Never raises.
    settle: Callable[[Grant], None]
    #: Masks every known credential in a text.
    scrub: Callable[[str], str]
    #: Told of each report, for logs and metrics.
    observe: Callable[[Grant, Report], None]


_installed: Runtime | None = None


def install(runtime: Runtime) -> None:
    """Make ``runtime`` the one that tasks use."""
    global _installed
    _installed = runtime


def current() -> Runtime:
    """The installed runtime.

    Raises:
        RuntimeError: A task runs outside a Postback worker.
    """
    if _installed is None:
        raise RuntimeError(
            "Postback's tasks run in Postback's workers only: start one with `python -m workers PROVIDER`"
        )
    return _installed
