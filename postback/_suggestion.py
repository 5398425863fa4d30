"""What somebody meant who mistyped a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest", "suggestion"]


def nearest(word: object, names: Iterable[str]) -> str | None:
    """The name that the word is nearest to; None if none is. Case and underscores do not count."""
    plain = {name.lower().replace("_", ""): name for name in names}
    near = difflib.get_close_matches(str(word)[:100].lower().replace("_", ""), plain, n=1, cutoff=0.6)
    return plain[near[0]] if near else None


def suggestion(word: object, choices: Iterable[str]) -> str:
    """For a name that must be one of a few: ``did you mean 'tgtrack'?``, or the list of choices."""
    names = sorted(choices)
    near = nearest(word, names)
    return f"did you mean {near!r}?" if near is not None else f"known are {', '.join(names)}"


def did_you_mean(word: object, choices: Iterable[str]) -> str:
    """What follows a sentence about an unknown name: ``(did you mean user_id?)``, or nothing."""
    near = nearest(word, sorted(choices))
    return "" if near is None else f" (did you mean {near}?)"
