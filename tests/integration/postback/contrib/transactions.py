"""A transaction that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import transaction


class Rollback(Exception):
    """What goes wrong in it."""


@contextmanager
def rolled_back(alias: str) -> Iterator[None]:
    """A transaction (inside of another: a savepoint) that is rolled back at the block's end."""
    with suppress(Rollback), transaction.atomic(using=alias):
        yield
        raise Rollback
