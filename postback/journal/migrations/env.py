"""Alembic runs this with each of its commands: on the connection that the caller has opened."""

from alembic import context

from postback.journal.schema import METADATA, VERSIONS

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSIONS)
with context.begin_transaction():
    context.run_migrations()
