"""Django inside this process, with the outbox in a real SQLite file and in a real PostgreSQL
server.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
import redis
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connections

import postback
from postback._send.redirects import redirects
from tests.shared.postgres import PostgresServer
from workers.devkit import RedisServer

#: Known before the server starts: Django's settings cannot be changed afterwards.
FOLDER = Path(tempfile.gettempdir(), f"postback-django-{os.getpid()}")
POSTGRES = PostgresServer()

if not django_settings.configured:
    django_settings.configure(
        SECRET_KEY="x",
        USE_TZ=True,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="tests.integration.postback.contrib.urls",
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "django.contrib.messages",
            "django.contrib.admin",
            "postback.contrib.django",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(FOLDER / "db.sqlite")},
            "postgresql": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "postback",
                "USER": "postback",
                "HOST": POSTGRES.env["PGHOST"],
            },
            "empty": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(FOLDER / "empty.sqlite")},
            "empty_postgresql": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "template1",
                "USER": "postback",
                "HOST": POSTGRES.env["PGHOST"],
            },
        },
        POSTBACK={"BROKER_URL": "redis://127.0.0.1:1/0"},
    )


@pytest.fixture(scope="session")
def site() -> Iterator[None]:
    """Django, set up and migrated on both databases."""
    FOLDER.mkdir()
    with POSTGRES:
        django.setup()
        for alias in ("default", "postgresql"):
            call_command("migrate", database=alias, verbosity=0)
        yield
        connections.close_all()
        postback.configure()
    shutil.rmtree(FOLDER, ignore_errors=True)


@pytest.fixture(params=["default", "postgresql"])
def alias(request: pytest.FixtureRequest, site: None) -> str:
    """Each of the databases in turn, with an empty outbox."""
    name: str = request.param
    for model in django.apps.apps.get_app_config("postback").get_models():
        model.objects.using(name).all().delete()
    return name


@pytest.fixture
def broker(
    redis_server: RedisServer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[redis.Redis]:
    """An empty Redis that this process sends to; its accounts are not known."""
    for name in [name for name in os.environ if name.startswith(("POSTBACK_", "CELERY_"))]:
        monkeypatch.delenv(name)
    redirects.set_sink(None)
    postback.configure(broker_url=redis_server.url)
    yield redis_client
    postback.configure()


@pytest.fixture
def rows(alias: str) -> Any:
    """The outbox's rows in the database of this test, in order."""
    return django.apps.apps.get_model("postback", "OutboxEvent").objects.using(alias)
