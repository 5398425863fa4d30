from __future__ import annotations

from typing import Any

import pytest

from postback import tganalytics
from postback._events.fields import number, text
from postback._events.values import Refused


@pytest.mark.parametrize("shown", ["person", "personal ", "", None])
def test_an_unknown_way_to_show(shown: Any) -> None:
    """A misspelled way to show a field fails when its class is made, not when a person is shown."""
    with pytest.raises(ValueError, match=r"shown must be plain or hidden, not .*personal=True"):
        text(max_chars=20, shown=shown)


def test_personal() -> None:
    """A personal field is shortened where it is shown, and is one that an erasure searches."""
    assert {"user_id", "wallet_address", "from"} <= tganalytics.Event.person_fields()
    wire = {"event_name": "app-init", "user_id": 123456789, "wallet_address": "EQ-wallet-1"}
    assert "user=12…89" in tganalytics.Event.summary(wire)
    assert "EQ-wallet-1" not in tganalytics.Event.summary(wire)


@pytest.mark.parametrize("value", [-1, -0.5, -(10**30)])
def test_a_number_below(value: float) -> None:
    """A number below its bound is refused; the bound itself is taken."""
    field = number(low=0)
    with pytest.raises(Refused, match="must be 0 or more"):
        field.check(value)
    assert field.check(0) == 0
