"""The control API below ``/_sandbox/``: read the ledger, set faults, revoke keys, script answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .engine import Engine
from .exchange import Answer, BadJSON, Request, fingerprint, json_answer, parse_json
from .faults import Fault
from .pages import overview
from .providers.tgtrack import TGTrack
from .providers.tonapi import TonAPI
from .refusals import Refusal

_TRUE = ("1", "true", "yes")


class Control:
    """Answers control requests. Keys in them are taken as they are and kept only as fingerprints."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._routes: dict[tuple[str, str], Callable[[Request], Answer]] = {
            ("GET", ""): self._page,
            ("GET", "ledger"): self._ledger,
            ("GET", "stats"): lambda request: json_answer(200, engine.ledger.stats()),
            ("GET", "faults"): lambda request: json_answer(
                200, {"faults": [fault.to_json() for fault in engine.faults.listed()]}
            ),
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._clear_faults,
            ("POST", "refuse"): self._refuse,
            ("DELETE", "refuse"): self._clear_refusals,
            ("POST", "revoke"): self._revoke,
            ("POST", "restore"): self._restore,
            ("POST", "scope"): self._scope,
            ("POST", "limits"): self._limits,
            ("POST", "errors"): self._errors,
            ("POST", "mode"): self._mode,
            ("POST", "duplicates"): self._duplicates,
            ("POST", "tonapi"): self._script,
            ("POST", "user"): self._user,
            ("POST", "reset"): self._reset,
        }

    def answer(self, request: Request) -> Answer:
        """Answer one request below ``/_sandbox/``; every mistake of the caller is a 400 with one sentence."""
        if request.path.startswith("/last_events"):
            return self._page(request)
        name = request.path.removeprefix("/_sandbox").strip("/")
        if name == "redirected":
            return self._engine.record_redirected(request)
        # A web page must not steer the sandbox of the developer who visits it.
        origin = request.headers.get("origin")
        if origin and urlsplit(origin).netloc != request.headers.get("host"):
            return json_answer(403, {"error": "requests from other origins are refused"})
        route = self._routes.get(("GET" if request.http_method == "HEAD" else request.http_method, name))
        if route is None:
            allowed = sorted(method for method, known in self._routes if known == name)
            return json_answer(
                405 if allowed else 404,
                {"error": f"{request.http_method} {name!r} is no control request", "allowed": allowed},
            )
        try:
            return route(request)
        except (ValueError, TypeError) as error:
            return json_answer(400, {"error": str(error)})

    def _page(self, request: Request) -> Answer:
        ledger = self._engine.ledger
        body = overview(ledger.records(last=100), ledger.stats(), self._engine.faults.listed(), self._engine.access)
        policy = (
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Answer(200, body.encode("utf-8", "replace"), "text/html; charset=utf-8", headers)

    def _ledger(self, request: Request) -> Answer:
        query = {name: values[-1] for name, values in parse_qs(request.query).items()}
        known = {"provider", "recorded", "since", "key", "method", "last"}
        if query.keys() - known:
            raise ValueError(f"the ledger has no filter {', '.join(sorted(query.keys() - known))}")
        recorded = query.get("recorded")
        records = self._engine.ledger.records(
            provider=query.get("provider"),
            recorded=None if recorded is None else recorded.lower() in _TRUE,
            since=int(query.get("since", 0)),
            key=query.get("key"),
            method=query.get("method"),
            last=int(query["last"]) if "last" in query else None,
        )
        return json_answer(200, {"seq": self._engine.ledger.seq, "records": [record.to_json() for record in records]})

    def _add_fault(self, request: Request) -> Answer:
        return json_answer(201, self._engine.add_fault(Fault.parse(_object(request))).to_json())

    def _clear_faults(self, request: Request) -> Answer:
        given = parse_qs(request.query).get("id")
        return json_answer(200, {"removed": self._engine.faults.clear(int(given[0]) if given else None)})

    def _refuse(self, request: Request) -> Answer:
        rule = Refusal.parse(_object(request))
        self._engine.provider(rule.provider)
        self._engine.refusals.add(rule)
        return _done()

    def _clear_refusals(self, request: Request) -> Answer:
        self._engine.refusals.clear()
        return _done()

    def _revoke(self, request: Request) -> Answer:
        body = _object(request)
        provider, key = self._provider(body), _text(body, "key")
        self._engine.access.revoke(provider, key, _integer(body, "code", 0))
        return _done()

    def _restore(self, request: Request) -> Answer:
        body = _object(request)
        self._engine.access.restore(self._provider(body), _text(body, "key"))
        return _done()

    def _scope(self, request: Request) -> Answer:
        body = _object(request)
        self._engine.access.scope(self._provider(body), _text(body, "key"), _text(body, "scope"))
        return _done()

    def _limits(self, request: Request) -> Answer:
        body = _object(request)
        limits = body.get("limits")
        if limits is not None and not isinstance(limits, str):
            raise ValueError("limits must be a text like '3/second; 500/hour', or null")
        self._engine.set_limits(self._provider(body), limits, _key(body))
        return _done()

    def _errors(self, request: Request) -> Answer:
        body = _object(request)
        self._engine.provider(self._provider(body)).set_style(_text(body, "style"), _key(body))  # type: ignore[arg-type]
        return _done()

    def _mode(self, request: Request) -> Answer:
        body = _object(request)
        provider = self._engine.providers["tgtrack"]
        assert isinstance(provider, TGTrack)
        provider.set_mode(_text(body, "mode"), _key(body))
        return _done()

    def _duplicates(self, request: Request) -> Answer:
        body = _object(request)
        self._engine.watch_duplicates(self._provider(body), body.get("on", True) is True)
        return _done()

    def _script(self, request: Request) -> Answer:
        body = _object(request)
        answers = body.get("answers")
        if not isinstance(answers, list):
            raise ValueError("answers must be an array")
        provider = self._engine.providers["tonapi"]
        assert isinstance(provider, TonAPI)
        provider.script(_text(body, "event_id"), answers)
        return _done()

    def _user(self, request: Request) -> Answer:
        body = _object(request)
        data = body.get("data")
        if not isinstance(data, dict):
            raise ValueError("data must be an object")
        provider = self._engine.providers["tgtrack"]
        assert isinstance(provider, TGTrack)
        provider.set_user(_text(body, "user_id"), data)
        return _done()

    def _reset(self, request: Request) -> Answer:
        self._engine.clear()
        return _done()

    def _provider(self, body: dict[str, Any]) -> str:
        return self._engine.provider(_text(body, "provider")).name


def _done() -> Answer:
    return json_answer(200, {"status": "OK"})


def _object(request: Request) -> dict[str, Any]:
    try:
        body = parse_json(request.body)
    except BadJSON as error:
        raise ValueError(str(error)) from error
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a non-empty string")
    return value


def _integer(body: dict[str, Any], name: str, default: int) -> int:
    value = body.get(name, default)
    if type(value) is not int:
        raise ValueError(f"{name} must be a whole number")
    return value


def _key(body: dict[str, Any]) -> str | None:
    return fingerprint(_text(body, "key")) if body.get("key") is not None else None
