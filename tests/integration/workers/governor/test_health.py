"""An account's health: runs of failures, outages with their probes, 429s, refused credentials,
pauses that cover each other.
"""

from __future__ import annotations

import pytest

from postback.wire import keys
from postback.wire.windows import padded_ms
from tests.integration.workers.governor.bench import (
    QUEUE,
    START_MS,
    Bench,
    again,
    back,
    bury,
    id_of,
    message,
    poll,
    state_of,
)
from workers.governor.take import State, TakenGrant, TakeReply


def names(raws: list[bytes]) -> list[str]:
    return [id_of(raw) for raw in raws]


def events(bench: Bench, count: int) -> None:
    bench.push(*(message(f"e{number:02}") for number in range(count)))


def fail_in_a_row(bench: Bench, times: int, back_off_ms: int = 60_000) -> None:
    """So many requests go and fail one after the other."""
    for _ in range(times):
        bench.fail(bench.one(), back_off_ms=back_off_ms)


def paused_ms(bench: Bench) -> float:
    """Milliseconds until the pause ends; -1 if an operator must end it, 0 if there is none."""
    ends = [
        float(text)
        for text in (bench.meta().get("paused"), bench.health().get("paused"), bench.log().get("frozen"))
        if text is not None
    ]
    return -1 if -1 in ends else max(0, max(ends, default=0) - bench.now_ms)


class TestRun:
    """Failures in a row, not yet an outage."""

    def test_those_that_failed_are_held_aside(self, bench: Bench) -> None:
        """A failed event stands aside and the next one is asked with, one at a time."""
        events(bench, 5)
        fail_in_a_row(bench, 3)
        assert names(bench.held()) == ["e00", "e01", "e02"]
        assert bench.ids() == ["e03", "e04"]
        assert [state_of(raw)["attempts"] for raw in bench.held()] == [1, 1, 1]

    def test_they_are_released_in_order_on_a_healthy_answer(self, bench: Bench) -> None:
        """When an answer is healthy they go first again, in order of their first grants."""
        events(bench, 5)
        fail_in_a_row(bench, 3, back_off_ms=100)
        bench.advance(100)
        bench.settle(bench.one())
        bench.look()
        assert bench.ids() == ["e00", "e01", "e02", "e04"]
        assert all(
            state_of(raw) == {"attempts": 1, "first": state_of(raw)["first"], "age": 100} for raw in bench.queued()[:3]
        )

    def test_not_before_their_back_off_is_over(self, bench: Bench) -> None:
        """One whose back-off is not over waits for it in the delayed set; its attempt stays used
        up.
        """
        events(bench, 4)
        bench.fail(bench.one(), back_off_ms=100)
        bench.fail(bench.one(), back_off_ms=9000)
        bench.advance(100)
        bench.settle(bench.one())
        bench.look()
        assert bench.ids() == ["e00", "e03"]
        ((raw, due),) = bench.delayed().items()
        assert (id_of(raw), due, state_of(raw)["attempts"]) == ("e01", START_MS + 9000, 1)

    def test_alone_it_waits_for_its_own_back_off(self, bench: Bench) -> None:
        """With nothing else to ask with, a failed event goes again when its back-off is over, not
        before.
        """
        events(bench, 1)
        fail_in_a_row(bench, 1, back_off_ms=700)
        assert bench.take() == TakeReply(State.EMPTY, [], due_ms=700)
        bench.advance(700)
        assert state_of(bench.one().raws[0])["attempts"] == 1

    def test_new_events_go_before_those_held(self, bench: Bench) -> None:
        """What is enqueued meanwhile is asked with first."""
        events(bench, 1)
        fail_in_a_row(bench, 1, back_off_ms=0)
        bench.push(message("new"))
        assert names(bench.one().raws) == ["new"]

    def test_attempts_add_up_over_runs(self, bench: Bench) -> None:
        """An event that fails by its own fault uses up an attempt each time."""
        events(bench, 1)
        for _ in range(3):
            fail_in_a_row(bench, 1, back_off_ms=0)
            bench.push(message("good"))
            bench.settle(bench.one())
            bench.look()
        assert state_of(bench.queued()[0])["attempts"] == 3

    def test_a_batch_is_held_and_goes_again_as_one(self, bench: Bench) -> None:
        """The messages of a failed batch travel together again, within the byte cap."""
        bench.settings.update(batch_max=20, linger_ms=0)
        events(bench, 6)
        fail_in_a_row(bench, 1, back_off_ms=0)
        assert names(bench.one().raws) == [f"e{number:02}" for number in range(6)]

    def test_held_messages_keep_to_the_byte_cap(self, bench: Bench) -> None:
        """Several held batches are not put into one that is too large."""
        bench.settings.update(batch_max=20, linger_ms=0, max_bytes=1000)
        bench.push(*(message(f"e{number}", postback_size=300) for number in range(6)))
        fail_in_a_row(bench, 2, back_off_ms=0)
        assert names(bench.one().raws) == ["e0", "e1", "e2"]

    def test_held_messages_of_two_tasks_are_two_requests(self, bench: Bench) -> None:
        """A batch from those held aside is of one task."""
        bench.settings.update(batch_max=20, linger_ms=0)
        bench.push(message("a", task="t.a"), message("b", task="t.b"))
        fail_in_a_row(bench, 2, back_off_ms=0)
        assert names(bench.one().raws) == ["a"]

    def test_a_poll_ends_a_run(self, bench: Bench) -> None:
        """An answer that is not final is a healthy one."""
        events(bench, 3)
        fail_in_a_row(bench, 1, back_off_ms=0)
        bench.settle(bench.one(), health="ok", messages=[poll(1, 50)])
        bench.look()
        assert bench.held() == []

    @pytest.mark.parametrize("health", ["quota", "unknown", "none"])
    def test_what_is_not_healthy_does_not(self, bench: Bench, health: str) -> None:
        """A 429, no verdict, or a request that was not sent leave the run as it is."""
        events(bench, 3)
        fail_in_a_row(bench, 2)
        bench.settle(bench.one(), health=health, messages=[back(1)])
        assert len(bench.held()) == 2
        assert bench.meta()["fails"] == "2"


