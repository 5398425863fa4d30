from __future__ import annotations

import pytest

from postback.wire.windows import Window, parse_windows


@pytest.mark.parametrize(
    "notation",
    [
        "",
        "3",
        "second",
        "3/fortnight",
        "3/sec",
        "3/second;",
        "3/second 4/minute",
        "3/second and then some",
        "-3/second",
        "1.5/second",
        "3/second; nonsense",
    ],
)
def test_nonsense(notation: str) -> None:
    """What the notation does not know is refused with an example of what it knows."""
    with pytest.raises(ValueError, match="500/hour"):
        parse_windows(notation)


@pytest.mark.parametrize("notation", ["0/second", "3/second; 0 per day", "1/0 seconds", "5 per 0 minutes"])
def test_zero(notation: str) -> None:
    """A zero is refused: as an amount it would stop the account, as a length it means nothing."""
    with pytest.raises(ValueError, match="zero"):
        parse_windows(notation)


@pytest.mark.parametrize("notation", ["5000/month", "3/second; 100000 per 2 years"])
def test_no_fixed_length(notation: str) -> None:
    """Months and years are refused: 30 days would be shorter than a provider's longest month."""
    with pytest.raises(ValueError, match="days"):
        parse_windows(notation)


def test_too_many() -> None:
    """A limit whose log would not fit in Redis is refused."""
    with pytest.raises(ValueError, match="1,000,000"):
        parse_windows("1000001/day")


@pytest.mark.parametrize(
    ("notation", "expected"),
    [
        ("3/second", Window(3, 1.0, "3/second")),
        ("3 / SECOND", Window(3, 1.0, "3/second")),
        ("20 per 10 seconds", Window(20, 10.0, "20 per 10 seconds")),
        ("20/10 second", Window(20, 10.0, "20 per 10 seconds")),
        ("1 per 4 seconds", Window(1, 4.0, "1 per 4 seconds")),
        ("5000/day", Window(5000, 86400.0, "5000/day")),
        ("7 per 2 hours", Window(7, 7200.0, "7 per 2 hours")),
    ],
)
def test_one(notation: str, expected: Window) -> None:
    """Spaces, case and plural do not matter; the text is always written the same way."""
    assert parse_windows(notation) == (expected,)


def test_order() -> None:
    """Windows come shortest first, however they were written."""
    lengths = [window.window_s for window in parse_windows(" 5000/day ;3/second; 500/hour")]
    assert lengths == [1.0, 3600.0, 86400.0]


@pytest.mark.parametrize("notation", ["3/second; 5/second", "5/second; 3/second", "180/minute; 60 per 60 seconds"])
def test_same_length(notation: str) -> None:
    """Of two windows with the same length the stricter stays."""
    assert len(parse_windows(notation)) == 1
    assert parse_windows(notation)[0].limit in (3, 60)
