"""Old workers and a newer Redis, as real processes."""

from __future__ import annotations

import pytest

from postback import tgtrack
from postback.wire import formats, keys
from tests.acceptance.evidence import RawClient, dead_letters
from workers.devkit import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_a_worker_that_is_too_old_does_not_start() -> None:
    """It ends with 1 and one line that says why, and takes nothing; once it is new enough, the
    event is delivered.
    """
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits="100000/second")
        stack.configure_producer()
        stack.client().zadd(keys.FORMAT, {formats.KEY_FORMAT_MEMBER: formats.KEY_FORMAT + 1})
        tgtrack.AddEvent(user_id="17", event_type="sale").delay()
        worker = stack.launch_worker("tgtrack")
        stack.workers.append(worker)
        assert worker.process.wait(30) == 1
        (line,) = [line for line in worker.text().splitlines() if "CRITICAL" in line]
        assert f"the keys in Redis have format {formats.KEY_FORMAT + 1}" in line
        assert "Traceback" not in worker.text()
        assert stack.waiting("tgtrack.main") == 1
        assert stack.sandbox.stats()["requests"] == 0
        stack.client().delete(keys.FORMAT)
        stack.start_workers("tgtrack")
        stack.sandbox.wait_for(lambda sandbox: sandbox.stats()["events"] == 1, timeout_s=10)
        assert stack.client().zscore(keys.FORMAT, formats.KEY_FORMAT_MEMBER) == formats.KEY_FORMAT


def test_a_message_that_is_too_new_is_not_sent() -> None:
    """It is a dead letter `malformed` that names the header; messages of this format beside it are
    delivered.
    """
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits="100000/second")
        raw = RawClient(stack)
        for name, number in (("today", formats.MESSAGE_FORMAT), ("tomorrow", formats.MESSAGE_FORMAT + 1)):
            event = {"user_id": name, "event_type": "sale"}
            raw.push("tgtrack.add_event", event, "main", name, **{formats.MESSAGE_FORMAT_HEADER: number})
        stack.start_workers("tgtrack")
        (letter,) = dead_letters(stack, "tgtrack.main", 1)
        assert (letter.id, letter.reason) == ("tomorrow", "malformed")
        assert formats.MESSAGE_FORMAT_HEADER in letter.detail
        stack.sandbox.wait_for(lambda sandbox: sandbox.stats()["events"] == 1, timeout_s=10)
        assert [event["user_id"] for event in stack.sandbox.events("tgtrack")] == ["today"]
