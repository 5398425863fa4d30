"""The quota log against a model: hypothesis plays grants, answers, crashes and a clock that steps
back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postback.wire import keys
from postback.wire.windows import padded_ms
from tests.integration.workers.governor.bench import Bench, message
from workers.governor.take import State, TakenGrant

LEASE_MS = 5_000
WINDOWS = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from([0.5, 1.0, 2.0, 7.0])),
    min_size=1,
    max_size=3,
    unique_by=lambda window: window[1],
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.sampled_from([1, 40, 300, 499, 500, 501, 999, 1000, 1002, 2500, 6000])),
        st.tuples(st.just("back"), st.sampled_from([1, 200, 3000])),
        st.tuples(st.just("take"), st.integers(1, 4)),
        st.tuples(st.just("answer"), st.integers(0, 7)),
        st.tuples(st.just("crash"), st.integers(0, 7)),
    ),
    min_size=5,
    max_size=60,
)


@dataclass
class Model:
    """What the design says: a request counts from its grant until one full window after its
    response, or after its lease.
    """

    windows: list[tuple[int, float]]
    log: list[float] = field(default_factory=list)
    leases: dict[str, float] = field(default_factory=dict)

    def charge(self, now_ms: float) -> None:
        self.log.append(max([now_ms, *self.log[-1:]]))

    def expire(self, now_ms: float) -> None:
        for grant, end in sorted(self.leases.items(), key=lambda item: item[1]):
            if end <= now_ms:
                del self.leases[grant]
                self.charge(now_ms)

    def admits(self, now_ms: float) -> bool:
        for limit, window_s in self.windows:
            need = limit - len(self.leases)
            if need <= 0 or (len(self.log) >= need and self.log[-need] + padded_ms(window_s) > now_ms):
                return False
        return True


@dataclass
class Sent:
    """A request in true time: it reached the provider somewhere between the two."""

    granted: float
    answered: float = float("inf")


def assert_no_window_exceeded(requests: list[Sent], windows: list[tuple[int, float]]) -> None:
    """No n + 1 requests can have arrived within one window, wherever it begins and whenever in its
    span each arrived.
    """
    for limit, window_s in windows:
        for last in requests:
            near = sum(
                1 for one in requests if one.granted <= last.granted and one.answered > last.granted - window_s * 1000
            )
            assert near <= limit, f"{near} requests could meet in a window of {limit} per {window_s} s"


def play(client: redis.Redis, windows: list[tuple[int, float]], steps: list[tuple[str, int]]) -> tuple[int, list[Sent]]:
    """Run a schedule against the scripts and the model at once; they must agree on every
    admission.
    """
    client.flushall()
    bench = Bench(client, windows=windows, lease_ms=LEASE_MS, max_crashes=1000)
    bench.healthy()
    bench.push(*(message(f"e{number}") for number in range(300)))
    model, true_ms = Model(windows), 0.0
    sent: dict[str, Sent] = {}
    open_grants: list[TakenGrant] = []
    admitted = 0
    for step, value in steps:
        if step == "advance":
            true_ms += value
            bench.advance(value)
        elif step == "back":
            bench.advance(-value)
        elif step == "take":
            expected = 0
            model.expire(bench.now_ms)
            trial = Model(windows, list(model.log), dict(model.leases))
            while expected < value and trial.admits(bench.now_ms):
                trial.leases[f"trial{expected}"] = bench.now_ms + LEASE_MS
                expected += 1
            took = bench.take(value).grants
            assert len(took) == expected, f"model admits {expected}, TAKE gave {len(took)}"
            for grant in took:
                admitted += 1
                model.leases[grant.id] = bench.now_ms + LEASE_MS
                sent[grant.id] = Sent(true_ms)
                open_grants.append(grant)
        elif open_grants:
            grant = open_grants.pop(value % len(open_grants))
            if step == "crash":
                # Its request may still arrive until the lease ends by the server's clock; a clock
                # that is set back gives it more.
                continue
            model.expire(bench.now_ms) if not bench.settle(grant) else None
            sent[grant.id].answered = true_ms
            if grant.id in model.leases:
                del model.leases[grant.id]
                model.charge(bench.now_ms)
    for request in sent.values():
        # A worker gives up before its lease ends.
        request.answered = min(request.answered, request.granted + LEASE_MS)
    return admitted, list(sent.values())


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(windows=WINDOWS, steps=STEPS)
def test_admits_exactly_what_the_model_admits(
    redis_client: redis.Redis, windows: list[tuple[int, float]], steps: list[tuple[str, int]]
) -> None:
    """Whatever happens, also a clock that steps back, TAKE refuses nothing that the model allows
    and allows nothing that it refuses.
    """
    play(redis_client, windows, steps)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(windows=WINDOWS, steps=STEPS)
def test_no_window_is_ever_exceeded(
    redis_client: redis.Redis, windows: list[tuple[int, float]], steps: list[tuple[str, int]]
) -> None:
    """For answered requests, at any phase and any arrival between grant and answer, no window holds
    more than its limit.
    """
    lively = [step for step in steps if step[0] != "crash"]
    _, sent = play(redis_client, windows, lively)
    assert_no_window_exceeded(sent, windows)


def test_a_checker_that_cannot_fail_is_none() -> None:
    """The checker itself finds four requests that can meet in a window of three."""
    requests = [Sent(0, 5), Sent(1, 6), Sent(2, 7), Sent(900, 905)]
    try:
        assert_no_window_exceeded(requests, [(3, 1.0)])
    except AssertionError:
        return
    raise AssertionError("it found nothing")


def test_the_log_stays_small_when_saturated(redis_client: redis.Redis) -> None:
    """5,000 a day, saturated: the account's quota state takes at most 64 KB."""
    bench = Bench(redis_client, windows=[(3, 1.0), (500, 3600.0), (5000, 86_400.0)])
    bench.healthy()
    log = keys.quota_log("tgtrack", bench.quota)
    bench.client.hset(bench.quota_key, mapping={"seq": 5000, "last": bench.now_ms, "size": 5000})
    bench.client.setrange(log, 5000 * 8 - 1, b"\0")
    bench.push(message("one"))
    bench.take()
    used = sum(redis_client.memory_usage(name) or 0 for name in (log, bench.quota_key, "tgtrack.main.meta"))
    assert used <= 64 * 1024


