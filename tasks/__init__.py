"""What is done for each provider: how a request is built, what an answer means, and the Celery tasks that do it."""
