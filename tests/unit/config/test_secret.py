from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback

import pytest

from config.secret import Secret

TEXT = "k3y-of-a-bot"


@pytest.mark.parametrize("shown", [repr, str, "{}".format, "{:>40}".format, lambda s: f"{s!r} {s!s}", "%s".__mod__])
def test_showing(shown) -> None:
    """No way of turning a secret into text shows it."""
    assert TEXT not in shown(Secret(TEXT))


def test_inside_of_other_objects() -> None:
    """A list or a mapping that holds a secret does not show it either."""
    assert TEXT not in repr({"token": [Secret(TEXT)]})


def test_pickle() -> None:
    """A secret cannot be pickled, so no process pool and no cache gets it."""
    with pytest.raises(TypeError):
        pickle.dumps(Secret(TEXT))


def test_json() -> None:
    """A secret is no str, so JSON refuses it."""
    with pytest.raises(TypeError):
        json.dumps({"token": Secret(TEXT)})


def test_no_dict() -> None:
    """A secret has no ``__dict__`` that an error reporter could walk through."""
    assert not hasattr(Secret(TEXT), "__dict__")


def test_traceback_with_locals() -> None:
    """A traceback that shows local variables shows the mask."""
    try:
        secret = Secret(TEXT)
        raise ValueError(secret)
    except ValueError as error:
        told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "Secret(***)" in told
    assert TEXT not in told.replace("TEXT = ", "").replace(f"'{TEXT}'", "")


def test_log(caplog: pytest.LogCaptureFixture) -> None:
    """A log line with a secret as its argument shows the mask."""
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("token %s", Secret(TEXT))
    assert caplog.messages == ["token ***"]


def test_reveal() -> None:
    """Who asks for the text gets it, from a copy too."""
    assert copy.deepcopy({"token": Secret(TEXT)})["token"].reveal() == TEXT


def test_equality() -> None:
    """Secrets are equal when their texts are, and never equal to the text itself."""
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret("other")
    assert Secret(TEXT) != TEXT
