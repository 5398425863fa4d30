"""How a provider's cases are written down.

A provider joins the suite by adding ``<provider>_cases.py`` beside this file.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from config.accounts import Account, build_account
from postback._send.event import Event
from tasks.outcomes import Outcome
from tasks.request import Answer, Asked

#: Time of events that leave theirs out: 2020-01-28 12:26:48 UTC, as in myTracker's example.
NOW_S = 1_580_213_208.5


@dataclass(frozen=True)
class RequestCase:
    """Events of one method and the request that must carry them."""

    id: str
    events: Callable[[], Sequence[Event]]
    #: What follows the account's ``base_url``.
    path: str
    headers: Mapping[str, str]
    #: Bytes are compared as they are, None is no body, anything else is the JSON that the body must
    #: hold.
    body: Any
    http_method: str = "POST"
    #: More keys of the account's table, or other values; None takes a key out.
    account: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class AnswerCase:
    """An answer and its class."""

    id: str
    status: int
    #: Bytes as they are; anything else as JSON.
    body: Any
    outcome: Outcome
    method: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    events: int = 1
    maybe_recorded: bool = False
    #: Words that must be in the detail.
    detail: str = ""
    retry_after_s: float | None = None
    most_attempts: int | None = None
    data: Any = None

    @property
    def raw(self) -> bytes:
        """The body's bytes."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body, ensure_ascii=False).encode()

    def answer(self, content_type: str = "application/json") -> Answer:
        """The answer with a content type; none if it is empty."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        if content_type:
            headers["content-type"] = content_type
        return Answer(self.status, headers, self.raw)


class Cases(Protocol):
    """What a cases module has."""

    #: The provider's name.
    PROVIDER: str
    #: An account's table, as in the accounts file.
    ACCOUNT: Mapping[str, object]
    #: Texts of it that are secret.
    SECRETS: Sequence[str]
    #: Where in a request a secret may stand: ``url`` or ``headers``.
    SECRETS_TRAVEL_IN: str
    #: A documented success.
    SUCCESS: AnswerCase
    #: Statuses that can be a success, with the right body.
    SUCCESS_STATUSES: frozenset[int]
    REQUESTS: Sequence[RequestCase]
    ANSWERS: Sequence[AnswerCase]


def account_of(cases: Cases, changes: Mapping[str, object] | None = None) -> Account:
    """The provider's account, its table changed."""
    table = {**cases.ACCOUNT, **(changes or {})}
    return build_account(cases.PROVIDER, "main", {key: value for key, value in table.items() if value is not None})


def asked_of(cases: Cases, case: AnswerCase) -> Asked:
    """What the answer of a case answers."""
    return Asked(account_of(cases), case.method or cases.SUCCESS.method, case.events, case.maybe_recorded)


def all_cases() -> list[Cases]:
    """Every cases module, in the order of their names."""
    names = [module.name for module in pkgutil.iter_modules([__file__.rpartition("/")[0]])]
    found = [importlib.import_module(f"{__package__}.{name}") for name in sorted(names) if name.endswith("_cases")]
    return [cast(Cases, module) for module in found]


def refusals(
    outcomes: Mapping[int, Outcome], body: Callable[[int], Any], *, style: str, status: int | None = None, **more: Any
) -> list[AnswerCase]:
    """One case for each error code: ``body(code)`` under that HTTP status, or under ``status``."""
    return [
        AnswerCase(f"{style} {code}", code if status is None else status, body(code), outcome, **more)
        for code, outcome in outcomes.items()
    ]
