"""Where the journal's database is: ``POSTBACK_JOURNAL_URL``.

``sqlite:///path`` names a file, relative to the working directory; ``sqlite:////path`` an absolute
one. ``postgresql://user:password@host/database`` is for PostgreSQL; options of libpq may follow,
such as ``?sslmode=require``. Nothing here needs a database's package.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from postback.errors import ConfigurationError

__all__ = ["DEFAULT_URL", "VARIABLE", "file_of", "journal_url", "masked", "passwords", "shown"]

#: The environment variable that holds the URL.
VARIABLE: Final = "POSTBACK_JOURNAL_URL"
#: Used if the variable is not set.
DEFAULT_URL: Final = "sqlite:///postback-journal.sqlite3"

_SQLITE: Final = "sqlite:///"
_POSTGRESQL: Final = "postgresql+psycopg"


def journal_url(environ: Mapping[str, str] = os.environ) -> str:
    """The URL as SQLAlchemy takes it. It may hold a password; see :func:`shown`.

    Raises:
        ConfigurationError: It cannot be used; the message does not repeat it.
    """
    url = environ.get(VARIABLE, "").strip() or DEFAULT_URL
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        if not re.fullmatch(r"/[^?#:]+", rest):
            raise ConfigurationError(f"{VARIABLE} must name a file: sqlite:///path, or sqlite:////path from the root")
        return url
    if scheme not in ("postgresql", "postgres", _POSTGRESQL):
        raise ConfigurationError(f"{VARIABLE} must be a URL that begins with sqlite:/// or postgresql://")
    _check(rest)
    return f"{_POSTGRESQL}://{rest}"


def _check(rest: str) -> None:
    """Check a server's URL. No part of the password may be taken for a host or a database."""
    try:
        parts = urlsplit(f"http://{rest}")
        readable = parts.port != 0 and "@" not in parts.path + parts.query + parts.fragment
    except ValueError:
        readable = False
    if not readable or rest.count("@") > 1 or parts.fragment:
        # urllib's own message repeats a piece of the password.
        raise ConfigurationError(
            f"{VARIABLE} cannot be read: percent-encode special characters of its password "
            "(%2F for /, %23 for #, %3F for ?, %40 for @)"
        )
    if not re.fullmatch(r"/[^/]+", parts.path):
        raise ConfigurationError(f"{VARIABLE} must end with the name of a database, such as /postback")


def file_of(url: str) -> Path | None:
    """The file of an SQLite URL; None for a server."""
    return Path(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) else None


def shown(url: str) -> str:
    """The URL for people, without user, password and options."""
    return re.sub(r"://[^/]*@", "://", url, count=1).partition("?")[0].replace(_POSTGRESQL, "postgresql", 1)


def passwords(url: str) -> set[str]:
    """The passwords in a URL, as they stand there and as they are."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    written = {parts.password, *(value for name, value in pairs if "password" in name)} - {None, ""}
    return {text for word in written if word for text in (word, unquote(word))}


def masked(url: str, message: str) -> str:
    """A message without the URL's passwords."""
    for password in sorted(passwords(url), key=len, reverse=True):
        message = message.replace(password, "***")
    return message
