"""The quota's arithmetic, without Redis."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postback.operations.quota import PLAYED, Log, read_ring, share_s
from postback.wire.windows import Window

NOW = 1_732_240_000_000.0
TGTRACK = (Window(3, 1, "3/second"), Window(500, 3600, "500/hour"), Window(5000, 86_400, "5000/day"))


@pytest.mark.parametrize(
    ("requests", "hours"),
    [(0, 0), (1, 0), (500, 0), (501, 1), (4500, 8), (5000, 9), (5001, 24), (10_000, 33), (50_000, 9 * 24 + 9)],
)
def test_drain(requests, hours):
    """A fresh TGTrack account: 500 at once each hour, until the day's 5,000 are spent; then the
    next day.
    """
    assert Log(NOW, [], 0).drain_s(TGTRACK, requests) / 3600 == pytest.approx(hours, abs=0.1)


def test_a_day_of_quota():
    """5,000 events are 24 h of quota, however fast the first of them may go."""
    assert share_s(TGTRACK, 5000) == 86_400
    assert share_s((), 5000) == 0


def test_no_quota():
    """Without a quota nothing waits, except for a pause."""
    assert Log(NOW, [], 0).drain_s((), 10_000) == 0
    assert Log(NOW, [], 0).drain_s((), 10_000, begin_s=60) == 60


@settings(deadline=None, max_examples=30)
@given(
    limits=st.lists(
        st.tuples(st.integers(1, 2000), st.sampled_from([1, 10, 60, 3600])), min_size=1, max_size=3, unique_by=lambda one: one[1]
    ),
    ages_s=st.lists(st.floats(0, 4000), max_size=20),
    flying=st.integers(0, 3),
    more=st.integers(1, 20_000),
)  # fmt: skip
def test_a_long_forecast_is_the_played_one(limits, ages_s, flying, more):
    """Repeating the tightest window tells the same as playing every request, within a cycle of
    it.
    """
    windows = [Window(limit, window_s, "") for limit, window_s in limits]
    log = Log(NOW, sorted(NOW - age_s * 1000 for age_s in ages_s), flying)
    requests = PLAYED + more
    times = [*log.answered_ms, *[NOW] * flying]
    at = NOW
    for _ in range(requests):
        for window in windows:
            if len(times) >= window.limit:
                at = max(at, times[-window.limit] + window.padded_ms)
        times.append(at)
    slowest = max(window.padded_ms / window.limit for window in windows)
    tolerance_s = max(window.padded_ms for window in windows) / 1000 + slowest
    assert log.drain_s(windows, requests) == pytest.approx((at - NOW) / 1000, abs=tolerance_s)


class TestUsage:
    def test_nothing_used(self):
        """All is left and nothing is to return."""
        usage = Log(NOW, [], 0).usage(TGTRACK[0])
        assert (usage.used, usage.remaining, usage.resets_in_s, usage.all_back_in_s) == (0, 3, 0, 0)

    def test_some_used(self):
        """The next slot returns when the oldest that counts is a window old."""
        usage = Log(NOW, [NOW - 2000, NOW - 900, NOW - 100], 0).usage(TGTRACK[0])
        assert (usage.used, usage.remaining) == (2, 1)
        assert usage.resets_in_s == pytest.approx(0.1, abs=0.01)
        assert usage.all_back_in_s == pytest.approx(0.9, abs=0.01)

    def test_in_flight_counts(self):
        """A request on the wire counts, and its slot returns a window after its answer at the
        earliest.
        """
        usage = Log(NOW, [], 2).usage(TGTRACK[0])
        assert (usage.used, usage.remaining) == (2, 1)
        assert usage.resets_in_s == pytest.approx(1, abs=0.01)

    def test_more_used_than_allowed(self):
        """After a limit was lowered: nothing is left until so many have returned that one more
        fits.
        """
        usage = Log(NOW, [NOW - 900, NOW - 500, NOW - 400, NOW - 300], 0).usage(TGTRACK[0])
        assert (usage.used, usage.remaining) == (4, 0)
        assert usage.resets_in_s == pytest.approx(0.5, abs=0.01)


class TestRing:
    def packed(self, *times):
        return b"".join(struct.pack(">d", at) for at in times)

    def test_not_full(self):
        """Entries in order, whatever stands behind them."""
        assert read_ring(self.packed(1, 2, 3, 9), 3, 5) == [1, 2, 3]

    def test_wrapped_around(self):
        """The oldest first."""
        assert read_ring(self.packed(6, 7, 3, 4, 5), 7, 5) == [3, 4, 5, 6, 7]

    @pytest.mark.parametrize(("ring", "sequence", "size"), [(b"", 0, 0), (b"", 9, 5), (b"xyz", 1, 5), (b"", 3, 0)])
    def test_broken(self, ring, sequence, size):
        """A log that is not there or cut is empty."""
        assert read_ring(ring, sequence, size) == []
