"""The control API below ``/_sandbox/``.

Read the ledger, set faults, revoke keys, script answers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .engine import Engine
from .exchange import Answer, BadJSON, Request, fingerprint, json_answer, parse_json
from .faults import Fault
from .pages import overview
from .refusals import Refusal

_TRUE = ("1", "true", "yes")


class Control:
    """Answers control requests.

    Keys in them are taken as they are and kept only as fingerprints.
    """

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
            ("POST", "duplicates"): self._duplicates,
            ("POST", "reset"): self._reset,
        }
        for provider in engine.providers.values():
            for path, method in provider.controls.items():
                if ("POST", path) in self._routes:
                    raise TypeError(f"{provider.name}: the sandbox has a control {path!r} already")
                self._routes["POST", path] = partial(_call, engine.methods[method])

    def answer(self, request: Request) -> Answer:
        """Answer one request below ``/_sandbox/``.

        Every mistake of the caller is a 400 with one sentence.
        """
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
            error = {"error": f"{request.http_method} {name!r} is no control request", "allowed": allowed}
            if allowed:
                return json_answer(405, error)
            return json_answer(404, {**error, "controls": sorted({control for _, control in self._routes})})
        try:
            return route(request)
        except (ValueError, TypeError) as error:
            return json_answer(400, {"error": str(error)})

    def _page(self, request: Request) -> Answer:
        body = overview(self._engine)
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
        ids = parse_qs(request.query).get("id")
        return json_answer(200, {"removed": self._engine.faults.clear(int(ids[0]) if ids else None)})

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
        self._engine.provider(self._provider(body)).set_errors(_text(body, "style"), _key_text(body))  # type: ignore[arg-type]
        return _done()

    def _duplicates(self, request: Request) -> Answer:
        body = _object(request)
        self._engine.watch_duplicates(self._provider(body), body.get("on", True) is True)
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


def _key_text(body: dict[str, Any]) -> str | None:
    return _text(body, "key") if body.get("key") is not None else None


def _key(body: dict[str, Any]) -> str | None:
    key = _key_text(body)
    return None if key is None else fingerprint(key)


def _call(method: Callable[..., None], request: Request) -> Answer:
    """Call a provider's method with the body's fields; it checks them itself."""
    body = _object(request)
    _key_text(body)  # a key is a non-empty text, whichever method takes it
    arguments = inspect.signature(method).bind(**body)
    method(*arguments.args, **arguments.kwargs)
    return _done()
