"""How it runs: the Celery app, the governed transport, the governor with its scripts, HTTP sessions."""
