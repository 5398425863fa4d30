"""High availability: a primary, a replica and a Sentinel; the primary is killed, and workers and
producers go on without help.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

import postback
from postback import tgtrack
from postback.wire import keys
from workers.devkit import Process, RedisServer, Stack, find_binary, free_port, until

MASTER = "postback-test"


@contextmanager
def sentinel_of(primary: RedisServer) -> Iterator[int]:
    """A Sentinel process that watches a primary and fails over after half a second.

    Yields its port.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sentinel.conf"
        path.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {primary.port} 1\n"
            f"sentinel down-after-milliseconds {MASTER} 500\n"
            f"sentinel failover-timeout {MASTER} 3000\n"
        )
        process = Process([find_binary(), path, "--sentinel"], Path(folder) / "log")
        try:
            yield port
        finally:
            process.kill()


def replicas_seen(port: int) -> bool:
    """Whether the Sentinel knows a replica that it could promote."""
    try:
        client = redis.Redis(host="127.0.0.1", port=port, decode_responses=True)
        return any(replica["role-reported"] == "slave" for replica in client.sentinel_slaves(MASTER))
    except (redis.RedisError, KeyError):
        return False


def test_a_failover_loses_nothing_that_was_replicated() -> None:
    """The primary is SIGKILLed between two loads: the same worker finds the new one and delivers
    all, each once.
    """
    with Stack(limits={"tgtrack": None}) as stack, RedisServer() as replica, sentinel_of(stack.redis) as port:
        replica.client().replicaof("127.0.0.1", stack.redis.port)
        until(lambda: replicas_seen(port), 30, "the Sentinel sees the replica", every_s=0.2)
        stack.account("tgtrack.main", limits="100000/second")
        url = f"sentinel://127.0.0.1:{port}"
        (worker,) = stack.start_workers("tgtrack", POSTBACK_BROKER_URL=url, POSTBACK_SENTINEL_MASTER=MASTER)
        postback.configure(broker_url=f"{url}?master_name={MASTER}", accounts={"tgtrack": ["main"]})
        postback.send_many([tgtrack.AddEvent(user_id=str(user), event_type="sale") for user in range(50)])
        stack.sandbox.wait_for(lambda s: s.stats()["events"] == 50, timeout_s=30)
        stack.client().wait(1, 5000)
        stack.redis.kill()
        with pytest.raises(postback.SendError):
            # Nobody is primary yet: an error within the bounded time, and no hang.
            tgtrack.AddEvent(user_id="lost", event_type="sale").delay()
        until(lambda: replica.client().info("replication")["role"] == "master", 30, "the failover", every_s=0.1)
        sent = 0
        while sent < 50:
            try:
                tgtrack.AddEvent(user_id=str(50 + sent), event_type="sale").delay()
                sent += 1
            except postback.SendError:
                continue  # the Sentinel's clients have not all heard of it yet
        stack.sandbox.wait_for(lambda s: s.stats()["events"] >= 100, timeout_s=60)
        until(lambda: replica.client().zcard(keys.flight("tgtrack.main")) == 0, 20)
        counts = Counter(event["user_id"] for event in stack.sandbox.events("tgtrack"))
        counts.pop("lost", None)
        assert set(counts) == {str(user) for user in range(100)}
        assert set(counts.values()) == {1}
        assert worker.alive
