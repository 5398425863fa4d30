"""Moves the journal's records from Redis into its database (``python -m workers.journal``)."""
