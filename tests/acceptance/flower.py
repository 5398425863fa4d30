"""Flower as a process of a stack, asked as a browser asks it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from workers.devkit import Stack, fetch, free_port, until

#: Whom Flower lets in.
AUTH: Final = "jane:flower-Secret-5b1f6"
#: Longer than Flower's own refresh of the queues, with room for a busy machine.
SOON_S: Final = 40.0


class Flower:
    """``python -m workers.flower``."""

    def __init__(self, stack: Stack, **env: str) -> None:
        self.port = free_port()
        settings = {"FLOWER_PORT": str(self.port), "FLOWER_BASIC_AUTH": AUTH, "FLOWER_ADDRESS": "127.0.0.1", **env}
        self.process = stack.launch("flower", "-m", "workers.flower", **settings)

    def get(self, path: str, auth: str = AUTH) -> tuple[int, str]:
        """Status and text of a page; status 0 if nobody answers."""
        return self._ask(path, auth, None)

    def post(self, path: str, auth: str = AUTH) -> tuple[int, str]:
        """Status and text of an answer to a POST without arguments; status 0 if nobody answers."""
        return self._ask(path, auth, b"{}")

    def _ask(self, path: str, auth: str, body: bytes | None) -> tuple[int, str]:
        headers = {"Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}"} if auth else {}
        return fetch(f"http://127.0.0.1:{self.port}{path}", body, headers)

    def depths(self) -> dict[str, int]:
        """Queue -> messages, as the API has it."""
        status, text = self.get("/api/queues/length")
        if status != 200:
            return {}
        return {queue["name"]: queue["messages"] for queue in json.loads(text)["active_queues"]}

    def shows(self, depths: Mapping[str, int]) -> None:
        """Wait until the API and the Broker page show exactly these queues with these depths."""
        until(lambda: self.depths() == depths, SOON_S, f"{depths} in {self.depths()}")
        status, page = self.get("/broker")
        assert status == 200
        for name, depth in depths.items():
            assert f"<td>{name}</td>" in page
            assert f'<td class="broker-secondary-column">{depth}</td>' in page

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Task id -> what Flower knows of it."""
        tasks: dict[str, dict[str, Any]] = json.loads(self.get("/api/tasks")[1] or "{}")
        return tasks

    def workers(self) -> list[str]:
        """Names of the workers that it has heard of."""
        return list(json.loads(self.get("/api/workers")[1] or "{}"))

    def stop(self) -> int:
        """SIGTERM, then its exit status."""
        return self.process.stop(20)
