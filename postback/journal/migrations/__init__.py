"""Alembic's migrations of the journal's tables, oldest first in ``versions``.

``postback.journal.database.open_writing`` runs them. A new one changes
``postback.journal.schema.REVISION`` too, and copies nothing from that module: it must stay as it
was.
"""
