"""The app for ``celery -A workers.app …``: all accounts, or those of ``POSTBACK_PROVIDER``."""

from __future__ import annotations

import os

from config.settings import load_settings
from workers.composition import compose

settings = load_settings(os.environ)
app = compose(settings, os.environ, settings.provider)
