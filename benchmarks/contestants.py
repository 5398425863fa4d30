"""Who is compared, each as its own documents recommend, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from typing import Final

from workers.devkit import ROOT

#: Environments of the rivals; some of them exclude each other's versions.
ENVIRONMENTS: Final = ROOT / ".bench"


@dataclass(frozen=True)
class Contestant:
    """A script with the commands of :mod:`benchmarks.rivals`."""

    name: str
    script: str
    #: Events of a usual round: some seconds of its work.
    events: int
    #: Runs until it is stopped; else it posts ``BENCH_EVENTS`` events and ends.
    queue: bool = True
    work: tuple[str, ...] = ("work",)
    enqueue: str = "enqueue"
    env: dict[str, str] = field(default_factory=dict)
    #: The one core that its worker may use; None: any.
    core: int | None = None

    def python(self) -> str:
        """The interpreter that runs it."""
        return sys.executable if self.script == "ours" else str(ENVIRONMENTS / self.script / "bin" / "python")

    def command(self, *verb: str) -> list[str]:
        """A command line."""
        return [self.python(), "-m", "benchmarks.rivals", self.script, *verb]


POSTBACK: Final = Contestant("Postback", "ours", 6_000, enqueue="send_many")
CELERY: Final = Contestant("Celery threads, acks_late", "celery_threads", 3_000)
CELERY_BATCHES: Final = Contestant("celery-batches", "celery_batches", 6_000)
DRAMATIQ: Final = Contestant("Dramatiq threads", "dramatiq_threads", 5_000)
HUEY: Final = Contestant("Huey threads", "huey_threads", 5_000)
RQ: Final = Contestant("RQ, 8 processes", "rq_pool", 400)
ARQ: Final = Contestant("arq", "arq_async", 5_000)
TASKIQ: Final = Contestant("taskiq-redis streams", "taskiq_streams", 10_000)
REQUESTS: Final = Contestant("bare `requests`, no queue", "requests_loop", 6_000, queue=False, work=("run",))
REQUESTS_BATCHES: Final = Contestant(
    "bare `requests` loop of prepared batches", "requests_loop", 40_000, queue=False, work=("run", "batches")
)
CURL: Final = Contestant("bare curl multi, no queue", "curl_loop", 40_000, queue=False, work=("run",))

RIVALS: Final = (CELERY, CELERY_BATCHES, DRAMATIQ, HUEY, RQ, ARQ, TASKIQ, REQUESTS, CURL)


def requirements(script: str) -> list[str]:
    """What the first lines of a rival's script ask for (PEP 723)."""
    lines = (ROOT / "benchmarks" / "rivals" / f"{script}.py").read_text().splitlines()
    block = lines[lines.index("# /// script") + 1 : lines.index("# ///")]
    dependencies: list[str] = tomllib.loads("\n".join(line.removeprefix("# ") for line in block))["dependencies"]
    return dependencies


def install(contestants: tuple[Contestant, ...] = RIVALS) -> None:
    """Make the environments that are missing or out of date."""
    for script in {contestant.script for contestant in contestants} - {"ours"}:
        folder, wanted = ENVIRONMENTS / script, requirements(script)
        stamp = folder / "installed.txt"
        if stamp.exists() and stamp.read_text().splitlines() == wanted:
            continue
        print(f"installing {', '.join(wanted)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", *wanted], check=True)
        stamp.write_text("\n".join(wanted))


def versions(contestant: Contestant) -> str:
    """The versions of what it names first and of what it stands on."""
    names = [requirement.partition(">")[0].partition("[")[0] for requirement in requirements(contestant.script)]
    code = "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    names += [] if "redis" in names or not contestant.queue else ["redis"]
    done = subprocess.run([contestant.python(), "-c", code, *names], capture_output=True, text=True, check=True)
    return done.stdout.strip()
