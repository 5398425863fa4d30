"""Settings of the shop.

SQLite unless SHOP_DATABASE=postgresql (libpq's PG… variables then say where).
"""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "only-for-this-example")
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
ROOT_URLCONF = "shop.urls"
USE_TZ = True
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "postback.contrib.django",
    "shop",
]

# Where it is not said, POSTBACK_BROKER_URL in the environment or redis://127.0.0.1:6379/0 is taken.
POSTBACK = {
    "BROKER_URL": os.environ.get("POSTBACK_BROKER_URL", "redis://127.0.0.1:6379/0"),
    "ACCOUNTS": {"tgtrack": ["main"]},
    "OUTBOX": {"KEEP_DAYS": 7, "LEASE_S": float(os.environ.get("SHOP_LEASE_S", "30"))},
}

if os.environ.get("SHOP_DATABASE") == "postgresql":
    DATABASES = {
        "default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ.get("PGDATABASE", "shop")},
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": BASE_DIR / "db.sqlite3",
            # The site and the relay write to one file: let them wait for each other.
            "OPTIONS": {"timeout": 20},
        },
    }

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
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
]
