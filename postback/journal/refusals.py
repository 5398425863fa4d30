"""What can go wrong with the journal's database, for whoever writes it."""

from __future__ import annotations

from postback.errors import PostbackError

__all__ = ["DatabaseAway", "RecordsRefused"]


class DatabaseAway(PostbackError):
    """The database cannot be used now; the sentence says where it is and why. Try again later."""


class RecordsRefused(PostbackError):
    """The database refuses the records themselves: it never takes all of them. None was written."""
