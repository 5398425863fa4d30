from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postback.wire.time import iso, moment


@pytest.mark.parametrize(("ms", "text"), [(0, "1970-01-01T00:00:00.000Z"), (1.9, "1970-01-01T00:00:00.001Z")])
def test_iso(ms: float, text: str) -> None:
    """Moments are UTC with milliseconds."""
    assert iso(ms) == text


@given(ms=st.integers(min_value=0, max_value=4_102_444_800_000))
def test_back(ms: int) -> None:
    """What is written is read as the same moment."""
    assert moment(iso(ms)) == pytest.approx(ms / 1000, abs=0.001)


@pytest.mark.parametrize(
    "text",
    [None, 17, "", "tomorrow", "2026-13-01", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "1" * 300],
)
def test_no_moment(text: object) -> None:
    """What is no time, or lies outside of UTC's years, is none."""
    assert moment(text) is None


def test_without_a_zone() -> None:
    """A time without a zone is UTC, whatever the zone of the machine is."""
    assert moment("1970-01-01T01:00:00") == 3600
