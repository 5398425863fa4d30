import pytest

import postback
from postback import NoResult, tgtrack
from postback.testing import collect

EVENT = tgtrack.AddEvent(user_id="1", event_type="x")


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
