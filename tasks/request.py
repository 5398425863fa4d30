"""One HTTP request and its answer, as the providers' modules see them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NoReturn, Protocol

from config.accounts import Account
from tasks import json_text

#: Longest wait that a ``Retry-After`` can ask for, in seconds. No provider's quota window is
#: longer than a week.
MAX_RETRY_AFTER_S: Final = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to send. ``url`` and ``headers`` may hold a credential: neither is ever logged."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read whole (up to a bound)."""

    status: int
    #: By lower-case name.
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """The body as JSON; None if it is not JSON."""
        try:
            return json_text.read(self.body, _standard)
        except (ValueError, RecursionError):
            return None

    def text(self, most: int = 200) -> str:
        """The start of the body on one line, for a dead letter's detail."""
        return " ".join(self.body[: 4 * most].decode("utf-8", "replace").split())[:most]

    @property
    def retry_after_s(self) -> float | None:
        """``Retry-After`` in seconds, at most a week; None if it is no number above 0.

        Providers send no dates. Zero would mean asking again at once, for ever: then the account's
        own windows decide.
        """
        value = self.headers.get("retry-after", "").strip()
        if len(value) > 20 or re.fullmatch(r"[0-9]+(\.[0-9]*)?", value) is None:
            return None
        return min(float(value), MAX_RETRY_AFTER_S) or None


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity: they are not JSON, and a caller could not read such a result."""
    raise ValueError(f"{name} is not JSON")


_standard: Final = partial(json.loads, parse_constant=_refuse_constant)


class NotSent(Exception):
    """The request did not leave: connection refused, name not found, TLS failed, too late."""


class Unanswered(Exception):
    """The request may have arrived, but no whole answer came: time-out, reset, too large."""


class Sender(Protocol):
    """Sends requests one by one; ``workers.http.requests`` has the real one."""

    def send(self, request: HttpRequest, account: Account) -> Answer:
        """Send a request and read its answer within the account's time limits.

        Raises:
            NotSent: It certainly did not reach the provider.
            Unanswered: It may have.
        """


@dataclass(frozen=True, slots=True)
class Asked:
    """The request that an answer belongs to."""

    account: Account
    #: ``add_event``, ``custom_event`` …
    method: str
    #: How many events the request carried.
    events: int = 1
    #: An earlier attempt of an event in it may have been recorded.
    maybe_recorded: bool = False
