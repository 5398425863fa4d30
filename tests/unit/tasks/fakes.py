"""Messages, grants and a provider's server in memory."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from config.accounts import Account, build_account
from tasks.delivery import Delivery, Report
from tasks.envelopes import open_envelope
from tasks.grants import GRANT_PREFIX, Grant
from tasks.outcomes import Verdict
from tasks.provider import Provider
from tasks.providers import PROVIDERS
from tasks.request import Answer, Asked, HttpRequest
from tasks.rulings import Dead, Ruling

#: What one account of each provider needs.
TABLES: dict[str, dict[str, object]] = {
    "tgtrack": {"api_key": "bot-key-1"},
    "mytracker": {"id_app": 666, "token": "tracker-token"},
    "tganalytics": {"token": "analytics-token", "app_name": "docs"},
    "tonai": {"api_key": "ai-key", "environment": "staging"},
    "tonapi": {"token": "api-token"},
}
#: A valid event of some tasks.
EVENTS: dict[str, dict[str, Any]] = {
    "tgtrack.add_event": {"user_id": "987654321", "event_type": "sale", "date": 1622520000},
    "tgtrack.send_reach_goal": {"user_id": "987654321", "target": "phone"},
    "tgtrack.get_user_info": {"user_id": "987654321"},
    "mytracker.login": {"customUserId": "17", "eventTimestamp": 1622520000},
    "tonai.conversion": {"eventType": "conversion", "eventData": {"telegramUserId": "17"}},
    "tonapi.get_event": {"event_id": "ab" * 32},
}

OK = Answer(200, {}, b'{"status": "OK"}')


def account(provider: str = "tgtrack", **changes: object) -> Account:
    """An account named ``main``."""
    return build_account(provider, "main", {**TABLES[provider], **changes})


def message(
    task: str = "tgtrack.add_event", *, id: str = "event-1", body: Any = None, headers: Any = None, **kwargs: Any
) -> bytes:
    """A Celery message as it lies in a queue.

    Args:
        task: Its task.
        id: Its id.
        body: In place of ``[args, kwargs, embed]``.
        headers: More of them; None as a value takes one out.
        **kwargs: In place of ``account`` and ``event``.
    """
    arguments = {"account": "main", "event": EVENTS.get(task, {}), **kwargs}
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    text = json.dumps([[], arguments, embed] if body is None else body)
    every = {"id": id, "task": task, "lang": "py", "postback_at": int(time.time() * 1000), **(headers or {})}
    return json.dumps(
        {
            "body": base64.b64encode(text.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {name: value for name, value in every.items() if value is not None},
            "properties": {"body_encoding": "base64", "priority": 3, "delivery_tag": "x", "delivery_info": {}},
        }
    ).encode()


def grant_of(*raws: bytes, queue: str = "tgtrack.main", siblings: Sequence[bytes] = (), **more: Any) -> Grant:
    """A grant of these messages, with half a minute of lease left."""
    options = {"granted_us": int(time.time() * 1e6), "lease_end": time.monotonic() + 30, **more}
    envelopes = [open_envelope(raw) for raw in raws]
    return Grant(
        f"{GRANT_PREFIX}test.1", queue, envelopes, siblings=[open_envelope(raw) for raw in siblings], **options
    )


def ruled(grant: Grant, *rulings: Ruling) -> Grant:
    """The grant with these rulings on its events."""
    for envelope, ruling in zip(grant.envelopes, rulings, strict=True):
        envelope.ruling = ruling
    return grant


class Server:
    """A sender that answers by itself and remembers what it was asked."""

    def __init__(self, *answers: Answer | Exception | Callable[[HttpRequest], Answer]) -> None:
        """The last answer is repeated; without any, everything is OK."""
        self.answers = list(answers) or [OK]
        self.requests: list[HttpRequest] = []

    def send(self, request: HttpRequest, account: Account) -> Answer:
        """See :class:`tasks.request.Sender`."""
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Answer) else answer(request)


class Says(Provider):
    """A provider whose every answer means the same."""

    name = "tgtrack"

    def __init__(self, verdict: Verdict) -> None:
        """Say ``verdict``."""
        self.verdict = verdict
        self.asked: list[Asked] = []

    def request(self, account: Account, method: str, bodies: Sequence[bytes]) -> HttpRequest:
        """Some request."""
        return HttpRequest("POST", account.base_url, {}, b"\n".join(bodies))

    def classify(self, answer: Answer, asked: Asked) -> Verdict:
        """As it was told."""
        self.asked.append(asked)
        return self.verdict


class Deliverer:
    """What delivers for an account, over a server in memory."""

    def __init__(
        self, to: Account, server: Server, provider: Provider | None = None, scrub: Callable[[str], str] = str
    ) -> None:
        """Deliver for ``to``."""
        self.provider = provider or PROVIDERS[to.provider]
        self._delivery, self._server = Delivery(to, self.provider, scrub), server

    def deliver(self, grant: Grant) -> Report:
        """One grant."""
        return self._delivery.deliver(grant, self._server)


delivery = Deliverer


def dead_of(grant: Grant, index: int = 0) -> Dead:
    """The ruling on one event, which must be a dead letter."""
    ruling = grant.envelopes[index].ruling
    assert isinstance(ruling, Dead), ruling
    return ruling


def letter_of(grant: Grant, index: int = 0) -> dict[str, Any]:
    """The dead letter of one event."""
    letter: dict[str, Any] = json.loads(dead_of(grant, index).letter)
    return letter


def halves_of(report: Report) -> list[list[list[str]]]:
    """Ids of the events in each half, and in its sibling."""
    return [[[envelope.id for envelope in part] for part in half] for half in report.settlement.halves]
