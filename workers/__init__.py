"""The worker: the Celery app, the governor with its scripts, the rounds, the HTTP engines."""
