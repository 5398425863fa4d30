"""Postback inside Django, Flask and foreign Celery apps."""
