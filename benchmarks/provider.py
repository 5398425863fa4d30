"""The provider that all contestants post to.

It is nginx where that is installed, else :mod:`benchmarks.sink`; it answers 200 to everything.

It logs each request with its body. The log is the measurement: who arrived, when, and whether
anybody arrived twice.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from workers.devkit import Process, fetch, free_port, until

#: nginx's module that can read a body and wait before it answers. Debian: libnginx-mod-http-echo.
ECHO: Final = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
NGINX: Final = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
#: What every provider's answer table takes for success.
ANSWER: Final = '{"status":"OK","mode":"production","message":"ok"}'
#: The numbers of the events in one request's body.
NUMBERS: Final = re.compile(rb'"(?:user_id|customUserId)": ?"(\d+)"')
CONFIG: Final = """
load_module {echo};
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
  log_format arrivals escape=none '$msec $request_time $request_body';
  access_log {folder}/arrivals arrivals;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  default_type application/json;
  keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ echo_read_request_body; {sleep} echo_exec @answer; }}
    location @answer {{ return 200 '{answer}'; }}
  }}
}}
"""


@dataclass(frozen=True)
class Arrival:
    """One event at the provider: its number, and when its request came (seconds since 1970)."""

    number: int
    at_s: float


class Provider:
    """A server on loopback, from ``with`` to the end of it."""

    def __init__(self, delay_s: float = 0.0) -> None:
        """It answers ``delay_s`` after the request."""
        self.delay_s = delay_s
        self.url = ""
        self.arrivals: list[Arrival] = []
        self._read_to = 0

    @staticmethod
    def name() -> str:
        """What answers, for the table."""
        if not NGINX or not ECHO.exists():
            return "benchmarks/sink.py (Python: nginx with its echo module is not installed, so the server is part of each figure)"
        return subprocess.run([NGINX, "-v"], capture_output=True, text=True).stderr.strip().rpartition(" ")[2]

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="postback-provider-"))
        self._log = self._folder / "arrivals"
        self._log.touch()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._process = Process(self._command(port), self._folder / "errors")
        until(lambda: fetch(self.url)[0], 10, "the provider")
        self.reset()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _command(self, port: int) -> list[str]:
        if not NGINX or not ECHO.exists():
            return [sys.executable, "-m", "benchmarks.sink", str(port), str(self.delay_s), str(self._log)]
        config = self._folder / "nginx.conf"
        sleep = f"echo_sleep {self.delay_s};" if self.delay_s else ""
        user = "user root;" if self._folder.owner() == "root" else ""
        config.write_text(
            CONFIG.format(echo=ECHO, user=user, folder=self._folder, port=port, sleep=sleep, answer=ANSWER)
        )
        return [NGINX, "-c", str(config), "-e", str(self._folder / "errors")]

    def reset(self) -> None:
        """Forget what has arrived."""
        self.count()
        self.arrivals = []

    def count(self) -> int:
        """Read what came since the last look, and say how many events have arrived."""
        with self._log.open("rb") as log:
            log.seek(self._read_to)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            end_s, taken_s, body = line.split(b" ", 2)
            at_s = float(end_s) - float(taken_s)
            self.arrivals += [Arrival(int(number), at_s) for number in NUMBERS.findall(body)]
        return len(self.arrivals)
