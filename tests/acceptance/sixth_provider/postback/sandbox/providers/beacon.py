"""Beacon.

Source: beacon-visits; written from the document, not from the SDK, so that a disagreement shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from ..access import Access
from ..exchange import Accepted, Answer, BadJSON, Call, Refused, Request, json_answer, parse_json
from ..provider import Option, Provider, is_int, unknown_fields

_REGIONS: Final = ("eu", "us")
_FIELDS: Final = frozenset(("visitor", "page", "at"))


class Beacon(Provider):
    """Beacon."""

    name: ClassVar[str] = "beacon"
    #: code for an event that it refuses
    event_code: ClassVar[int] = 422
    account_lines: ClassVar[tuple[str, ...]] = ('key = "any-key"',)
    telling_fields: ClassVar[tuple[str, ...]] = ("page",)
    person_fields: ClassVar[tuple[str, ...]] = ("visitor",)
    #: the command's option ``--beacon-closed``
    options: ClassVar[tuple[Option, ...]] = (Option("closed", ("none", *_REGIONS), "region that answers 503"),)
    #: POST ``{"region": "us"}`` to ``/_sandbox/closed``; ``sandbox.set_closed("us")`` in Python
    controls: ClassVar[Mapping[str, str]] = {"closed": "set_closed"}

    _closed = "none"

    def set_closed(self, region: str) -> None:
        """Answer 503 in a region, or in none."""
        if region not in ("none", *_REGIONS):
            raise ValueError(f"region must be none, {' or '.join(_REGIONS)}")
        self._closed = region

    def limits(self, call: Call) -> str:
        """Source: beacon-visits, "Limits"."""
        return "5/second; 3000/hour"

    def route(self, request: Request) -> Call | None:
        """``/<region>/visits``."""
        if len(request.segments) != 2 or request.segments[0] not in _REGIONS or request.segments[1] != "visits":
            return None
        return Call(self.name, "visit", request.path, request.headers.get("x-beacon-key"), target=request.segments[0])

    def accept(self, call: Call, request: Request, access: Access) -> Accepted:
        """Judge by the document's table of fields."""
        if call.target == self._closed:
            raise Refused(self.error(503, call), "the region is closed")
        try:
            visit = parse_json(request.body)
        except BadJSON as error:
            raise Refused(self.error(400, call, "no JSON"), "the body is not JSON") from error
        if not isinstance(visit, dict):
            raise Refused(self.error(400, call, "no object"), "the body is not an object")
        texts = [visit.get(name) for name in ("visitor", "page")]
        if not all(isinstance(value, str) and value for value in texts) or not is_int(visit.get("at")):
            raise Refused(self.error(422, call, "a field is missing or wrong"), "a field is missing or wrong")
        return Accepted(json_answer(202, {"accepted": 1}), [visit], note=unknown_fields((visit,), _FIELDS))

    def error(self, code: int, call: Call, detail: str = "") -> Answer:
        """``{"reason": …}``."""
        return json_answer(code, {"reason": detail or f"error {code}"})
