"""Where the journal's database is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from postback.errors import ConfigurationError

__all__ = ["DEFAULT_JOURNAL_URL", "URL_VARIABLE", "journal_url"]

#: The environment variable that names it.
URL_VARIABLE: Final = "POSTBACK_JOURNAL_URL"
#: An SQLite file in the working directory.
DEFAULT_JOURNAL_URL: Final = "sqlite:///postback-journal.sqlite3"
#: What users write -> SQLAlchemy's name of it with psycopg 3.
_DRIVERS: Final = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


def journal_url(environ: Mapping[str, str]) -> str:
    """The database's SQLAlchemy URL. It may hold a password.

    Raises:
        ConfigurationError: It is no URL of SQLite or PostgreSQL. The sentence does not quote it.
    """
    url = environ.get(URL_VARIABLE, "").strip() or DEFAULT_JOURNAL_URL
    scheme, separator, rest = url.partition("://")
    driver = _DRIVERS.get(scheme.lower()) if separator else None
    if driver is None or (driver == "sqlite" and not re.fullmatch(r"/[^?#]+", rest)):
        raise ConfigurationError(
            f"{URL_VARIABLE} must be sqlite:///path/to/file or postgresql://user:password@host/database"
        )
    return f"{driver}://{rest}"
