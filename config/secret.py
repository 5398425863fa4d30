"""A credential that cannot slip out by accident."""

from __future__ import annotations

import hmac
from typing import Final, NoReturn

#: What a secret looks like wherever it is shown.
MASK: Final = "***"


class Secret:
    """A string that shows itself only to a caller who asks for it with :meth:`reveal`.

    ``repr``, ``str`` and ``format`` give ``***``. Pickling raises ``TypeError``; so does
    ``json.dumps``, because a secret is no ``str``. Secrets are in a worker's memory only (invariant
    I8). No message, result or log line can carry one.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Wrap ``value``."""
        self._value = value

    def reveal(self) -> str:
        """The text itself. Call it where a request is built and nowhere else."""
        return self._value

    def __repr__(self) -> str:
        """Masked."""
        return f"Secret({MASK})"

    def __str__(self) -> str:
        """Masked."""
        return MASK

    def __format__(self, spec: str) -> str:
        """Masked, whatever the format."""
        return MASK

    def __eq__(self, other: object) -> bool:
        """Equal to a secret with the same text; compared in constant time."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        """Hash of the text, salted by Python's own string hashing."""
        return hash((Secret, self._value))

    def __copy__(self) -> Secret:
        """Itself, since it is immutable. Otherwise ``copy`` would use ``__reduce_ex__``."""
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Secret:
        """As :meth:`__copy__`."""
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse.

        Raises:
            TypeError: Always: a secret does not leave the process.
        """
        raise TypeError("a Secret cannot be pickled")
