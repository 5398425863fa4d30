"""Metrics of what is in Redis, for Prometheus (``python -m workers.metrics``).

Labels name accounts, reasons and windows, never a credential or a person.
"""
