"""The demo's judgement: whatever is not as it must be fails it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from postback.sandbox.ledger import Record
from workers.demo import board, scenario
from workers.demo.board import Board
from workers.demo.readings import Reading


def recorded(provider: str, body: bytes) -> Record:
    """A request that recorded an event."""
    return Record(
        1, 1767225600.0, 0.0, provider, "1", "", "event", "POST", "/", 200, 200, "recorded", "", True, 1, body
    )


def as_it_must_be() -> Board:
    readings = {
        cast.queue: Reading(
            cast.delivered,
            cast.waiting,
            0,
            ("rejected 422",) * cast.dead,
            None,
            "",
            cast.requests[0],
            1,
            cast.recorded,
            0,
        )
        for cast in scenario.CAST
    }
    readings["tgtrack.shop"] = replace(readings["tgtrack.shop"], until=time.time() + 3500, reason="quota")
    readings["tgtrack.old"] = replace(readings["tgtrack.old"], reason="credentials")
    return Board(readings)


def test_no_faults() -> None:
    """Nothing is found where nothing is wrong."""
    assert board.faults(as_it_must_be(), [], {"x": {}}, 0.0) == []


@pytest.mark.parametrize(
    ("queue", "change"),
    [
        ("tgtrack.main", {"delivered": 14}),
        ("tgtrack.main", {"dead": ()}),
        ("tgtrack.main", {"dead": ("invalid",)}),
        ("tgtrack.shop", {"too_many": 1}),
        ("tgtrack.shop", {"until": time.time() + 1}),
        ("tgtrack.shop", {"requests": 21}),
        ("tgtrack.old", {"reason": "outage"}),
        ("mytracker.game", {"recorded": 246}),
        ("tganalytics.docs", {"requests": 60}),
        ("tonai.main", {"waiting": 1}),
        ("tonapi.main", {"in_flight": 1}),
    ],
)
def test_faults(queue: str, change: dict[str, Any]) -> None:
    """Any number that is not as it must be fails the demo and names the account."""
    wrong = as_it_must_be()
    wrong.accounts[queue] = replace(wrong.accounts[queue], **change)
    found = board.faults(wrong, [], {}, 0.0)
    assert found
    assert all(fault.startswith(queue) for fault in found)


def test_missing_result() -> None:
    """A look-up without an answer fails the demo."""
    assert board.faults(as_it_must_be(), [], {"tonapi.GetEvent": None}, 0.0) == ["tonapi.GetEvent: no result"]


def test_recorded_twice() -> None:
    """An event that a provider has twice fails the demo."""
    record = recorded("tonai", b'{"a": 1}')
    assert board.faults(as_it_must_be(), [record, record], {}, 0.0) == ["1 events were recorded twice"]


def test_too_early() -> None:
    """An event that came before its countdown fails the demo."""
    record = recorded("tgtrack", b'{"event_type": "reminder"}')
    assert board.faults(as_it_must_be(), [record], {}, record.at + 3) == ["the event with a countdown came 3.0 s early"]
