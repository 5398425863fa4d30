"""Where the journal's database is."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import load_settings
from postback.errors import ConfigurationError
from postback.journal.location import DEFAULT_URL, VARIABLE, file_of, journal_url, masked, passwords, shown

SECRET = "pa55w0rd"


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{SECRET}@host/db", f"postgresql+asyncpg://u:{SECRET}@host/db", f"postgresql+psycopg2://u:{SECRET}@host/db",
        f"{SECRET}@host/db", f"postgresql:/u:{SECRET}@host/db", f"postgresql://u:{SECRET}@host", f"postgresql://u:{SECRET}@host/",
        f"postgresql://u:{SECRET}@host/a/b", f"postgresql://u:a/{SECRET}@host/db", f"postgresql://u:a#{SECRET}@host/db",
        f"postgresql://u:a@{SECRET}@host/db", f"postgresql://u:a?{SECRET}@host/db", f"postgresql://u:{SECRET}@host:port/db",
        f"postgresql://u:{SECRET}@host:0/db", f"postgresql://u:{SECRET}@host:99999/db", "sqlite://", "sqlite:///", "sqlite:///:memory:",
        "sqlite://file", "sqlite:///file?mode=ro", "sqlite+aiosqlite:///file", "postback-journal.sqlite3",
    ],
)  # fmt: skip
def test_refused(url: str) -> None:
    """What cannot be used is refused in one sentence that names the variable and repeats nothing of
    the URL, at the start of every process.
    """
    for read in (journal_url, load_settings):
        with pytest.raises(ConfigurationError) as caught:
            read({VARIABLE: url})
        assert str(caught.value).startswith(f"{VARIABLE} ")
        assert SECRET not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_psycopg(scheme: str) -> None:
    """PostgreSQL is reached by psycopg, whichever of its names the URL has."""
    url = journal_url({VARIABLE: f" {scheme}://u:{SECRET}@host:5433/db?sslmode=require "})
    assert url == f"postgresql+psycopg://u:{SECRET}@host:5433/db?sslmode=require"
    assert file_of(url) is None


@pytest.mark.parametrize(
    ("environ", "file"),
    [
        ({}, "postback-journal.sqlite3"),
        ({VARIABLE: ""}, "postback-journal.sqlite3"),
        ({VARIABLE: "sqlite:///data/my journal.db"}, "data/my journal.db"),
        ({VARIABLE: "sqlite:////var/lib/journal.db"}, "/var/lib/journal.db"),
    ],
)
def test_file(environ: dict[str, str], file: str) -> None:
    """An SQLite file is relative to the working directory unless it begins with a slash; without
    the variable there is one.
    """
    assert file_of(journal_url(environ)) == Path(file)
    assert journal_url({}) == DEFAULT_URL


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"postgresql://u:{SECRET}@host/db", {SECRET}),
        ("postgresql://u:a%2Fb%40c@host/db", {"a%2Fb%40c", "a/b@c"}),
        (f"postgresql://u@host/db?password={SECRET}&sslpassword=other", {SECRET, "other"}),
        ("postgresql://u@host/db", set()),
        ("sqlite:///file", set()),
    ],
)
def test_passwords(url: str, words: set[str]) -> None:
    """A message is without the URL's passwords, as they are written and as they are; people see no
    user and no option either.
    """
    url = journal_url({VARIABLE: url})
    assert passwords(url) == words
    assert not any(word in masked(url, f"cannot use {url}: {' '.join(words)}") for word in words)
    assert shown(url) in ("postgresql://host/db", "sqlite:///file")


def test_not_in_repr() -> None:
    """The settings do not show it."""
    settings = load_settings({VARIABLE: f"postgresql://u:{SECRET}@host/db"})
    assert SECRET not in repr(settings)


@pytest.mark.parametrize("days", ["0", "3651", "-1", "1.5", "many"])
def test_bad_days(days: str) -> None:
    """Records are kept for a whole number of days, 1 to 3650."""
    with pytest.raises(ConfigurationError, match="POSTBACK_JOURNAL_DAYS must be a whole number from 1 to 3650"):
        load_settings({"POSTBACK_JOURNAL_DAYS": days})