class TestOutage:
    def test_five_in_a_row_pause_the_account(self, bench: Bench) -> None:
        """The fifth failure in a row pauses the account for four back-offs; four do not."""
        events(bench, 10)
        fail_in_a_row(bench, 4)
        assert paused_ms(bench) == 0
        fail_in_a_row(bench, 1)
        assert paused_ms(bench) == 4000
        assert bench.meta()["reason"] == "outage"
        assert bench.paused_ms() == 4000

    @pytest.mark.parametrize(("random", "expected"), [(0.0, 3600), (0.5, 4000), (1.0, 4400)])
    def test_the_pause_is_jittered(self, bench: Bench, random: float, expected: int) -> None:
        """By up to a tenth either way, so that workers and accounts do not probe in step."""
        bench.settings["random"] = random
        events(bench, 10)
        fail_in_a_row(bench, 5)
        assert paused_ms(bench) == pytest.approx(expected, abs=1)

    def test_pauses_double_up_to_five_minutes(self, bench: Bench) -> None:
        """Each failed probe doubles the pause, up to the longest."""
        events(bench, 30)
        fail_in_a_row(bench, 5)
        pauses = []
        for _ in range(9):
            pauses.append(paused_ms(bench))
            bench.advance(pauses[-1])
            fail_in_a_row(bench, 1)
        assert pauses == [4000, 8000, 16_000, 32_000, 64_000, 128_000, 256_000, 300_000, 300_000]

    def test_attempts_of_the_run_are_given_back(self, bench: Bench) -> None:
        """It was not these events' fault: the attempts of this run are given back, earlier ones are
        not.
        """
        bench.push(message("old", postback="attempts=3"), *(message(f"e{number}") for number in range(9)))
        fail_in_a_row(bench, 5)
        bench.advance(paused_ms(bench))
        bench.settle(bench.one())
        bench.look()
        assert [state_of(raw).get("attempts", 0) for raw in bench.queued()[:5]] == [3, 0, 0, 0, 0]

    def test_an_attempt_from_outside_the_run_is_not_given_back(self, bench: Bench) -> None:
        """An attempt that was used up while the provider was healthy stays used up."""
        events(bench, 1)
        bench.settle(bench.one(), health="unknown", messages=[again(1, 0, duplicate=True)])
        fail_in_a_row(bench, 1)
        events(bench, 10)
        fail_in_a_row(bench, 4)
        bench.advance(paused_ms(bench))
        bench.settle(bench.one())
        bench.look()
        assert state_of(bench.queued()[0])["attempts"] == 1

    def test_probes_use_up_none(self, bench: Bench) -> None:
        """An outage of an hour costs no event an attempt."""
        events(bench, 50)
        fail_in_a_row(bench, 5)
        while bench.now_ms < START_MS + 3_600_000:
            bench.advance(paused_ms(bench))
            fail_in_a_row(bench, 1)
        bench.advance(paused_ms(bench))
        assert all("attempts" not in state_of(raw) for raw in bench.run_till_empty())

    def test_one_probe_at_a_time(self, bench: Bench) -> None:
        """After the pause one request goes, however many are asked for."""
        events(bench, 20)
        fail_in_a_row(bench, 5)
        bench.advance(4000)
        reply = bench.take(8)
        assert (reply.state, len(reply.grants)) == (State.BLOCKED, 1)
        assert reply.outage

    def test_each_time_the_next_event(self, bench: Bench) -> None:
        """No event is probed with twice while there is another; then those held take turns in
        order.
        """
        events(bench, 8)
        fail_in_a_row(bench, 5)
        probes = []
        for _ in range(13):
            bench.advance(paused_ms(bench))
            grant = bench.one()
            probes += names(grant.raws)
            bench.fail(grant)
        assert probes == [f"e{number:02}" for number in (5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1)]

    def test_also_if_two_were_granted_in_the_same_microsecond(self, bench: Bench) -> None:
        """Events with the same first grant take turns as well."""
        first = START_MS * 1000
        bench.push(*(message(f"e{number}", postback=f"first={first}") for number in range(5)))
        fail_in_a_row(bench, 5)
        probes = set()
        for _ in range(5):
            bench.advance(paused_ms(bench))
            grant = bench.one()
            probes |= set(names(grant.raws))
            bench.fail(grant)
        assert len(probes) == 5

    def test_late_answers_do_not_escalate(self, bench: Bench) -> None:
        """Eight requests were on the wire when the provider went down: their failures make one
        outage of the first pause.
        """
        events(bench, 20)
        took = bench.take(8).grants
        for grant in took:
            bench.advance(10)
            bench.fail(grant)
        assert paused_ms(bench) == 4000 - 30
        assert bench.meta()["level"] == "0"
        bench.advance(paused_ms(bench))
        assert all("attempts" not in state_of(raw) for raw in bench.run_till_empty())

    def test_a_healthy_probe_ends_it(self, bench: Bench) -> None:
        """After the outage everything goes in order of enqueueing, at once and not one at a
        time.
        """
        events(bench, 12)
        fail_in_a_row(bench, 5)
        for _ in range(3):
            bench.advance(paused_ms(bench))
            fail_in_a_row(bench, 1)
        bench.advance(paused_ms(bench))
        bench.settle(bench.one())
        assert names(bench.run_till_empty(4)) == [f"e{number:02}" for number in (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11)]
        assert not {"fails", "level", "cursor", "paused", "reason", "since"} & bench.meta().keys()

    def test_a_late_healthy_answer_ends_it_too(self, bench: Bench) -> None:
        """A request from before the pause that is answered well shows that the provider is up."""
        events(bench, 12)
        took = bench.take(8).grants
        for grant in took[:6]:
            bench.fail(grant)
        assert paused_ms(bench) > 0
        bench.settle(took[6])
        assert paused_ms(bench) == 0

    def test_priorities_are_kept(self, bench: Bench) -> None:
        """Those released go back to the lists of their own priorities."""
        for number in range(6):
            priority = 3 * (number % 2)
            bench.push(message(f"e{number}", priority=priority), priority=priority)
        fail_in_a_row(bench, 5)
        bench.advance(4000)
        bench.settle(bench.one())
        bench.look()
        assert (bench.ids(0), bench.ids(3)) == (["e0", "e2", "e4"], ["e1", "e3"])

    def test_a_batching_account_probes_with_its_batches(self, bench: Bench) -> None:
        """Batches: the run's messages are held, released in order, and travel as full batches
        again.
        """
        bench.settings.update(batch_max=4, linger_ms=0)
        events(bench, 24)
        fail_in_a_row(bench, 5)
        assert len(bench.held()) == 20
        bench.advance(4000)
        bench.settle(bench.one())
        bench.look()
        took = bench.take(9).grants
        assert [len(grant.raws) for grant in took] == [4, 4, 4, 4, 4]
        assert names([raw for grant in took for raw in grant.raws]) == [f"e{number:02}" for number in range(20)]


