"""What the sandbox asks of a provider.

A provider here is written from the provider's own document, not from the SDK's schemas: where the
two disagree, a test must see it. It says which addresses are its own (`route`), whether it takes a
request (`accept`) and how it words an error (`error`). What only this provider can be told (a mode,
scripted answers) it declares as `options` and `controls`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal

from .access import Access
from .exchange import Accepted, Answer, Call, Refused, Request, fingerprint

ErrorStyle = Literal["http", "body", "mixed"]
ERROR_STYLES: Final[tuple[ErrorStyle, ...]] = ("http", "body", "mixed")


@dataclass(frozen=True, slots=True)
class Option:
    """An option of the command, ``--<provider>-<name>``.

    The provider's method ``set_<name>`` takes its value.
    """

    name: str
    #: the first is the default
    values: tuple[str, ...]
    help: str


#: for a provider whose errors may travel inside HTTP 200
ERROR_STYLE: Final = Option("errors", ERROR_STYLES, "errors by HTTP status or inside HTTP 200")


class Provider(ABC):
    """One provider's server.

    Args:
        rng: source of chance, seeded by the sandbox.
    """

    #: name as in the accounts file
    name: ClassVar[str]
    #: code for a key that is revoked or unknown
    key_code: ClassVar[int] = 401
    #: code for an event that a rule of `Sandbox.refuse` hits
    event_code: ClassVar[int] = 400
    #: options of the command that only this provider has
    options: ClassVar[tuple[Option, ...]] = ()
    #: path of a ``POST /_sandbox/<path>`` -> the method here that takes the body's fields;
    #: `Sandbox` has the method too
    controls: ClassVar[Mapping[str, str]] = MappingProxyType({})
    #: True if pages in a browser call it: any page may then read its answers (CORS)
    cross_origin: ClassVar[bool] = False
    #: fields that say what an event is about, without saying whom it is about; the page shows them
    telling_fields: ClassVar[tuple[str, ...]] = ()
    #: fields that name a person; the page shows them as ``98…21``
    person_fields: ClassVar[tuple[str, ...]] = ()
    #: lines for the accounts file, below ``[<name>.main]``
    account_lines: ClassVar[tuple[str, ...]] = ()

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._styles: dict[str, ErrorStyle] = {}
        self._style: ErrorStyle = "http"

    def limits(self, call: Call) -> str:
        """The limits of a key by default, ``""`` for none."""
        return ""

    @abstractmethod
    def route(self, request: Request) -> Call | None:
        """Claim a request by its address, or return None."""

    @abstractmethod
    def accept(self, call: Call, request: Request, access: Access) -> Accepted:
        """Judge a request whose key is good.

        Raises:
            Refused: the provider says no.
        """

    @abstractmethod
    def error(self, code: int, call: Call, detail: str = "") -> Answer:
        """The provider's answer for an error code, in the style set for the key.

        Args:
            code: what went wrong, as the provider counts it.
            call: the request.
            detail: shown where the document has a place for it; names no value.
        """

    def authorise(self, call: Call, access: Access) -> None:
        """Check the credential.

        Raises:
            Refused: it is missing, unknown or revoked.
        """
        if call.credential is None:
            raise Refused(self.error(self.key_code, call), "no credential in the request")
        code = access.refusal(self.name, call.key)
        if code is not None:
            raise Refused(self.error(code or self.key_code, call), "the credential is refused")

    def set_errors(self, style: ErrorStyle, key: str | None = None) -> None:
        """Set how errors travel, for a key or (None) for all others.

        Raises:
            ValueError: no such style, or the provider's errors always are HTTP errors.
        """
        if style not in ERROR_STYLES:
            raise ValueError(f"error style {style!r} is none of {', '.join(ERROR_STYLES)}")
        if ERROR_STYLE not in self.options and style != "http":
            raise ValueError(f"{self.name} answers errors by HTTP status only")
        if key is None:
            self._style = style
        else:
            self._styles[fingerprint(key)] = style

    def in_body(self, call: Call) -> bool:
        """True if this error is to travel inside HTTP 200."""
        style = self._styles.get(call.key, self._style)
        return style == "body" or (style == "mixed" and self._rng.random() < 0.5)

    def clear(self) -> None:  # noqa: B027 - most providers have nothing to forget
        """Forget what tests have set, except error styles."""


def is_int(value: Any) -> bool:
    """True for a JSON integer; Python's bool is none."""
    return type(value) is int


def is_number(value: Any) -> bool:
    """True for a JSON number."""
    return type(value) is int or type(value) is float


def unknown_fields(events: Iterable[dict[str, Any]], known: frozenset[str]) -> str:
    """A note that names the fields no document knows, ``""`` if there are none.

    A provider ignores them, a developer should not.
    """
    unknown: set[str] = set()
    for event in events:
        unknown.update(event.keys() - known)
    # A name is a key of the sender's JSON and could itself be personal: bounded in length and
    # number.
    names = [name[:40] if name.isprintable() else "?" for name in sorted(unknown)[:5]]
    return f"unknown fields ignored: {', '.join(names)}" if names else ""
