"""What ``delay`` returns."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

import redis
from celery import Celery, states
from celery.backends.base import DisabledBackend
from celery.exceptions import TimeoutError as NoResultInTime
from celery.result import AsyncResult

from postback.errors import NoResult
from postback.wire.broker import connect

__all__ = ["EventResult"]

#: How long Redis is left alone between two looks, in seconds: a tenth of what the newest coroutine
#: has waited, within these.
SHORTEST_PAUSE_S: Final = 0.01
LONGEST_PAUSE_S: Final = 0.25
NO_RESULT: Final = "this event has no result; only look-ups such as tgtrack.GetUserInfo have one"


class _NoBackend(DisabledBackend):
    """The backend of results that are never stored: it raises instead of waiting for ever."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NoResult(NO_RESULT)

    get_state = get_status = get_result = get_traceback = _refuse
    get_task_meta = get_task_meta_for = wait_for = get_many = _refuse


if TYPE_CHECKING:
    _AsyncResult = AsyncResult[Any]
else:  # Celery 5.6 cannot be subscripted
    _AsyncResult = AsyncResult


class EventResult(_AsyncResult):
    """A Celery AsyncResult of an event.

    Only ``tgtrack.GetUserInfo`` and ``tonapi.GetEvent`` have a result: a plain dict, kept for 10
    minutes. ``get`` (and ``aget``, ``state``, ``ready`` …) of any other event raises
    :class:`~postback.errors.NoResult` at once. Pass ``get`` and ``aget`` a ``timeout``, because an
    event may wait for its provider's quota for hours.

    Attributes:
        id: The event's id: in Redis, in Flower, in the logs.
        provider: ``"tgtrack"``.
        has_result: Whether there is a result to wait for.
    """

    # Celery's, which its stubs leave out.
    _cache: dict[str, Any] | None
    _maybe_set_cache: Callable[[dict[str, Any]], object]

    def __init__(self, id: str, *, app: Celery, provider: str, has_result: bool = False, **options: Any) -> None:
        self.provider = provider
        if not has_result:
            options["backend"] = _no_backend(app)
        super().__init__(id, app=app, **options)
        self.has_result = has_result

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the result.

        Args:
            *args: As for Celery's ``AsyncResult.get``.
            **kwargs: Likewise; ``timeout`` in seconds.

        Returns:
            The provider's answer, a plain dict.

        Raises:
            NoResult: The event never has one.
            DeadLettered: The event became a dead letter.
            celery.exceptions.TimeoutError: There is none in time. The event goes on all the same.
        """
        if not self.has_result:
            raise NoResult(NO_RESULT)
        return super().get(*args, **kwargs)

    wait = get

    async def aget(self, timeout: float | None = None, *, propagate: bool = True) -> Any:
        """:meth:`get` for coroutines: it does not block the event loop.

        A result is noticed after a tenth of the time that it took, after 0.25 s at most. Redis may
        be away meanwhile. All coroutines of a process share one thread, so hundreds may wait, and
        each may be cancelled.

        Args:
            timeout: In seconds; None waits for as long as it takes.
            propagate: False returns a failed event's exception instead of raising it.

        Returns:
            The provider's answer, a plain dict.

        Raises:
            NoResult: The event never has one.
            DeadLettered: The event became a dead letter.
            celery.exceptions.TimeoutError: There is none in time. The event goes on all the same.
            redis.ResponseError: This user of Redis must not read results.
        """
        if not self.has_result:
            raise NoResult(NO_RESULT)
        if self._cache is None:
            lookout = _lookout(self.app)
            try:
                async with asyncio.timeout(timeout):
                    self._maybe_set_cache(await asyncio.wrap_future(lookout.ending(self.id)))
            except TimeoutError:
                why = f"; Redis could not be asked: {lookout.lost}" if lookout.lost else ""
                raise NoResultInTime(f"no result of {self.id} within {timeout} s{why}") from None
        return self.maybe_throw(propagate=propagate)

    if not TYPE_CHECKING:  # type checkers refuse it by themselves

        def __await__(self) -> NoReturn:
            raise TypeError("an EventResult cannot be awaited; write: await result.aget(timeout=10)")

    def __del__(self) -> None:
        # The base class unsubscribes from the result's channel. Without a result there is none.
        if getattr(self, "has_result", False):
            super().__del__()


def _no_backend(app: Celery) -> _NoBackend:
    backend = app.__dict__.get("postback_no_backend")
    if backend is None:
        backend = app.__dict__["postback_no_backend"] = _NoBackend(app=app)
    return backend


class _Lookout:
    """Looks for the results that coroutines of all event loops wait for.

    One thread looks for all of them with one MGET. It ends when nobody waits.

    Attributes:
        lost: Why the last look failed; None if Redis answered.
    """

    def __init__(self, app: Any) -> None:
        self.lost: str | None = None
        self._backend = app.backend
        self._redis = connect(app.postback_broker)
        self._lock = threading.Lock()
        self._waiting: dict[Future[Any], str] = {}
        self._newest = 0.0
        self._asked = threading.Event()
        self._runs = False

    def ending(self, task_id: str) -> Future[Any]:
        """What Celery stores of a task when it has ended. Whoever waits no longer cancels it."""
        future: Future[Any] = Future()
        with self._lock:
            self._waiting[future] = self._backend.get_key_for_task(task_id)
            self._newest = time.monotonic()
            self._asked.set()
            if not self._runs:
                self.lost = None
                threading.Thread(target=self._watch, name="postback-results", daemon=True).start()
                self._runs = True
        return future

    def _watch(self) -> None:
        while True:
            with self._lock:
                self._waiting = {future: key for future, key in self._waiting.items() if not future.done()}
                waiting = self._waiting.copy()
                self._runs = bool(waiting)
                self._asked.clear()
            if not waiting:
                return
            self._look(waiting)
            pause_s = min((time.monotonic() - self._newest) / 10, LONGEST_PAUSE_S)
            self._asked.wait(max(0.0, pause_s - SHORTEST_PAUSE_S))
            time.sleep(SHORTEST_PAUSE_S)

    def _look(self, waiting: dict[Future[Any], str]) -> None:
        try:
            values: list[Any] = self._redis.mget(list(waiting.values()))
            self.lost = None
        except (redis.ConnectionError, redis.TimeoutError) as lost:
            self.lost = type(lost).__name__
            return
        except redis.RedisError as refused:
            values = [refused] * len(waiting)
        for future, value in zip(waiting, values, strict=True):
            if value is not None:
                self._settle(future, value)

    def _settle(self, future: Future[Any], value: bytes | Exception) -> None:
        with suppress(InvalidStateError):  # it was cancelled meanwhile
            try:
                if isinstance(value, Exception):
                    raise value
                meta = self._backend.decode(value)
                if meta["status"] in states.READY_STATES:
                    future.set_result(meta)
            except Exception as failed:
                future.set_exception(failed)


def _lookout(app: Any) -> _Lookout:
    # A forked child has no thread and no lock of its parent's.
    name = f"postback_lookout_{os.getpid()}"
    if name not in app.__dict__:
        app.__dict__.setdefault(name, _Lookout(app))
    lookout: _Lookout = app.__dict__[name]
    return lookout
