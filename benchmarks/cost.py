"""What the quota costs: Redis time of TAKE and SETTLE, the size of its state, an idle worker, and the time to the wire.

``python -m benchmarks.cost``.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import Any, Final

import redis

from postback import keys, tgtrack
from postback.wire.scripts import Script
from tests.integration.governor.bench import Bench, message
from tests.servers import RedisServer
from tests.stack import Stack, Worker

ROUNDS: Final = 1500


def script_times(client: redis.Redis, limit: int) -> dict[str, float]:
    """Median microseconds of Redis time of each script call, for windows of up to ``limit`` requests."""
    client.flushall()
    bench = Bench(client, windows=[(100_000, 1.0), (100_000, 3600.0), (limit, 86_400.0)])
    bench.take_script, bench.settle_script = Script("workers", "take"), Script("workers", "settle")  # type: ignore[assignment]
    bench.healthy()
    client.hset(keys.meta(bench.queue), mapping={"size": limit, "seq": limit})
    client.setrange(keys.ring(bench.queue), limit * 8 - 1, b"\0")
    bench.push(*(message(f"e{number}", body_bytes=200) for number in range(ROUNDS + 10)))
    client.config_set("slowlog-log-slower-than", 0)
    client.config_set("slowlog-max-len", 10 * ROUNDS)
    client.slowlog_reset()
    for _ in range(ROUNDS):
        (grant,) = bench.take().grants
        bench.settle(grant)
    client.config_set("slowlog-log-slower-than", -1)
    shas = {bench.take_script._sha: "TAKE", bench.settle_script._sha: "SETTLE"}
    times: dict[str, list[int]] = {"TAKE": [], "SETTLE": []}
    for entry in client.slowlog_get(10 * ROUNDS):
        words = entry["command"].split()
        name = shas.get(words[1].decode()) if words[0] == b"EVALSHA" else None
        if name:
            times[name].append(entry["duration"])
    return {name: statistics.median(values) for name, values in times.items()}


def state_bytes(client: redis.Redis) -> int:
    """Bytes of an account's quota state, saturated at 5,000 a day."""
    client.flushall()
    bench = Bench(client, windows=[(3, 1.0), (500, 3600.0), (5000, 86_400.0)])
    client.hset(keys.meta(bench.queue), mapping={"seq": 5000, "last": bench.now_ms, "size": 5000, "healthy": 1})
    client.setrange(keys.ring(bench.queue), 5000 * 8 - 1, b"\0")
    return sum(int(client.memory_usage(name) or 0) for name in (keys.ring(bench.queue), keys.meta(bench.queue)))


def cpu_s(worker: Worker) -> float:
    """Seconds of processor time that a worker has used."""
    with open(f"/proc/{worker.process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_and_latency() -> tuple[float, list[float]]:
    """An idle worker's share of a core, and milliseconds from ``.delay()`` to the request's arrival, sorted."""
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits="1000/second")
        stack.configure_producer()
        (worker,) = stack.start_workers("tgtrack")
        tgtrack.AddEvent(user_id="0", event_type="warm-up").delay()
        stack.sandbox.wait_for(lambda sandbox: sandbox.stats()["requests"] == 1)
        time.sleep(1)
        begun, used = time.monotonic(), cpu_s(worker)
        time.sleep(10)
        share = (cpu_s(worker) - used) / (time.monotonic() - begun)
        taken: list[float] = []
        for number in range(200):
            count = len(stack.sandbox.ledger("tgtrack"))
            sent = time.time()
            tgtrack.AddEvent(user_id=str(number), event_type="sale").delay()

            def arrived(sandbox: Any, count: int = count) -> bool:
                return bool(sandbox.stats()["requests"] > count)

            stack.sandbox.wait_for(arrived)
            taken.append((stack.sandbox.ledger("tgtrack")[-1].at - sent) * 1000)
            time.sleep(0.03 + number % 7 * 0.003)  # at any phase of the worker's look
        return share, sorted(taken)


def main() -> None:
    """Print the figures."""
    with RedisServer() as server:
        client = server.client()
        for limit in (5_000, 100_000):
            times = script_times(client, limit)
            print(
                f"windows up to {limit:>7,}: "
                + ", ".join(f"{name} {us:.0f} us" for name, us in times.items())
                + " (median)"
            )
        print(f"quota state, saturated at 5,000 a day: {state_bytes(client) / 1024:.1f} KB")
    share, taken = idle_and_latency()
    print(f"an idle worker: {share:.1%} of a core")
    print(
        f".delay() to the wire: median {statistics.median(taken):.0f} ms, p99 {taken[int(len(taken) * 0.99) - 1]:.0f} ms"
    )


if __name__ == "__main__":
    main()
