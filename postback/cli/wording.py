"""How the command words durations, numbers and counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from postback import _suggestion

#: Names that a sentence lists, if none is near.
NAMED: Final = 20


def duration(seconds: float) -> str:
    """Two units at most: ``45 s``, ``7 min``, ``9 h 3 min``, ``24 h``, ``3 d 4 h``."""
    if seconds < 0.95:
        return "under 1 s"
    total = round(seconds)
    for size, unit, below, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        # A day is 24 h, as quotas are spoken of.
        if total >= (2 * size if unit == "d" else size):
            more = total % size // below
            # Seconds beside ten minutes, or hours beside ten days, are noise.
            return f"{total // size} {unit}" + (f" {more} {small}" if more and total < 10 * size else "")
    return f"{total} s"


def short_duration(seconds: float) -> str:
    """For a narrow column: ``45s``, ``7m``, ``9h3m``, ``3d4h``."""
    return "now" if seconds < 0.95 else duration(seconds).replace(" min", "m").replace(" ", "")


def short_number(number: int) -> str:
    """For a narrow column: ``9999``, ``12k``, ``1.2M``."""
    if number < 10_000:
        return str(number)
    if number < 1_000_000:
        return f"{number // 1000}k"
    return f"{number / 1_000_000:.1f}M"


def megabytes(count: int) -> str:
    """``12 MB``, ``1.5 GB``, counted as Redis counts ``maxmemory 256mb``."""
    if count >= 1 << 30:
        return f"{count / (1 << 30):.1f} GB"
    return f"{count / (1 << 20):.0f} MB" if count >= 1 << 20 else f"{count / 1024:.0f} kB"


def shortened(text: str, most: int, tail: int = 0) -> str:
    """A text of at most so many characters, its last ``tail`` ones among them."""
    return text if len(text) <= most else f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def listed(names: Sequence[str], most: int) -> str:
    """``a, b and 3 more``: the first ones of some names."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def counted(count: int, one: str) -> str:
    """``1 event``, ``5,000 events``."""
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def nearest(word: str, names: Collection[str], kind: str) -> str:
    """For a mistyped name: ``did you mean tgtrack?``, or which there are: ``providers are …``.

    Args:
        word: What was typed.
        names: What there is, in the order of a list.
        kind: What they are, for the list: ``providers``.
    """
    near = _suggestion.nearest(word, names)
    return (
        f"did you mean {near}?" if near is not None else f"{kind} are {listed(list(names), NAMED) or 'not known yet'}"
    )


def no_account(provider: str | None, account: str | None, names: Collection[str]) -> str:
    """For a name that is no account's.

    Args:
        provider: Whose account it should be; None: of any provider.
        account: The name; None if one must be named and was not.
        names: Accounts that there are.
    """
    if account is None:
        return f"{provider} has several accounts, and none is named main: add --account; they are {listed(list(names), NAMED)}"
    whose = f"{provider} has no account" if provider else "no provider has an account"
    return f"{whose} {account[:80]!r}; {nearest(account, names, 'accounts')}"
