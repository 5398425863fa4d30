"""What ``delay`` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from celery import Celery
from celery.backends.base import DisabledBackend
from celery.result import AsyncResult

from postback.errors import NoResult

__all__ = ["EventResult"]


class _NoBackend(DisabledBackend):
    """The backend of results that are never stored: it raises instead of waiting for ever."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NoResult("this event has no result; only look-ups such as tgtrack.GetUserInfo have one")

    get_state = get_status = get_result = get_traceback = _refuse
    get_task_meta = get_task_meta_for = wait_for = get_many = _refuse


if TYPE_CHECKING:
    _AsyncResult = AsyncResult[Any]
else:  # Celery 5.6 cannot be subscripted
    _AsyncResult = AsyncResult


class EventResult(_AsyncResult):
    """A Celery AsyncResult of an event.

    Only ``tgtrack.GetUserInfo`` and ``tonapi.GetEvent`` have a result: a plain dict, kept for 10
    minutes. ``get`` (and ``state``, ``ready`` …) of any other event raises
    :class:`~postback.errors.NoResult` at once. Pass ``get`` a ``timeout``, because an event may
    wait for its provider's quota for hours.

    Attributes:
        id: The event's id: in Redis, in Flower, in the logs.
        provider: ``"tgtrack"``.
        has_result: Whether there is a result to wait for.
    """

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
            celery.exceptions.TimeoutError: There is none in time. The event goes on all the same.
        """
        if not self.has_result:
            raise NoResult("this event has no result; only look-ups such as tgtrack.GetUserInfo have one")
        return super().get(*args, **kwargs)

    wait = get

    def __del__(self) -> None:
        # The base class unsubscribes from the result's channel. Without a result there is none.
        if getattr(self, "has_result", False):
            super().__del__()


def _no_backend(app: Celery) -> _NoBackend:
    backend = app.__dict__.get("postback_no_backend")
    if backend is None:
        backend = app.__dict__["postback_no_backend"] = _NoBackend(app=app)
    return backend
