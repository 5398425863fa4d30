"""Type checkers of an application that has installed the checkout with ``--editable``."""

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = """
from postback import tgtrack

event = tgtrack.AddEvent(user_id=17, event_type="sale")
event.apply_async(coutdown=5)
event.apply_async(countdown=5)
tgtrack.AddEvent(user_id=17, event_typ="sale")
text: str = event.user_id
"""


@pytest.mark.parametrize(
    ("checker", "arguments"),
    [("mypy", ["--strict", "--python-executable", sys.executable]), ("pyright", ["--pythonpath", sys.executable])],
)
def test_an_editable_install_is_found(checker: str, arguments: list[str], tmp_path: Path) -> None:
    """The checker reads the installed package: the wrong option and the wrong field."""
    (tmp_path / "app.py").write_text(SOURCE)
    command = [str(Path(sys.executable).with_name(checker)), *arguments, "app.py"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=110)
    wrong = [line for line in checked.stdout.splitlines() if ": error:" in line or " - error:" in line]
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert {line.split(":")[1] for line in wrong} == {"5", "7"}, checked.stdout
    assert "coutdown" in checked.stdout
    assert "event_typ" in checked.stdout