def test_a_larger_limit_keeps_what_the_log_knew(redis_client: redis.Redis) -> None:
    """Raising a limit rebuilds the ring: what it forgot is taken to be as young as the oldest entry
    that it still knows.
    """
    bench = Bench(redis_client, windows=[(2, 60.0)])
    bench.healthy()
    bench.push(*(message(f"e{number}") for number in range(20)))
    for _ in range(3):
        took = bench.take(2).grants
        for grant in took:
            bench.settle(grant)
        bench.advance(70_000)
    bench.settings["windows"] = [(4, 200.0)]
    # Six requests were answered, at 0, 70 and 140 s; the old ring knew only the two at 140 s. It is
    # 210 s now.
    took = bench.take(10).grants
    assert len(took) == 0
    bench.advance(200_000 - 70_000 + 100)
    took = bench.take(10).grants
    assert len(took) == 4


def test_a_smaller_limit_counts_what_was_sent_before(redis_client: redis.Redis) -> None:
    """Lowering a limit forgets nothing: the log never shrinks."""
    bench = Bench(redis_client, windows=[(10, 60.0)])
    bench.healthy()
    bench.push(*(message(f"e{number}") for number in range(20)))
    took = bench.take(5).grants
    for grant in took:
        bench.settle(grant)
    bench.settings["windows"] = [(3, 60.0)]
    reply = bench.take(5)
    assert (reply.state, reply.grants) == (State.SPENT, [])
    assert reply.wait_ms is not None
    assert 59_000 < reply.wait_ms <= padded_ms(60.0)