class TestInPlace:
    """TON AI: 2 s, 4 s, dead; then the account pauses before the next event is tried."""

    @pytest.fixture
    def strict(self, bench: Bench) -> Bench:
        bench.settings.update(in_place=True, outage_after=3, backoff_ms=2000)
        events(bench, 4)
        return bench

    def test_two_seconds_four_seconds_dead_pause(self, strict: Bench) -> None:
        """The same event goes again after 2 s and 4 s, before any other; its third failure kills it
        and pauses the account.
        """
        for back_off_ms in (2000, 4000):
            grant = strict.one()
            assert names(grant.raws) == ["e00"]
            strict.fail(grant, back_off_ms=back_off_ms)
            assert strict.paused_ms() == back_off_ms
            strict.advance(back_off_ms)
        grant = strict.one()
        assert state_of(grant.raws[0])["attempts"] == 2
        strict.settle(grant, health="fail", messages=[bury(1, '{"reason": "exhausted"}')])
        assert len(strict.dead()) == 1
        assert (paused_ms(strict), strict.meta()["reason"]) == (8000, "outage")

    def test_then_each_probe_is_another_event(self, strict: Bench) -> None:
        """In the outage one event is asked with at a time, costs no attempt and stands aside."""
        self.test_two_seconds_four_seconds_dead_pause(strict)
        for name in ("e01", "e02", "e03", "e01"):
            strict.advance(paused_ms(strict))
            reply = strict.take()
            (grant,) = reply.grants
            assert (names(grant.raws), reply.outage) == ([name], True)
            strict.fail(grant, back_off_ms=2000)
        assert all("attempts" not in state_of(raw) for raw in strict.held())

    def test_a_healthy_answer_ends_it(self, strict: Bench) -> None:
        """After it all go in order."""
        self.test_then_each_probe_is_another_event(strict)
        strict.advance(paused_ms(strict))
        strict.settle(strict.one())
        strict.look()
        assert strict.ids() == ["e01", "e03"]

    def test_a_success_between_begins_anew(self, strict: Bench) -> None:
        """An event that got through at its second try leaves no pause behind."""
        strict.fail(strict.one(), back_off_ms=2000)
        strict.advance(2000)
        strict.settle(strict.one())
        assert "paused" not in strict.meta()
        assert len(strict.take(3).grants) == 3

    def test_a_healthy_answer_meanwhile_lifts_the_wait(self, strict: Bench) -> None:
        """The wait of an event in place ends with any healthy answer."""
        took = strict.take(2).grants
        strict.fail(took[0], back_off_ms=2000)
        strict.settle(took[1])
        assert paused_ms(strict) == 0


