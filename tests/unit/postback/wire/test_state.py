from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postback.wire.state import MAX_AGE_MS, MAX_COUNTED, DeliveryState

COUNTS = st.integers(min_value=0, max_value=MAX_COUNTED)


def test_parse() -> None:
    """The text that the scripts write."""
    state = DeliveryState.parse("attempts=2 tries=1 first=1732240000000000 duplicate=1 crashes=1 polls=3 due=9")
    assert state == DeliveryState(2, 1, 1732240000000000, True, 1, 3)


@pytest.mark.parametrize("text", [None, "", 17, [], {"attempts": 1}, "attempts", "attempts=", "=1", "attempts=-1"])
def test_none(text: object) -> None:
    """Anything else is no state."""
    assert DeliveryState.parse(text) == DeliveryState()


@given(text=st.text(max_size=60) | st.from_regex(r"(attempts|first|polls)=\w{0,25}( duplicate=\d)?", fullmatch=True))
def test_any_text(text: str) -> None:
    """Whatever stands in the header is read as numbers, 0 or more."""
    state = DeliveryState.parse(text)
    assert min(state.attempts, state.tries, state.first_us, state.crashes, state.polls) >= 0


@given(
    state=st.builds(
        DeliveryState, COUNTS, COUNTS, st.integers(min_value=0, max_value=1732240000000000), st.booleans(), COUNTS,
        COUNTS, COUNTS, st.integers(min_value=0, max_value=MAX_AGE_MS),
    )
)  # fmt: skip
def test_back(state: DeliveryState) -> None:
    """What is written is read as the same state."""
    assert DeliveryState.parse(state.text()) == state
