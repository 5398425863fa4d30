from __future__ import annotations

import pytest

from postback.sandbox.windows import Windows, parse_limits
from postback.wire.windows import Window

SALE = {"user_id": "1", "event_type": "sale"}
BUCKET = ("tgtrack", "5ca24005", "")


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("3/second; 500/hour; 5000/day", [(3, 1), (500, 3600), (5000, 86400)]),
        ("20 per 10 seconds", [(20, 10)]),
        ("1 per 4 seconds, 2/minute", [(1, 4), (2, 60)]),
        ("1 / 2 hours", [(1, 7200)]),
        ("1 per day", [(1, 86400)]),
        ("", []),
        (None, []),
    ],
)
def test_notation(text, limits):
    """The notation of the accounts file is read."""
    assert [(limit.limit, limit.window_s) for limit in parse_limits(text)] == limits


@pytest.mark.parametrize(
    "text", ["3", "3/fortnight", "0/second", "1 per 0 seconds", "-1/day", "many/day", "3 second", "1/month"]
)
def test_bad_notation(text):
    """What is not in the notation is refused with the text that is wrong."""
    with pytest.raises(ValueError, match="limits"):
        parse_limits(text)


def test_edge(clock):
    """A window ends exactly at its phase: full just before it, empty just after."""
    windows = Windows(clock, seed=7)
    limits = parse_limits("2 per 10 seconds")
    edge = 500_000 + windows.phase_s(BUCKET, 10)
    clock.now = edge - 0.001
    assert [windows.count(BUCKET, limits) for _ in range(3)] == [None, None, limits[0]]
    clock.now = edge + 0.001
    assert [windows.count(BUCKET, limits) for _ in range(3)] == [None, None, limits[0]]


def test_double_at_the_edge(clock):
    """Fixed windows let twice the limit pass around an edge, as the provider's do."""
    windows = Windows(clock, seed=7)
    limits = parse_limits("3/second")
    edge = 500_000 + windows.phase_s(BUCKET, 1)
    passed = 0
    for offset in (-0.2, 0.2):
        clock.now = edge + offset
        passed += sum(windows.count(BUCKET, limits) is None for _ in range(5))
    assert passed == 6


def test_phases_differ(clock):
    """Each key and window has a phase of its own, the same for the same seed."""
    windows = Windows(clock, seed=7)
    phases = {windows.phase_s(("tgtrack", key, ""), 3600) for key in "abc"}
    assert len(phases) == 3
    assert windows.phase_s(BUCKET, 3600) == Windows(clock, seed=7).phase_s(BUCKET, 3600)
    assert windows.phase_s(BUCKET, 3600) != Windows(clock, seed=8).phase_s(BUCKET, 3600)


def test_denied_requests_count(clock):
    """A request that one window refuses counts in the others: hammering does not help."""
    windows = Windows(clock, seed=7)
    limits = parse_limits("1/second; 5/hour")
    clock.now = 36_000 + windows.phase_s(BUCKET, 3600)
    for _ in range(5):
        windows.count(BUCKET, limits)
    clock.now += 2
    assert windows.count(BUCKET, limits) == limits[1]


def test_new_limits_keep_counts(clock):
    """Limits changed on the way keep what their windows have counted."""
    windows = Windows(clock, seed=7)
    for _ in range(3):
        windows.count(BUCKET, parse_limits("3/day"))
    assert windows.count(BUCKET, parse_limits("4/day")) is None
    assert windows.count(BUCKET, parse_limits("4/day")) == Window(4, 86400.0, "4/day")


def test_keys_do_not_share(make, connect, clock):
    """One key's requests do not count for another's."""
    client = connect(make(limits={"tgtrack": "1/second"}, clock=clock))
    assert [client.tgtrack("add_event", SALE, key=key).status for key in "AABB"] == [200, 429, 200, 429]


def test_edge_over_http(make, connect, clock):
    """The phase a sandbox reports is the one it keeps."""
    sandbox = make(limits={"tgtrack": "1 per 10 seconds"}, clock=clock, seed=3)
    client = connect(sandbox)
    edge = 500_000 + sandbox.phase_s("tgtrack", "KEY", 10)
    statuses = []
    for moment in (edge + 0.01, edge + 9.99, edge + 10.01):
        clock.now = moment
        statuses.append(client.tgtrack("add_event", SALE).status)
    assert statuses == [200, 429, 200]


def test_reason(make, connect):
    """The ledger says which limit was exceeded, and the request is not recorded."""
    sandbox = make(limits={"tgtrack": "1/day; 5 per 30 days"})
    client = connect(sandbox)
    for _ in range(2):
        client.tgtrack("add_event", SALE)
    assert sandbox.ledger()[1].reason == "over the limit of 1/day"
    assert len(sandbox.events()) == 1


def test_limits_of_one_key(client, sandbox):
    """The provider may raise or lower the limits of one key."""
    sandbox.set_limits("tgtrack", "1/day", key="SMALL")
    assert [client.tgtrack("add_event", SALE, key="SMALL").status for _ in range(2)] == [200, 429]
    assert [client.tgtrack("add_event", SALE).status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("limits", [{"nobody": "1/day"}, {"tgtrack": "often"}])
def test_bad_limits(make, limits):
    """Limits for nobody and in no notation are refused at once."""
    with pytest.raises(ValueError, match=r"nobody|often"):
        make(limits=limits)


def test_refused_key_does_not_count(make, connect):
    """Requests with a refused key use up nothing."""
    sandbox = make(limits={"tgtrack": "1/day"})
    client = connect(sandbox)
    sandbox.revoke("tgtrack", "KEY")
    client.tgtrack("add_event", SALE)
    sandbox.restore("tgtrack", "KEY")
    assert client.tgtrack("add_event", SALE).status == 200
