"""``await result.aget()``, over a real Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import redis
import uvloop
from celery.exceptions import TimeoutError as NoResultInTime
from kombu.exceptions import DecodeError

import postback
from postback import NoResult, tgtrack
from postback._send.producer import current
from postback.results import EventResult
from workers.devkit import RedisServer, until

ANSWER = {"user_id": "1", "first_name": "Ада"}
LOOK_UP = tgtrack.GetUserInfo(user_id="1")
#: Seconds that anything here may take before it counts as never.
PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def configured(redis_server: RedisServer, redis_client: redis.Redis) -> Iterator[None]:
    postback.configure(broker_url=redis_server.url)
    yield
    postback.configure()


def sent(count: int = 1) -> list[EventResult]:
    """What ``delay`` returned for look-ups."""
    app = current("tgtrack").app
    return [EventResult(f"look-up-{n}", app=app, provider="tgtrack", has_result=True) for n in range(count)]


def answer(result: EventResult, outcome: object = ANSWER, state: str = "SUCCESS") -> None:
    """What a worker does."""
    result.backend.store_result(result.id, outcome, state)


def nobody_looks() -> None:
    """Wait until no thread looks for results."""
    until(lambda: all(one.name != "postback-results" for one in threading.enumerate()), PATIENCE_S, "no thread")


async def waiting(*results: EventResult) -> list[asyncio.Task[object]]:
    """Tasks that have begun to wait."""
    tasks = [asyncio.create_task(result.aget(PATIENCE_S)) for result in results]
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    return tasks


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_an_answer_during_the_wait(run):
    """It comes to whoever waits, and the loop goes on meanwhile, whichever loop it is."""

    async def main() -> object:
        (result,) = sent()
        (task,) = await waiting(result)
        await asyncio.to_thread(answer, result)
        return await task

    assert run(main()) == ANSWER


def test_an_answer_in_hand(redis_server):
    """Redis is asked once: the second ``aget`` needs none."""
    (result,) = sent()
    answer(result)
    assert asyncio.run(result.aget(PATIENCE_S)) == ANSWER
    nobody_looks()
    assert asyncio.run(result.aget(0)) == ANSWER


def test_no_result():
    """An event that has none says so at once, without Redis."""
    postback.configure(broker_url="redis://127.0.0.1:1/0")
    result = EventResult("sale", app=current("tgtrack").app, provider="tgtrack")
    with pytest.raises(NoResult):
        asyncio.run(result.aget())


def test_await_without_aget():
    """The error says what to write."""

    async def main() -> None:
        await sent()[0]

    with pytest.raises(TypeError, match=r"await result\.aget\(timeout=10\)"):
        asyncio.run(main())


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_not_in_time(timeout):
    """The error is Celery's, as from ``get``, and names the event."""
    with pytest.raises(NoResultInTime, match=f"no result of look-up-0 within {timeout} s$"):
        asyncio.run(sent()[0].aget(timeout))


def test_a_failure():
    """A dead letter raises what ``get`` raises, or returns it if the caller wants that."""
    (result,) = sent()
    answer(result, LookupError("rejected: no such user"), "FAILURE")
    for get in (lambda: result.get(timeout=PATIENCE_S), lambda: asyncio.run(sent()[0].aget(PATIENCE_S))):
        with pytest.raises(LookupError, match=r"^rejected: no such user$"):
            get()
    assert isinstance(asyncio.run(sent()[0].aget(PATIENCE_S, propagate=False)), LookupError)


def test_an_event_that_waits_for_its_quota():
    """RETRY is no end: the answer comes later."""

    async def main() -> object:
        (result,) = sent()
        await asyncio.to_thread(answer, result, LookupError("429"), "RETRY")
        with pytest.raises(NoResultInTime):
            await result.aget(0.05)
        (task,) = await waiting(result)
        await asyncio.to_thread(answer, result)
        return await task

    assert asyncio.run(main()) == ANSWER


def test_an_unreadable_result(redis_client):
    """It fails its own wait and no other."""

    async def main() -> list[object]:
        broken, good = sent(2)
        tasks = await waiting(broken, good)
        await asyncio.to_thread(redis_client.set, f"celery-task-meta-{broken.id}", b"\xff{")
        with pytest.raises(DecodeError):
            await tasks[0]
        await asyncio.to_thread(answer, good)
        return await tasks[1]

    assert asyncio.run(main()) == ANSWER


