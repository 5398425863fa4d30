from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from postback.sandbox import Sandbox

JSON = {"Content-Type": "application/json"}


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A plain HTTP client with one kept connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, *, chunked: bool = False
    ) -> Reply:
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        payload = iter([body[:3], body[3:]]) if chunked else body
        try:
            self.connection.request(method, path, payload, headers or {}, encode_chunked=chunked)
            answer = self.connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise

    def get(self, path: str, **headers: str) -> Reply:
        return self.send("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        return self.send("POST", path, body, JSON if headers is None else headers)

    def tgtrack(self, method: str, body: Any, key: str = "KEY", headers: dict[str, str] | None = None) -> Reply:
        return self.post(f"/v1/{key}/{method}", body, headers)

    def mytracker(self, method: str, body: Any, token: str | None = "TOKEN", query: str = "?idApp=666") -> Reply:
        return self.post(f"/v1/{method}/{query}", body, {"Authorization": token} if token is not None else {})

    def tganalytics(self, body: Any, token: str | None = "TOKEN", headers: dict[str, str] | None = None) -> Reply:
        return self.post(
            "/events", body, (JSON if headers is None else headers) | ({"TGA-Auth-Token": token} if token else {})
        )

    def tonai(self, body: Any, key: str | None = "KEY") -> Reply:
        path = "/api/v2/openapi/exchange/event/report/conversion"
        return self.post(path, body, JSON | ({"x-api-key": key} if key else {}))


class Clock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


NO_LIMITS: dict[str, str | None] = {"tgtrack": None, "tonapi": None}

MakeSandbox = Callable[..., Sandbox]


@pytest.fixture
def make() -> Iterator[MakeSandbox]:
    made: list[Sandbox] = []

    def start(**options: Any) -> Sandbox:
        sandbox = Sandbox(**({"limits": NO_LIMITS} | options))
        made.append(sandbox)
        sandbox.start()
        return sandbox

    yield start
    for sandbox in made:
        sandbox.close()


@pytest.fixture
def sandbox(make: MakeSandbox) -> Sandbox:
    return make()


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    client = Client(sandbox.port)
    yield client
    client.connection.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connect() -> Iterator[Callable[[Sandbox], Client]]:
    clients: list[Client] = []

    def connect(sandbox: Sandbox) -> Client:
        clients.append(Client(sandbox.port))
        return clients[-1]

    yield connect
    for client in clients:
        client.connection.close()
