"""Every error a producer can meet.

::

    PostbackError
    ├── InvalidEvent (ValueError)      the event breaks a rule of its provider; nothing was sent
    ├── MessageTooLarge (ValueError)   the event and its options are too long for a message;
    │                                  nothing was sent
    ├── UnknownAccount (LookupError)   the provider has no such account; nothing was sent
    ├── ConfigurationError             a setting is wrong; one sentence names it
    ├── NoResult                       .get() or .aget() on an event that never has a result
    ├── NoJournal                      find() cannot read the journal, or nobody writes it
    ├── DeadLettered                   .get() or .aget() on a look-up that became a dead letter
    └── SendError
        ├── NotEnqueued                certainly not in the queue: safe to send again
        │   └── QueueFull              the account has as many events waiting as it may have
        ├── EnqueueUnknown             the reply was lost: the event may be in the queue
        └── PartlyEnqueued             send_many stopped half-way

No message holds a credential, a broker's password, a user's id or a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from postback._suggestion import did_you_mean

__all__ = [
    "ConfigurationError",
    "DeadLettered",
    "EnqueueUnknown",
    "InvalidEvent",
    "MessageTooLarge",
    "NoJournal",
    "NoResult",
    "NotEnqueued",
    "PartlyEnqueued",
    "PostbackError",
    "PostbackWarning",
    "QueueFull",
    "SendError",
    "UnknownAccount",
    "UnknownEventName",
]


#: Most accounts that a message names.
NAMED: Final = 20


class PostbackError(Exception):
    """Base of all errors raised by Postback."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Process pools pickle exceptions. Those with keyword-only arguments need help.
        return _restore_error, (type(self), self.args, dict(self.__dict__))


def _restore_error(kind: type[PostbackError], args: tuple[Any, ...], state: dict[str, Any]) -> PostbackError:
    """Rebuild a pickled error without running its constructor."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class PostbackWarning(UserWarning):
    """Base of all warnings issued by Postback."""


class UnknownEventName(PostbackWarning):
    """The event's name is not in the provider's published list. The event is sent anyway."""


class InvalidEvent(PostbackError, ValueError):
    """The event breaks a rule of its provider.

    Attributes:
        event: Which event, ``"tgtrack.AddEvent"``.
        errors: Field's name -> what is wrong with it. Constructors name attributes
            (``custom_user_id``), ``load`` names the provider's fields (``customUserId``). What is
            wrong with the event as a whole is under ``"event"``.
    """

    def __init__(self, event: str, errors: Mapping[str, Sequence[str]]) -> None:
        self.event = event
        self.errors: dict[str, list[str]] = {field: list(messages) for field, messages in errors.items()}
        text = "; ".join(f"{field} {message}" for field, messages in self.errors.items() for message in messages)
        super().__init__(f"{event}: {text}")


class MessageTooLarge(PostbackError, ValueError):
    """The event with its headers, links and other options is longer than a worker accepts.

    Attributes:
        event: Which event, ``"tgtrack.AddEvent"``.
        size: Bytes of the message, its reserve for deliveries included.
        limit: Most bytes of a message.
    """

    def __init__(self, event: str, size: int, limit: int) -> None:
        self.event = event
        self.size = size
        self.limit = limit
        super().__init__(f"{event}: with its options the message would have {size} bytes; at most {limit} are allowed")


class UnknownAccount(PostbackError, LookupError):
    """The provider has no account of this name.

    Attributes:
        provider: ``"tgtrack"``.
        account: The event's account. None if the event names none and the provider has several,
            none of them ``main``.
        known: The provider's accounts, sorted.
    """

    def __init__(self, provider: str, account: str | None, known: Sequence[str]) -> None:
        self.provider = provider
        self.account = account
        self.known = tuple(sorted(known))
        names = ", ".join(self.known[:NAMED]) or "none"
        if len(self.known) > NAMED:
            names += f" and {len(self.known) - NAMED:,} more"
        if account is None:
            message = f"{provider} has several accounts and none is named 'main': pass account=…, one of {names}"
        else:
            message = f"{provider} has no account {account!r}{did_you_mean(account, self.known)}; known: {names}"
        super().__init__(message)


class ConfigurationError(PostbackError):
    """A setting is missing or wrong. One sentence names the variable or the key in its file."""


class NoJournal(PostbackError):
    """The journal cannot be read, or nobody writes it; the sentence says what to do."""


class NoResult(PostbackError):
    """This event has no result. Only look-ups such as ``tgtrack.GetUserInfo`` have one."""


class DeadLettered(PostbackError):
    """The look-up has no result: it became a dead letter. ``get`` and ``aget`` raise it.

    The text begins with the reason: ``rejected 400 Bad Request``.
    """

    @property
    def reason(self) -> str:
        """Why, in one word, such as ``"rejected"`` or ``"not_final"``."""
        return str(self).partition(" ")[0]


class SendError(PostbackError):
    """The event could not be handed to Redis with certainty.

    Attributes:
        ids: Ids of the events concerned.
        enqueued: How many events of the call are certainly in their queues.
    """

    enqueued: int = 0

    def __init__(self, message: str, ids: Sequence[str]) -> None:
        self.ids = tuple(ids)
        super().__init__(message)

    @property
    def id(self) -> str | None:
        """The first event's id."""
        return self.ids[0] if self.ids else None


class NotEnqueued(SendError):
    """The events are certainly not in the queue. Sending them again cannot duplicate them."""


class QueueFull(NotEnqueued):
    """The account has as many events waiting as its ``max_queued`` allows.

    Attributes:
        provider: ``"tgtrack"``.
        account: The account's name, ``"main"``.
        max_queued: Most events that may wait in it.
    """

    def __init__(self, message: str, ids: Sequence[str], *, provider: str, account: str, max_queued: int) -> None:
        self.provider = provider
        self.account = account
        self.max_queued = max_queued
        super().__init__(
            f"{message}: {provider}.{account} has its max_queued of {max_queued} events waiting; send again later, "
            "or raise max_queued in the accounts file",
            ids,
        )


class EnqueueUnknown(SendError):
    """The command was written but its reply was lost. The events may be in the queue or not.

    A worker recognises a duplicate by its idempotency key. So an event with ``idempotency_key=``
    may be sent again with the same key (``tonai.Conversion`` always has one). An event without a
    key may then be recorded twice. Send it with the same ``task_id=`` (see ``ids``), so that Flower
    and the logs show that the two messages are one event.
    """


class PartlyEnqueued(SendError):
    """``send_many`` stopped half-way.

    Attributes:
        enqueued: How many events are certainly in their queues. They are the first ones of the list
            if all providers share one Redis.
        enqueued_ids: Their ids.
        unknown_ids: Ids of the events that follow them and may be in their queues or not: the reply
            was lost, or a full Redis took some of them and refused others. See
            :class:`EnqueueUnknown`.
        rejected_ids: Ids of the events that are certainly not in their queues.
        ids: ``unknown_ids`` and ``rejected_ids``.
    """

    def __init__(
        self, message: str, *, enqueued_ids: Sequence[str], unknown_ids: Sequence[str], rejected_ids: Sequence[str]
    ) -> None:
        self.enqueued_ids = tuple(enqueued_ids)
        self.unknown_ids = tuple(unknown_ids)
        self.rejected_ids = tuple(rejected_ids)
        self.enqueued = len(self.enqueued_ids)
        super().__init__(message, (*self.unknown_ids, *self.rejected_ids))
