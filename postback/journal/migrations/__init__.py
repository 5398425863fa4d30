"""The versions of the journal's tables, by Alembic."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from postback.errors import ConfigurationError

__all__ = ["upgrade"]

#: PostgreSQL's advisory lock, so that of several processes one makes the tables.
LOCK: Final = 0x706F737462


def upgrade(engine: sa.Engine) -> None:
    """Bring a database to the newest form, in one transaction.

    Raises:
        ConfigurationError: A newer Postback has written it.
        sqlalchemy.exc.SQLAlchemyError: It is away, or cannot be written.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError:
            shown = engine.url.render_as_string(hide_password=True)
            raise ConfigurationError(f"POSTBACK_JOURNAL_URL: a newer Postback has written {shown}") from None
        connection.commit()
