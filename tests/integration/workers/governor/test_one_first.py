"""An account at rest sends one request alone, until a healthy answer."""

from __future__ import annotations

import pytest

from tasks.rulings import Again
from tests.integration.workers.governor.bench import Bench, message
from tests.integration.workers.governor.crew import Worker, answer
from workers.devkit import RedisServer
from workers.governor.take import State


@pytest.fixture
def worker(server: RedisServer) -> Worker:
    """As in production; its account is open."""
    worker = Worker(server, one_first=True)
    worker.pump()
    worker.open()
    return worker


def test_one_goes_alone(worker: Worker) -> None:
    """Of a backlog at rest one request is taken, though the account is healthy."""
    worker.push(*(message(f"e{number}") for number in range(5)))
    taken = worker.taken(5)
    assert len(taken.grants) == 1
    assert taken.state is State.BLOCKED


def test_nobody_else_takes_a_second(worker: Worker) -> None:
    """Another worker waits for the answer too."""
    worker.push(*(message(f"e{number}") for number in range(5)))
    worker.take(1)
    other = Worker(worker.server, one_first=True)
    other.pump()
    assert other.taken(5).grants == []


def test_a_healthy_answer_lets_the_others_go(worker: Worker) -> None:
    """After it as many go as are asked for: the account is not at rest."""
    worker.push(*(message(f"e{number}") for number in range(9)))
    (first,) = worker.taken(5).grants
    worker.settle(first)
    assert len(worker.taken(5).grants) == 5


def test_an_unhealthy_answer_does_not(worker: Worker) -> None:
    """After a failure it goes on with one."""
    worker.push(*(message(f"e{number}") for number in range(9)))
    (first,) = worker.taken(5).grants
    worker.settle(first, answer(Again(60, ""), health="fail"))
    assert len(worker.taken(5).grants) == 1


def test_without_the_flag_all_go(redis_client: object) -> None:
    """An older worker's TAKE, which does not say it, is answered as before."""
    bench = Bench(redis_client)  # type: ignore[arg-type]
    bench.healthy()
    bench.push(*(message(f"e{number}") for number in range(5)))
    assert len(bench.take(5).grants) == 5