@pytest.mark.parametrize("end", ["cancel", "wait_for"])
def test_cancelled(redis_client, end):
    """A cancelled wait leaves no thread, no subscription and no interest in the result."""

    async def main() -> None:
        results = sent(3)
        if end == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(results[0].aget(), 0.05)
            return
        tasks = await waiting(*results)
        for task in tasks:
            task.cancel()
        assert {type(one) for one in await asyncio.gather(*tasks, return_exceptions=True)} == {asyncio.CancelledError}

    asyncio.run(main())
    nobody_looks()
    assert redis_client.pubsub_channels() == []


def test_five_hundred_at_once():
    """They need one thread, and ``to_thread`` stays free for others."""

    async def main() -> None:
        results = sent(500)
        before = threading.active_count()
        tasks = await waiting(*results)
        assert threading.active_count() <= before + 1
        await asyncio.wait_for(asyncio.to_thread(lambda: [answer(result) for result in results]), PATIENCE_S)
        assert await asyncio.gather(*tasks) == [ANSWER] * 500

    asyncio.run(main())


def test_loops_in_several_threads():
    """Each gets its own answers."""
    results, answers = sent(8), {}

    def wait(result: EventResult) -> None:
        answers[result.id] = asyncio.run(result.aget(PATIENCE_S))

    threads = [threading.Thread(target=wait, args=[result]) for result in results]
    for thread in threads:
        thread.start()
    for result in results:
        answer(result, {"user_id": result.id})
    for thread in threads:
        thread.join()
    assert answers == {result.id: {"user_id": result.id} for result in results}


def test_a_forked_child():
    """It waits by a thread of its own, while its parent waits too."""

    async def main() -> object:
        (result,) = sent()
        (task,) = await waiting(result)
        child = os.fork()
        if child == 0:
            # The child's copy of the loop is not to be used; it makes another in a thread.
            codes: list[int] = []
            thread = threading.Thread(target=lambda: codes.append(asyncio.run(sent()[0].aget(PATIENCE_S)) != ANSWER))
            thread.start()
            thread.join()
            os._exit(codes.pop() if codes else 2)
        await asyncio.to_thread(answer, result)
        assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0
        return await task

    assert asyncio.run(main()) == ANSWER


def test_a_restart_of_redis():
    """The wait survives it."""
    with RedisServer() as server:
        postback.configure(broker_url=server.url)

        async def main() -> object:
            (result,) = sent()
            (task,) = await waiting(result)
            await asyncio.to_thread(server.kill)
            lookout = next(value for name, value in vars(result.app).items() if name.startswith("postback_lookout"))
            await asyncio.to_thread(until, lambda: lookout.lost, PATIENCE_S, "a look that fails")
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(answer, sent()[0])
            return await task

        assert asyncio.run(main()) == ANSWER


def test_redis_is_away():
    """The wait ends in time, and the error says why there is no result."""
    postback.configure(broker_url="redis://127.0.0.1:1/0")
    began = time.monotonic()
    with pytest.raises(NoResultInTime, match=r"within 0\.3 s; Redis could not be asked: ConnectionError$"):
        asyncio.run(sent()[0].aget(0.3))
    assert time.monotonic() - began < PATIENCE_S / 4


def test_redis_is_silent():
    """A server that does not answer does not hold the loop beyond the timeout."""
    with RedisServer() as server:
        postback.configure(broker_url=server.url)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(NoResultInTime):
                asyncio.run(sent()[0].aget(0.2))
            assert time.monotonic() - began < 2
        finally:
            os.kill(server.pid, signal.SIGCONT)


def test_a_user_without_the_right(redis_server, redis_client):
    """Redis' refusal reaches whoever waits, at once."""
    redis_client.acl_setuser("shop", enabled=True, passwords=["+pw"], commands=["+ping", "+select"], keys=["*"])
    try:
        postback.configure(broker_url=redis_server.url.replace("://", "://shop:pw@"))
        with pytest.raises(redis.exceptions.NoPermissionError):
            asyncio.run(sent()[0].aget())
    finally:
        redis_client.acl_deluser("shop")
