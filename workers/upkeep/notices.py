"""Calls the application's hook for dead letters, ``POSTBACK_ON_DEAD``.

The script that buries a message pushes the same entry onto ``<provider>.dead.notices``, in the same
step. This module reads the oldest notice, calls the hook with it, and removes exactly that entry
after the call. So the hook is called at least once for each dead letter even if processes are
killed, and otherwise once. It runs in threads with their own connection: delivery does not wait.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import redis
from celery import bootsteps

from config.settings import Hook, Settings
from postback._send.celery_app import make_app
from postback.errors import ConfigurationError
from postback.operations.letters import read_letter
from postback.wire import keys
from postback.wire.scripts import Script
from workers.observe.logs import word

logger = logging.getLogger(__name__)

#: Seconds between two reads of an empty list, and while Redis is away.
POLL_S: Final = 1.0
#: Seconds after a failed notice until the next one is tried again: the first and the longest.
PAUSE_S: Final = (1.0, 60.0)
#: Seconds after which a call is given up. Its notice goes behind the others, and another process
#: may continue.
LONGEST_CALL_S: Final = 60.0
#: Seconds for which a process holds the right to call.
LOCK_S: Final = 10.0
#: Seconds after which it renews that right.
RENEW_S: Final = 3.0
#: Seconds for which the end of the process waits for a call.
STOP_S: Final = 5.0
#: Seconds that publishing a task may take.
PUBLISH_S: Final = 5.0

_hold_lock: Final = Script("workers.upkeep", "hold_lock")
_defer_notice: Final = Script("workers.upkeep", "defer_notice")

#: The hook. Its argument is a dead letter as ``postback dead list --json`` shows it.
HookFunction = Callable[[dict[str, Any]], object]


def load_hook(hook: Hook, settings: Settings, provider: str | None) -> HookFunction:
    """The function to call. Its module is imported now.

    Args:
        hook: From the settings.
        settings: Where Redis is.
        provider: Whose broker carries the task; None for the common one.

    Raises:
        ConfigurationError: There is no such function, or it cannot be called with one argument.
    """
    if hook.queue:
        app = make_app(settings.broker_of(provider), PUBLISH_S)
        return partial(_publish, app, hook)
    return _function(hook)


def _function(hook: Hook) -> HookFunction:
    shown = f"POSTBACK_ON_DEAD: {hook.module}:{hook.name}"
    try:
        function: Any = importlib.import_module(hook.module)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"POSTBACK_ON_DEAD: cannot import {hook.module}: there is no module {error.name}; is PYTHONPATH right?"
        ) from None
    except Exception as error:
        # Its words may hold anything, even a password.
        raise ConfigurationError(
            f"POSTBACK_ON_DEAD: importing {hook.module} raises {type(error).__name__}; "
            f"`python -c 'import {hook.module}'` shows where"
        ) from None
    for name in hook.name.split("."):
        function = getattr(function, name, None)
    if not callable(function):
        raise ConfigurationError(f"{shown} is not a function")
    if inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"{shown} is async; a plain function is needed")
    try:
        inspect.signature(function).bind({})
    except TypeError:
        raise ConfigurationError(f"{shown} must take one argument, the dead letter") from None
    except ValueError:
        pass  # a function in C without a signature
    return function  # type: ignore[no-any-return]


def _publish(app: Any, hook: Hook, letter: dict[str, Any]) -> None:
    app.send_task(
        hook.name,
        args=[letter],
        queue=hook.queue,
        # Flower shows this text in place of the arguments.
        argsrepr=f"<dead letter {word(str(letter['id']))}>",
        ignore_result=True,
        # The anonymous exchange leads to the list directly: nothing has to be declared.
        declare=(),
        retry=False,
    )


class Notices:
    """Calls the hook for one provider's dead letters. Of all processes one does so at a time."""

    def __init__(
        self,
        provider: str,
        client: redis.Redis,
        hook: HookFunction,
        *,
        poll_s: float = POLL_S,
        pause_s: tuple[float, float] = PAUSE_S,
        longest_call_s: float = LONGEST_CALL_S,
        lock_s: float = LOCK_S,
        renew_s: float = RENEW_S,
    ) -> None:
        """Nothing is sent yet.

        Args:
            provider: ``tgtrack``.
            client: Shared by threads; replies as bytes, retries off, short time-outs.
            hook: Called in its own thread, with one dead letter at a time.
            poll_s: Seconds between two reads of an empty list.
            pause_s: Seconds after a failed notice until the next try: the first and the longest.
            longest_call_s: Seconds after which a call is given up.
            lock_s: Seconds for which this process holds the right to call.
            renew_s: Seconds after which it renews that right.
        """
        self._provider = provider
        self._client = client
        self._hook = hook
        self._poll_s, self._pauses_s, self._longest_call_s = poll_s, pause_s, longest_call_s
        self._lock_s, self._renew_s = lock_s, renew_s
        self._new = keys.dead_notices(provider)
        self._failed = keys.dead_notices_failed(provider)
        self._lock = keys.dead_notices_lock(provider)
        self._token = uuid.uuid4().hex
        self._pause_s = pause_s[0]
        self._retry_at_s = 0.0
        #: The write to Redis after a call that has returned. It is kept after a lost connection, so
        #: that the hook is not called a second time.
        self._unsettled: Callable[[], object] | None = None
        #: Start of the running call (monotonic), and the list and entry of its notice.
        self._call: tuple[float, str, bytes] | None = None
        self._call_lock = threading.Lock()
        self._stopping = threading.Event()
        self._is_away = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads. They do not keep the process alive."""
        for run in (self._work, self._keep_lock):
            thread = threading.Thread(target=run, name=f"notices-{self._provider}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Begin no further call."""
        self._stopping.set()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Wait for a running call. If it takes longer, the hook gets its notice once more."""
        self.close()
        end_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            logger.warning("%s: POSTBACK_ON_DEAD is still running; its dead letter is reported again", self._provider)

    # The thread that calls

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                wait_s = self._step()
                self._is_away = False
            except redis.RedisError as error:
                if not self._is_away:
                    logger.warning("%s: cannot look for notices now (%s)", self._provider, type(error).__name__)
                self._is_away = True
                wait_s = self._poll_s
            if wait_s:
                self._stopping.wait(wait_s)
        with contextlib.suppress(redis.RedisError):
            self._release()

    def _step(self) -> float:
        """Call the hook once, if there is a notice. Returns seconds until the next step."""
        if self._unsettled is not None:
            self._unsettled()
            self._unsettled = None
        pipeline = self._client.pipeline(transaction=False)
        pipeline.llen(self._new)
        pipeline.llen(self._failed)
        waiting, failed = pipeline.execute()
        retried = not waiting and failed and time.monotonic() >= self._retry_at_s
        if not (waiting or retried) or not self._hold():
            return self._poll_s
        place = self._new if waiting else self._failed
        raw: Any = self._client.lindex(place, -1)
        if raw is not None:
            self._call_hook(place, raw)
        return 0.0

    def _hold(self) -> bool:
        return bool(_hold_lock(self._client, [self._lock], [self._token, int(self._lock_s * 1000)]))

    def _release(self) -> None:
        _hold_lock(self._client, [self._lock], [self._token, 0])

    def _call_hook(self, place: str, raw: bytes) -> None:
        with self._call_lock:
            self._call = (time.monotonic(), place, raw)
        error = self._raised(raw)
        with self._call_lock:
            given_up, self._call = self._call is None, None
        if error is None:
            if place == self._failed:
                self._pause_s = self._pauses_s[0]
            # If the call was given up, its notice is now behind the failed ones.
            self._settle(partial(self._client.lrem, self._failed if given_up else place, -1, raw))  # type: ignore[arg-type]
            return
        if place == self._new and not given_up:
            # The words of an error may hold a person's data.
            logger.warning(
                "%s: POSTBACK_ON_DEAD raised %s for the dead letter %s; it is tried again",
                self._provider,
                type(error).__name__,
                self._id_of(raw),
            )
        if place == self._failed:
            self._retry_at_s = time.monotonic() + self._pause_s
            self._pause_s = min(self._pause_s * 2, self._pauses_s[1])
        elif time.monotonic() >= self._retry_at_s:
            self._retry_at_s = time.monotonic() + self._pauses_s[0]
        if not given_up:
            self._settle(partial(self._defer, place, raw))

    def _raised(self, raw: bytes) -> BaseException | None:
        """Call the hook. Returns the exception that it raised."""
        try:
            self._hook(read_letter(raw, self._provider).as_json())
        except BaseException as error:  # a hook may raise SystemExit, and this thread must go on
            return error
        return None

    def _settle(self, write: Callable[[], object]) -> None:
        self._unsettled = write
        write()
        self._unsettled = None

    def _defer(self, place: str, raw: bytes) -> None:
        _defer_notice(self._client, [place, self._failed], [raw])

    def _id_of(self, raw: bytes) -> str:
        return word(read_letter(raw, self._provider).message.id) or "?"

    # The thread that keeps the lock

    def _keep_lock(self) -> None:
        while not self._stopping.wait(self._renew_s):
            # The other thread logs that Redis is away.
            with contextlib.suppress(redis.RedisError):
                self._renew()

    def _renew(self) -> None:
        """Keep the lock while a call runs; give up a call that takes too long."""
        with self._call_lock:
            if self._call is None:
                return
            begun_s, place, raw = self._call
            if time.monotonic() - begun_s < self._longest_call_s:
                self._hold()
                return
            self._defer(place, raw)
            self._call = None
        logger.warning(
            "%s: POSTBACK_ON_DEAD has been running for %g s for the dead letter %s; this process calls nothing more until it returns",
            self._provider,
            self._longest_call_s,
            self._id_of(raw),
        )
        self._release()


def notices_step(notices: Sequence[Notices]) -> type[bootsteps.StartStopStep]:
    """Starts and stops the threads with the worker, whatever happens to its connections."""

    class NoticesStep(bootsteps.StartStopStep):
        requires = ("celery.worker.components:Pool",)
        name = "postback.notices"

        def start(self, w: Any) -> None:
            for provider_notices in notices:
                provider_notices.start()

        def close(self, w: Any) -> None:
            for provider_notices in notices:
                provider_notices.close()

        def stop(self, w: Any) -> None:
            for provider_notices in notices:
                provider_notices.stop()

        def terminate(self, w: Any) -> None:
            self.stop(w)

    return NoticesStep
