import pytest

from postback import ConfigurationError
from postback._send.producer import Producer
from postback.wire.broker import Broker, parse_broker


@pytest.mark.parametrize(
    "url",
    ["", "localhost", "amqp://h", "redis://:pa/ss@h/0", "redis://:pa#ss@h/0", "redis://:12/pass@h", "redis://h:port/0",
     "sentinel://:pass@a:1;sentinel://b:2/0", "redis+sentinel://:pa/ss@a:1/0?master_name=m"],
)  # fmt: skip
def test_bad_urls(url, monkeypatch):
    """A URL that cannot be used is refused by the variable's name; nothing of it is repeated."""
    monkeypatch.delenv("POSTBACK_SENTINEL_MASTER", raising=False)
    with pytest.raises(ConfigurationError, match="POSTBACK_BROKER_URL") as caught:
        parse_broker(url)
    assert "pass" not in str(caught.value).replace("password", "")


def test_sentinel_hosts():
    """Comma-separated hosts become kombu's list; the master's name becomes an option."""
    broker = parse_broker("redis+sentinel://:pw@a:26379,b:26380/3?master_name=mymaster")
    assert broker.url == "sentinel://:pw@a:26379/3;sentinel://b:26380/3"
    assert broker.options == {"master_name": "mymaster"}


def test_the_master_may_come_from_the_environment(monkeypatch):
    """POSTBACK_SENTINEL_MASTER, as the workers read it."""
    monkeypatch.setenv("POSTBACK_SENTINEL_MASTER", "m")
    assert parse_broker("sentinel://a:1;sentinel://b:2/0").options == {"master_name": "m"}


def test_tls_verifies_by_default():
    """A rediss:// URL without a word about certificates checks them."""
    assert parse_broker("rediss://h/0").url == "rediss://h/0?ssl_cert_reqs=CERT_REQUIRED"
    assert parse_broker("rediss://h/0?ssl_cert_reqs=CERT_NONE").url == "rediss://h/0?ssl_cert_reqs=CERT_NONE"


def test_the_password_is_not_shown():
    """Neither the repr nor a masked message holds it."""
    broker = parse_broker("redis://:s%2Fcret@h/0")
    assert "cret" not in repr(broker)
    assert broker.mask("AUTH s/cret failed") == "AUTH ** failed"


@pytest.mark.parametrize("seconds", ["0", "-1", "x", "nan", "1e9"])
def test_a_bad_time_limit(monkeypatch, seconds):
    """The variable is named."""
    monkeypatch.setenv("POSTBACK_SEND_TIMEOUT_S", seconds)
    with pytest.raises(ConfigurationError, match="POSTBACK_SEND_TIMEOUT_S"):
        Producer(Broker("redis://h/0"))