class TestQuotaAnswers:
    WINDOWS = ((3, 1.0), (500, 3600.0), (5000, 86_400.0))

    @pytest.fixture
    def limited(self, bench: Bench) -> Bench:
        bench.settings["windows"] = list(self.WINDOWS)
        events(bench, 30)
        return bench

    def test_retry_after_is_kept_to(self, limited: Bench) -> None:
        """A 429 that says how long freezes the account for exactly that, and no attempt is used
        up.
        """
        limited.refuse(limited.one(), retry_after_ms=7000)
        assert limited.paused_ms() == 7000
        limited.advance(7000)
        grant = limited.one()
        assert names(grant.raws) == ["e00"]
        assert "attempts" not in state_of(grant.raws[0])

    def test_without_it_the_next_longer_window_each_time(self, limited: Bench) -> None:
        """Without Retry-After: the shortest window, then the next, then the longest, which is the
        last.
        """
        freezes = []
        for _ in range(4):
            limited.refuse(limited.one())
            freezes.append(paused_ms(limited))
            limited.advance(freezes[-1])
        assert freezes == [padded_ms(length) for length in (1.0, 3600.0, 86_400.0, 86_400.0)]

    def test_without_windows_it_doubles_from_a_second(self, bench: Bench) -> None:
        """Without windows: 1 s, doubling to the longest pause."""
        events(bench, 30)
        freezes = []
        for _ in range(11):
            bench.refuse(bench.one())
            freezes.append(paused_ms(bench))
            bench.advance(freezes[-1])
        assert freezes == [1000 * 2**power for power in range(9)] + [300_000] * 2

    def test_a_burst_escalates_once(self, limited: Bench) -> None:
        """Several 429s to requests that were on the wire together are one answer."""
        took = limited.take(3).grants
        for grant in took:
            limited.advance(5)
            limited.refuse(grant)
        assert paused_ms(limited) == padded_ms(1.0) - 10
        assert limited.meta()["quota_answers"] == "3"

    def test_a_healthy_answer_begins_anew(self, limited: Bench) -> None:
        """A 429 tomorrow begins with the shortest window again: what was learned yesterday is
        over.
        """
        limited.refuse(limited.one())
        limited.advance(paused_ms(limited))
        limited.settle(limited.one())
        limited.advance(86_400_000)
        limited.refuse(limited.one())
        assert paused_ms(limited) == padded_ms(1.0)

    def test_a_healthy_answer_from_before_does_not(self, limited: Bench) -> None:
        """Answers to requests from before the freeze neither end it, nor open the gate, nor forget
        how often it froze.
        """
        took = limited.take(3).grants
        limited.refuse(took[0])
        limited.settle(took[1])
        assert paused_ms(limited) == padded_ms(1.0)
        limited.advance(paused_ms(limited))
        limited.settle(took[2])
        probes = limited.take(3).grants
        assert len(probes) == 1
        limited.refuse(probes[0])
        assert paused_ms(limited) == padded_ms(3600.0)

    def test_after_it_one_request_goes_first(self, limited: Bench) -> None:
        """After a freeze the account asks with one request before it opens again."""
        limited.refuse(limited.one())
        limited.advance(5000)
        assert len(limited.take(3).grants) == 1

    def test_a_shorter_retry_after_does_not_shorten(self, limited: Bench) -> None:
        """A longer freeze stays when a shorter one is told."""
        took = limited.take(3).grants
        limited.refuse(took[0], retry_after_ms=60_000)
        limited.refuse(took[1], retry_after_ms=1000)
        assert paused_ms(limited) == 60_000

    def test_a_longer_one_lengthens(self, limited: Bench) -> None:
        """A longer one counts from now."""
        took = limited.take(3).grants
        limited.refuse(took[0], retry_after_ms=1000)
        limited.advance(500)
        limited.refuse(took[1], retry_after_ms=60_000)
        assert paused_ms(limited) == 60_000

    def test_it_is_charged(self, limited: Bench) -> None:
        """The refused request counts in the quota log, too: the provider may have counted it."""
        limited.refuse(limited.one(), retry_after_ms=0)
        assert limited.log()["seq"] == "1"

    def test_the_end_of_an_outage_does_not_thaw(self, bench: Bench) -> None:
        """A freeze of a 429 that an outage's pause covered holds on when a healthy answer ends the
        outage.
        """
        events(bench, 20)
        took = bench.take(8).grants
        bench.refuse(took[0], retry_after_ms=3000)
        for grant in took[1:6]:
            bench.fail(grant)
        assert bench.meta()["reason"] == "outage"
        bench.settle(took[6])
        assert (paused_ms(bench), bench.meta().get("reason")) == (3000, None)


