"""The decision about one request: key, quota, fault, judgement, record. No sockets here.

Order: the key is checked, the request is counted in the key's windows, its body is decompressed, a
fault may strike, the provider judges, rules refuse, the ledger records.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from postback.wire.windows import Window

from .access import Access, Keys
from .exchange import Accepted, Answer, Call, Refused, Request, json_answer
from .faults import Delivery, Fault, Faults
from .ledger import HEADERS, Ledger, Record
from .provider import Provider
from .providers import provider_classes
from .refusals import Refusals
from .windows import Windows, parse_limits
from .wire import BadRequest, decoded

_NO_ADDRESS: Final = Call("none", "unknown", "/…", None)
#: what a browser must hear to let any page send any header and read the answer
_ANY_ORIGIN: Final = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"}


@dataclass(slots=True)
class Decision:
    """What the server is to do with a request that is already in the ledger."""

    answer: Answer
    delivery: Delivery = Delivery.WHOLE
    fault: Fault | None = None


class Engine:
    """All providers with their rules, counters and ledger.

    Args:
        limits: provider -> limits of each of its keys in the notation of `parse_limits`; None or
            ``""`` switches them off, a provider without an entry keeps its documented ones.
        keys: see `Access`.
        clock: seconds, never going back.
        seed: makes phases and chance reproducible.
    """

    def __init__(
        self,
        *,
        limits: Mapping[str, str | None] | None = None,
        keys: Keys | None = None,
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
        keep_records: int | None = None,
        keep_bodies: int | None = None,
        ledger_file: Path | str | None = None,
        listener: Callable[[Record], None] | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.clock = clock
        self.providers: dict[str, Provider] = {name: cls(self.rng) for name, cls in provider_classes().items()}
        self.methods = self._own_methods()
        self._limits: dict[tuple[str, str | None], tuple[Window, ...]] = {}
        for provider, text in (limits or {}).items():
            self.set_limits(provider, text)
        for provider in keys or {}:
            self.provider(provider)
        self.access = Access(keys)
        self.windows = Windows(clock, seed)
        self.faults = Faults(self.rng)
        self.refusals = Refusals()
        self.ledger = Ledger(keep_records=keep_records, keep_bodies=keep_bodies, file=ledger_file, listener=listener)
        self._seen_lock = threading.Lock()
        self._seen: dict[str, set[int]] = {}
        self._parsed: dict[str, tuple[Window, ...]] = {}

    def provider(self, name: str) -> Provider:
        """A provider by name.

        Raises:
            ValueError: there is none of that name.
        """
        try:
            return self.providers[name]
        except KeyError:
            raise ValueError(f"{name!r} is none of the providers {', '.join(self.providers)}") from None

    def _own_methods(self) -> dict[str, Callable[..., Any]]:
        """Name -> method of a provider, for all that the providers' `controls` name."""
        methods: dict[str, Callable[..., Any]] = {}
        for provider in self.providers.values():
            for method in provider.controls.values():
                if method in methods:
                    raise TypeError(f"{provider.name}: another provider of the sandbox has a method {method}")
                methods[method] = getattr(provider, method)
        return methods

    def set_limits(self, provider: str, text: str | None, key: str | None = None) -> None:
        """Set the limits of a key's fingerprint or (None) of all keys of a provider.

        Raises:
            ValueError: unknown provider or notation.
        """
        self.provider(provider)
        self._limits[provider, key] = parse_limits(text)

    def watch_duplicates(self, provider: str, on: bool = True) -> None:
        """Answer 409 to a body that a key has already recorded under the same method.

        What the ledger still holds counts too.
        """
        self.provider(provider)
        with self._seen_lock:
            if not on:
                self._seen.pop(provider, None)
                return
            kept = self.ledger.records(provider=provider, recorded=True)
            self._seen[provider] = {
                hash((record.key, record.method, record.body)) for record in kept if record.body is not None
            }

    def add_fault(self, fault: Fault) -> Fault:
        """Put a fault in force.

        Raises:
            ValueError: it names an unknown provider.
        """
        if fault.provider is not None:
            self.provider(fault.provider)
        return self.faults.add(fault)

    def route(self, request: Request) -> tuple[Provider, Call] | None:
        """The provider whose address this is, None if nobody's."""
        for provider in self.providers.values():
            call = provider.route(request)
            if call is not None:
                return provider, call
        return None

    def decide(self, request: Request) -> Decision:
        """Decide about a request and put it into the ledger."""
        routed = self.route(request)
        if routed is None:
            reason = "no provider has this address"
            return self._unjudged(request, _NO_ADDRESS, json_answer(404, {"error": reason}), reason)
        provider, call = routed
        if not provider.cross_origin:
            return self._decide(request, provider, call)
        if request.http_method == "OPTIONS":
            decision = self._unjudged(request, call, Answer(200, b""), "a browser asks whether its page may send")
        else:
            decision = self._decide(request, provider, call)
        decision.answer = replace(decision.answer, headers={**decision.answer.headers, **_ANY_ORIGIN})
        return decision

    def _decide(self, request: Request, provider: Provider, call: Call) -> Decision:
        try:
            provider.authorise(call, self.access)
            exceeded = self.windows.count((call.provider, call.key, call.account), self._limits_of(provider, call))
            if exceeded is not None:
                raise Refused(provider.error(429, call), f"over the limit of {exceeded.text}")
            request.body = decoded(request)
        except BadRequest as bad:
            return self._unjudged(request, call, provider.error(bad.status, call, str(bad)), str(bad))
        except Refused as refused:
            return self._unjudged(request, call, refused.answer, refused.reason)
        fault = self.faults.hit(call, self.access.name(call.provider, call.key), request.body)
        if fault is not None and not fault.records:
            return self._faulted(request, provider, call, fault)
        try:
            accepted = self._accept(request, provider, call)
        except Refused as refused:
            return self._finish(request, provider, call, fault, refused.answer, refused.reason)
        return self._finish(request, provider, call, fault, accepted.answer, accepted.note, accepted)

    def record_redirected(self, request: Request) -> Answer:
        """A client has followed the fault ``redirect``, which it must not.

        Answer it, and leave a trace.
        """
        answer = json_answer(200, {"status": "OK", "message": "a redirect was followed"})
        call = Call("none", "redirected", "/_sandbox/redirected", None)
        return self._unjudged(request, call, answer, "a redirect was followed").answer

    def clear(self) -> None:
        """Forget ledger, faults, refusals, scripts, duplicates and quota counters.

        Take revoked keys again.

        Phases and settings stay.
        """
        self.faults.clear()
        self.refusals.clear()
        self.access.clear()
        self.windows.clear()
        self.ledger.clear()
        with self._seen_lock:
            for seen in self._seen.values():
                seen.clear()
        for provider in self.providers.values():
            provider.clear()

    def _unjudged(self, request: Request, call: Call, answer: Answer, reason: str) -> Decision:
        self._record(request, call, answer, reason)
        return Decision(answer)

    def _accept(self, request: Request, provider: Provider, call: Call) -> Accepted:
        accepted = provider.accept(call, request, self.access)
        rule = self.refusals.hit(call, accepted.events)
        if rule is not None:
            reason = f"refused by rule: {rule.field}"
            raise Refused(provider.error(rule.code or provider.event_code, call, reason), reason)
        if accepted.records and call.provider in self._seen:
            digest = hash((call.key, call.method, request.body))
            with self._seen_lock:
                seen = self._seen.get(call.provider, set())
                duplicate = digest in seen
                seen.add(digest)
            if duplicate:
                raise Refused(provider.error(409, call, "duplicate record"), "duplicate record")
        return accepted

    def _limits_of(self, provider: Provider, call: Call) -> tuple[Window, ...]:
        for key in (call.key, None):
            limits = self._limits.get((call.provider, key))
            if limits is not None:
                return limits
        text = provider.limits(call)
        if text not in self._parsed:
            self._parsed[text] = parse_limits(text)
        return self._parsed[text]

    def _faulted(self, request: Request, provider: Provider, call: Call, fault: Fault) -> Decision:
        """A fault before anything was recorded."""
        wording = provider.error(fault.code, call) if fault.code else None
        answer = fault.answer(wording) or provider.error(503, call)
        self._record(request, call, answer, f"fault {fault.kind}", fault=fault)
        return Decision(answer, fault.delivery, fault)

    def _finish(
        self,
        request: Request,
        provider: Provider,
        call: Call,
        fault: Fault | None,
        answer: Answer,
        note: str,
        accepted: Accepted | None = None,
    ) -> Decision:
        reason = note
        if accepted is not None:
            done = "recorded" if accepted.records else "answered"
            reason = f"{done}; {note}" if note else done
        if fault is None:
            self._record(request, call, answer, reason, accepted)
            return Decision(answer)
        wording = provider.error(fault.code, call) if fault.code else None
        answer = fault.answer(wording) or answer
        self._record(request, call, answer, f"{reason}; fault {fault.kind}", accepted, fault)
        return Decision(answer, fault.delivery, fault)

    def _record(
        self,
        request: Request,
        call: Call,
        answer: Answer,
        reason: str,
        accepted: Accepted | None = None,
        fault: Fault | None = None,
    ) -> None:
        silent = fault is not None and fault.delivery in (Delivery.RESET, Delivery.CLOSE, Delivery.HOLD)
        headers = request.headers
        self.ledger.append(
            Record(
                seq=0,
                at=request.arrived_at,
                mono=request.arrived_mono,
                provider=call.provider,
                key=call.key,
                account=self.access.name(call.provider, call.key) or call.account,
                method=call.method,
                http_method=request.http_method,
                path=call.path,
                status=None if silent else answer.status,
                code=0 if silent else answer.code,
                reason=reason,
                fault=fault.kind if fault else "",
                recorded=accepted is not None and accepted.records,
                count=len(accepted.events) if accepted else 0,
                body=request.body,
                headers={name: headers[name] for name in HEADERS if name in headers},
            )
        )
