"""The journal: a record of each request, and of what operators did (ADR 41).

Workers write records to streams in Redis. ``python -m workers.journal`` moves them into a database.
``postback find`` reads both. Only the database needs the extra ``[journal]``.
"""
