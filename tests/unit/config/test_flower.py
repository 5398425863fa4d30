from __future__ import annotations

import subprocess
import sys

import pytest

from config import flower as flowerconfig
from config.flower import flower_options
from postback.errors import ConfigurationError

PASSWORD = "jane:s3cr3t"


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.5", "flower.example", "127.0.0.1.example", "0"])
@pytest.mark.parametrize("password", [{}, {"FLOWER_BASIC_AUTH": ""}, {"FLOWER_BASIC_AUTH": " , "}])
def test_open_to_others_without_password(address: str, password: dict[str, str]) -> None:
    """Without a password an address that others can reach is refused, and so is an empty
    password.
    """
    with pytest.raises(ConfigurationError, match="set FLOWER_BASIC_AUTH too"):
        flower_options({"FLOWER_ADDRESS": address, **password})


@pytest.mark.parametrize("value", ["s3cr3t", ":s3cr3t", "jane:", "jane:s3cr3t,s3cr3t"])
def test_bad_password(value: str) -> None:
    """A password without its user is refused, and not shown."""
    with pytest.raises(ConfigurationError, match="FLOWER_BASIC_AUTH must be user:password") as caught:
        flower_options({"FLOWER_BASIC_AUTH": value})
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("port", ["http", "-1", "65536", "5555.0", "٥"])
def test_bad_port(port: str) -> None:
    """A port is a number that a port can be."""
    with pytest.raises(ConfigurationError, match="FLOWER_PORT must be"):
        flower_options({"FLOWER_PORT": port})


@pytest.mark.parametrize("environ", [{}, {"FLOWER_ADDRESS": "", "FLOWER_BASIC_AUTH": "", "FLOWER_PORT": ""}])
def test_default(environ: dict[str, str]) -> None:
    """Left alone, Flower serves this machine only."""
    assert flower_options(environ) == {"address": "127.0.0.1", "port": 5555, "basic_auth": []}


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_loopback(address: str) -> None:
    """Any loopback address may do without a password."""
    assert flower_options({"FLOWER_ADDRESS": address})["address"] == address


def test_with_password() -> None:
    """With a password Flower serves everyone, or whom the address says."""
    assert flower_options({"FLOWER_BASIC_AUTH": f"{PASSWORD}, joe:x:y"}) == {
        "address": "",
        "port": 5555,
        "basic_auth": [PASSWORD, "joe:x:y"],
    }
    assert flower_options({"FLOWER_BASIC_AUTH": PASSWORD, "FLOWER_ADDRESS": "10.0.0.5"})["address"] == "10.0.0.5"


def flower(script: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a script after Flower has read its environment and our file, the way its command does."""
    start = (
        "from flower.command import apply_env_options, apply_options; from tornado.options import options\n"
        "apply_env_options(); apply_options('flower', ['--conf=config/flower.py'])\n"
    )
    return subprocess.run(
        [sys.executable, "-c", start + script],
        env={"PYTHONPATH": ".", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_flower_reads_it() -> None:
    """Flower itself takes the file, its variables, and every name in it that we mean as an
    option.
    """
    done = flower(
        "print(options.address, options.port, options.basic_auth)\n"
        "print(options.max_tasks, options.persistent, options.natural_time)",
        FLOWER_BASIC_AUTH=PASSWORD,
        FLOWER_PORT="6001",
    )
    assert done.stdout.split() == ["6001", f"['{PASSWORD}']", "10000", "False", "True"], done.stderr


def test_empty_password_is_no_password_for_flower() -> None:
    """Flower reads an empty FLOWER_BASIC_AUTH as a password that is empty; the file puts that
    right.
    """
    done = flower("print(options.basic_auth, options.address)", FLOWER_BASIC_AUTH="")
    assert done.stdout.split() == ["[]", "127.0.0.1"], done.stderr


def test_columns_are_flowers() -> None:
    """Flower drops a column it does not know without a word."""
    from flower.views.tasks import TASK_COLUMNS

    assert set(flowerconfig.tasks_columns.split(",")) <= set(TASK_COLUMNS)


def test_names_are_flowers() -> None:
    """Flower ignores a name that is no option of its own, and takes any that is."""
    import flower.options  # noqa: F401  defines them
    from tornado.options import options

    ours = {name for name in vars(flowerconfig) if not name.startswith("_")}
    assert {name for name in ours if name in options} == {
        "address", "port", "basic_auth", "max_tasks", "persistent", "broker_api", "tasks_columns", "natural_time",
    }  # fmt: skip