class TestCredentials:
    def test_paused_until_somebody_comes(self, bench: Bench) -> None:
        """Refused credentials stop the account for good, and nothing of its backlog is touched."""
        events(bench, 50)
        bench.refuse(bench.one(), "refused")
        bench.advance(7 * 86_400_000)
        assert bench.paused_ms(8) is None
        assert bench.ids() == [f"e{number:02}" for number in range(50)]
        assert bench.dead() == []

    def test_late_answers_do_not_lift_it(self, bench: Bench) -> None:
        """Answers to requests that were on the wire, good or bad, leave it paused."""
        events(bench, 50)
        took = bench.take(8).grants
        bench.refuse(took[0], "refused")
        bench.settle(took[1])
        bench.refuse(took[2], retry_after_ms=1000)
        for grant in took[3:8]:
            bench.fail(grant)
        bench.push(message("x"))
        assert paused_ms(bench) == -1
        assert bench.health()["paused"] == "-1"
        assert sum(bench.everything().values()) == 50

    @pytest.mark.parametrize("answer", ["ok", "fail", "quota"])
    def test_an_operators_pause_is_nobody_elses(self, bench: Bench, answer: str) -> None:
        """Whatever is answered, an operator's pause stays."""
        events(bench, 5)
        grant = bench.one()
        bench.client.hset(keys.meta(QUEUE), mapping={"paused": -1, "reason": "operator", "since": START_MS})
        bench.settle(grant, health=answer, messages=[back(1)])
        assert (paused_ms(bench), bench.meta()["reason"]) == (-1, "operator")

    def test_a_refusal_outlasts_a_freeze(self, bench: Bench) -> None:
        """A refusal during a freeze is not over when the freeze is."""
        events(bench, 5)
        took = bench.take(2).grants
        bench.refuse(took[0], retry_after_ms=1000)
        bench.refuse(took[1], "refused")
        bench.advance(5000)
        assert bench.paused_ms() is None


def test_counters(bench: Bench) -> None:
    """Delivered and dead are counted event by event, 429s answer by answer."""
    bench.settings.update(batch_max=5, linger_ms=0)
    events(bench, 10)

    def took() -> TakenGrant:
        return bench.one()

    bench.settle(took())
    bench.settle(took(), health="ok", delivered=4, messages=[bury(1, "{}")])
    meta = bench.meta()
    assert (meta["delivered"], meta["dead"], meta.get("quota_answers")) == ("9", "1", None)
