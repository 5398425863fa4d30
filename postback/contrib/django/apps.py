"""The Django app: settings are applied when Django starts."""

from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings as django_settings
from django.core import checks as framework
from django.core.signals import setting_changed

from postback._send import producer
from postback._send.redirects import redirects
from postback.contrib.django import checks, outbox
from postback.contrib.django.conf import Settings, read_settings
from postback.errors import ConfigurationError

__all__ = ["PostbackConfig"]


class PostbackConfig(AppConfig):
    """``postback.contrib.django`` in ``INSTALLED_APPS``.

    Attributes:
        postback_settings: What ``settings.POSTBACK`` says.
        problems: What is wrong with it.
    """

    name = "postback.contrib.django"
    label = "postback"
    verbose_name = "Postback"
    default_auto_field = "django.db.models.BigAutoField"

    postback_settings: Settings = Settings()
    problems: list[str] = []  # noqa: RUF012 - replaced as a whole

    def ready(self) -> None:
        """Apply ``settings.POSTBACK`` to this process and register the system checks."""
        redirects.outbox = outbox.write
        framework.register(checks.check_settings)
        framework.register(checks.check_tables, framework.Tags.database)
        setting_changed.connect(self._on_setting_changed)
        self.apply()

    def apply(self) -> None:
        """Apply the settings to this process. With wrong ones it refuses to send."""
        self.postback_settings, self.problems = read_settings(getattr(django_settings, "POSTBACK", {}))
        # gunicorn runs no system checks. There the first send fails: no event is lost in silence.
        redirects.problem = self.problems[0] if self.problems else None
        if self.problems:
            return
        producer.configure(
            broker_url=self.postback_settings.broker_url,
            accounts=self.postback_settings.accounts,
            send_timeout_s=self.postback_settings.send_timeout_s,
        )

    def require_usable(self) -> None:
        """Refuse to work with wrong settings.

        Raises:
            ConfigurationError: The first thing that is wrong.
        """
        if self.problems:
            raise ConfigurationError(self.problems[0])

    def _on_setting_changed(self, *, setting: str, **kwargs: object) -> None:
        """``override_settings(POSTBACK=…)`` in tests."""
        if setting == "POSTBACK":
            self.apply()
