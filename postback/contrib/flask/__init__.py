"""Postback for Flask: configuration keys and commands.

::

    app = Flask(__name__)
    app.config["POSTBACK_BROKER_URL"] = "redis://127.0.0.1:6379/0"
    Postback(app)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from postback._send import producer
from postback._suggestion import suggestion
from postback.contrib.flask.commands import postback_group
from postback.contrib.values import read_accounts
from postback.errors import ConfigurationError

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["KEYS", "Postback"]

#: Configuration key -> argument of :func:`postback.configure`. If a key is missing or None, the
#: environment variable of the same name decides.
KEYS: Final[Mapping[str, str]] = {
    "POSTBACK_BROKER_URL": "broker_url",
    "POSTBACK_ACCOUNTS": "accounts",
    "POSTBACK_SEND_TIMEOUT_S": "send_timeout_s",
}


class Postback:
    """The extension. Its settings are those of the whole process.

    If a process has several apps, the last one that is initialised decides.

    Args:
        app: None to call :meth:`init_app` later.
    """

    def __init__(self, app: Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Apply an app's configuration and add ``flask postback …``.

        Raises:
            ConfigurationError: A ``POSTBACK_…`` key is unknown or wrong. The message names it and
                holds no secret.
        """
        for key in app.config:
            if key.startswith("POSTBACK_") and key not in KEYS:
                raise ConfigurationError(f"app.config has an unknown key {key!r}: {suggestion(key, KEYS)}")
        producer.configure(**{argument: _read(key, app.config.get(key)) for key, argument in KEYS.items()})
        app.extensions["postback"] = self
        if postback_group.name not in app.cli.commands:
            app.cli.add_command(postback_group)


def _read(key: str, value: Any) -> Any:
    if value is None:
        return None
    if key == "POSTBACK_ACCOUNTS":
        return read_accounts(key, value)
    # app.config.from_prefixed_env() reads a number as text.
    kinds: tuple[type, ...] = (str,) if key == "POSTBACK_BROKER_URL" else (int, float, str)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ConfigurationError(
            f"{key} must be a {'URL' if kinds == (str,) else 'number'}, not {type(value).__name__}"
        )
    return value
