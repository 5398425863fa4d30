"""What Alembic runs: the migrations, over the connection that it is given."""

from __future__ import annotations

from alembic import context

from postback.journal.schema import METADATA, VERSIONS

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSIONS)
with context.begin_transaction():
    context.run_migrations()
