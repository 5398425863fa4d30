# /// script
# dependencies = ["taskiq>=0.11,<1", "taskiq-redis>=1,<2", "hiredis>=3", "aiohttp>=3.10,<4"]
# ///
"""taskiq on Redis streams, with acknowledgements: asyncio, one aiohttp session.

Documents: taskiq-redis' README recommends ``RedisStreamBroker``; ``--max-async-tasks`` is how many
run at once.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from benchmarks.rivals import AT_ONCE, REDIS_URL, URL, event

WORKER = ("taskiq", "worker", "benchmarks.rivals.taskiq_streams:broker", "--workers", "1", "--log-level", "WARNING")
WORKER += ("--max-async-tasks", AT_ONCE)
broker = RedisStreamBroker(REDIS_URL)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def startup(state: TaskiqState) -> None:
    """Make the session."""
    state.session = aiohttp.ClientSession()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def shutdown(state: TaskiqState) -> None:
    """Close it."""
    await state.session.close()


@broker.task(task_name="post")
async def post(fields: dict[str, Any], context: Context = TaskiqDepends()) -> None:  # noqa: B008
    """POST one event."""
    async with context.state.session.post(URL, json=fields) as answer:
        answer.raise_for_status()
        await answer.read()


started: list[bool] = []


async def send(number: int) -> None:
    """Enqueue; the broker starts once."""
    if not started:
        await broker.startup()
        started.append(True)
    await post.kiq(event(number))
