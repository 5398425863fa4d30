"""What is done for each provider: builds requests, reads answers, defines the Celery tasks."""
