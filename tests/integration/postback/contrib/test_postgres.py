"""The PostgreSQL server of the tests."""

from __future__ import annotations

import os

import pytest

from tests.shared import postgres


def test_no_server_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PostgreSQL is missing and cannot be installed the tests fail with a sentence; they are
    not skipped.
    """
    monkeypatch.setattr(postgres, "_installed", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(RuntimeError, match="apt-get install postgresql"):
        postgres.find_binaries()
