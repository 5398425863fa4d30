"""Metrics for Prometheus: each worker process's own, and what is in Redis (``python -m workers.metrics``).

Labels name accounts, reasons and windows: never a credential, never a person.
"""
