from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from postback.sandbox import Sandbox, engine
from postback.sandbox.providers import provider_classes

SALE = {"user_id": "1", "event_type": "sale"}


def test_methods_of_providers(sandbox):
    """What a provider's controls name, the sandbox has as its own methods; `hasattr` tells them
    from others.
    """
    assert [hasattr(sandbox, name) for name in ("set_mode", "set_user", "tonapi_script", "set_style")] == [True] * 3 + [
        False
    ]
    with pytest.raises(AttributeError, match="'fly'"):
        sandbox.fly()


def test_setting_at_the_start(make, connect):
    """A provider's setting may be given to the sandbox as it is made."""
    assert connect(make(mode="sandbox")).tgtrack("add_event", SALE).json()["mode"] == "sandbox"


def test_no_such_setting():
    """A setting that no provider has is refused."""
    with pytest.raises(TypeError, match="'color'"):
        Sandbox(color="red")


def test_no_such_provider(sandbox):
    """A provider is asked for by its name."""
    assert sandbox.provider("tonapi").name == "tonapi"
    with pytest.raises(ValueError, match=r"'nobody' is none of the providers .*, tonapi"):
        sandbox.provider("nobody")


@pytest.mark.parametrize(
    ("controls", "told"),
    [({"own": "set_mode"}, "a method set_mode"), ({"user": "set_x"}, "'user'"), ({"faults": "set_x"}, "'faults'")],
)
def test_clash(monkeypatch, controls, told):
    """A method or control that is there already is refused: it would hide the other."""
    classes = provider_classes()

    class Shop(classes["tonai"]):
        name: ClassVar[str] = "shop"

        def set_x(self):
            """Nothing."""

    mapping: Mapping[str, str] = controls
    Shop.controls = mapping
    monkeypatch.setattr(engine, "provider_classes", lambda: {**classes, "shop": Shop})
    with pytest.raises(TypeError, match=told):
        Sandbox()
