# /// script
# dependencies = ["arq>=0.26,<1", "hiredis>=3", "aiohttp>=3.10,<4"]
# ///
"""arq: asyncio, one aiohttp session; jobs are kept until they are done.

Documents: ``on_startup`` makes what jobs share; ``max_jobs`` is how many run at once.
``poll_delay`` is 0.5 s there, and 100 jobs are read in each poll: 200 a second at most. 10 ms does
arq more justice.
"""

from __future__ import annotations

from typing import Any, ClassVar

import aiohttp
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings

from benchmarks.rivals import AT_ONCE, REDIS_URL, URL, event

WORKER = ("arq", "benchmarks.rivals.arq_async.Settings")
pools: list[ArqRedis] = []


async def startup(context: dict[str, Any]) -> None:
    """Make the session."""
    context["session"] = aiohttp.ClientSession()


async def shutdown(context: dict[str, Any]) -> None:
    """Close it."""
    await context["session"].close()


async def post(context: dict[str, Any], fields: dict[str, Any]) -> None:
    """POST one event."""
    async with context["session"].post(URL, json=fields) as answer:
        answer.raise_for_status()
        await answer.read()


class Settings:
    """What ``arq`` reads."""

    functions: ClassVar = [post]
    on_startup = startup
    on_shutdown = shutdown
    redis_settings = RedisSettings.from_dsn(REDIS_URL)
    max_jobs = int(AT_ONCE)
    keep_result = 0
    poll_delay = 0.01


async def send(number: int) -> None:
    """Enqueue; one pool."""
    if not pools:
        pools.append(await create_pool(Settings.redis_settings))
    await pools[0].enqueue_job("post", event(number))
