"""Postback for Django: settings, system checks, and an outbox in the project's own database.

::

    INSTALLED_APPS = [..., "postback.contrib.django"]
    POSTBACK = {"BROKER_URL": "redis://127.0.0.1:6379/0"}
"""
