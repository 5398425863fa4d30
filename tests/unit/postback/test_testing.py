import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from celery.exceptions import TimeoutError

import postback
from postback import NoResult, tgtrack, tonapi
from postback.testing import collect

EVENT = tgtrack.AddEvent(user_id="1", event_type="x")
LOOK_UP = tgtrack.GetUserInfo(user_id="1")


@pytest.fixture(autouse=True)
def no_redis():
    postback.configure(broker_url="redis://127.0.0.1:1/0")
    yield
    postback.configure()


def test_the_outbox_collects_everything():
    """Events compare as they were made; ids and options stand beside them."""
    with collect() as outbox:
        result = EVENT.apply_async(priority=0)
        postback.send_many([EVENT])
    assert outbox == [EVENT, EVENT]
    assert (outbox.sent[0].id, outbox.sent[0].options) == (result.id, {"priority": 0})
    with pytest.raises(NoResult):
        result.get()


def test_wrong_options_fail_as_on_a_real_send():
    """A test must not pass with an option that production refuses."""
    with collect() as outbox, pytest.raises(TypeError):
        EVENT.apply_async(foo=1)
    assert outbox == []


def test_signatures_need_no_redis():
    """A link made in a test looks nothing up."""
    with collect():
        assert EVENT.si().options["queue"] == "tgtrack.main"


def test_the_outbox_ends_with_its_block():
    """Afterwards sends are real again."""
    with collect():
        pass
    with pytest.raises(postback.NotEnqueued):
        EVENT.delay()


def test_assert_sent_says_what_differs():
    """What unittest says is not enough: an event's repr hides what differs."""
    with collect() as outbox:
        EVENT.delay()
    outbox.assert_sent([EVENT])
    with pytest.raises(AssertionError) as failure:
        outbox.assert_sent([tgtrack.AddEvent(user_id="2", event_type="x")])
    assert str(failure.value) == (
        "other events were sent than expected:\n[0] tgtrack.AddEvent.user_id: sent '1', expected '2'"
    )


def test_a_repr_stays_short():
    """Code under test may log an outbox: a person's data is in a failed comparison only."""
    with collect() as outbox:
        tgtrack.AddEvent(user_id="987654321", event_type="x").delay()
    assert "987654321" not in repr(outbox)
    assert "987654321" not in repr(outbox.sent)


def test_no_pytest_is_needed():
    """A project whose tests are unittest's has no pytest."""
    script = "import sys; sys.modules['pytest'] = None; from postback.testing import collect"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])


def test_a_look_up_without_an_answer():
    """It fails at once as one that nobody answers in time, and says what is missing."""
    with collect():
        result = LOOK_UP.delay()
    for get in (lambda: result.get(timeout=60), lambda: asyncio.run(result.aget(timeout=60))):
        with pytest.raises(TimeoutError, match="GetUserInfo was collected, not sent, and has none of the outbox's"):
            get()


def test_a_look_up_with_an_answer():
    """It is there for whoever asks, without Redis; other look-ups go without."""
    with collect() as outbox:
        outbox.answers[tgtrack.GetUserInfo] = {"user_id": "1"}
        result, other = postback.send_many([LOOK_UP, tonapi.GetEvent(event_id="0" * 64)])
    assert asyncio.run(result.aget()) == result.get() == {"user_id": "1"}
    assert result.state == "SUCCESS"
    with pytest.raises(TimeoutError):
        other.get()


def test_a_look_up_that_fails():
    """An exception among the answers is raised."""
    with collect() as outbox:
        outbox.answers[tgtrack.GetUserInfo] = LookupError("rejected")
        result = LOOK_UP.delay()
    with pytest.raises(LookupError):
        asyncio.run(result.aget())
