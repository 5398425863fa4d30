import pytest

from postback import ConfigurationError, UnknownAccount
from postback._send.directory import AccountDirectory, names_in_file


class Redis:
    """The announced accounts, and how often they were read."""

    def __init__(self, *fields, **announcements):
        self.fields, self.reads = list(fields), 0
        self.announcements = {f"tgtrack.{name}".encode(): text for name, text in announcements.items()}

    def __call__(self):
        self.reads += 1
        return None if self.fields is None else {**dict.fromkeys(self.fields, b"{}"), **self.announcements}


@pytest.fixture(autouse=True)
def no_file(monkeypatch):
    monkeypatch.delenv("POSTBACK_ACCOUNTS", raising=False)


def test_nothing_known():
    """Where nothing is known the name is taken at its word, and no name means main."""
    directory = AccountDirectory(Redis(b"tonai.main"))
    assert directory.choose("tgtrack", "shop") == "shop"
    assert directory.choose("tgtrack", None) == "main"


def test_the_only_account():
    """Without a name the only account is taken, whatever it is called."""
    assert AccountDirectory(Redis(b"tgtrack.shop")).choose("tgtrack", None) == "shop"


def test_no_only_account():
    """Several accounts and none named main: the caller must say which."""
    with pytest.raises(UnknownAccount, match="account=") as caught:
        AccountDirectory(Redis(b"tgtrack.a", b"tgtrack.b")).choose("tgtrack", None)
    assert (caught.value.provider, caught.value.account, caught.value.known) == ("tgtrack", None, ("a", "b"))


def test_unknown_names_the_known():
    """The refusal names the accounts there are."""
    with pytest.raises(UnknownAccount, match="known: main, shop"):
        AccountDirectory(Redis(b"tgtrack.main", b"tgtrack.shop")).choose("tgtrack", "shpo")


def test_one_read_for_many_events():
    """There is no round trip per event."""
    redis = Redis(b"tgtrack.main")
    directory = AccountDirectory(redis)
    for _ in range(100):
        directory.choose("tgtrack", None)
    assert redis.reads == 1


def test_a_stale_copy_does_not_refuse():
    """An account added since is found by reading once more; a wrong name still fails."""
    redis = Redis(b"tgtrack.main")
    directory = AccountDirectory(redis)
    directory.choose("tgtrack", None)
    redis.fields.append(b"tgtrack.shop")
    assert directory.choose("tgtrack", "shop") == "shop"
    with pytest.raises(UnknownAccount):
        directory.choose("tgtrack", "nope")
    assert redis.reads == 3


def test_a_failed_look_up_fails_nothing():
    """Redis could not be asked: the names known so far hold."""
    redis = Redis(b"tgtrack.shop")
    directory = AccountDirectory(redis)
    directory.choose("tgtrack", None)
    redis.fields = None
    assert directory.choose("tgtrack", None) == "shop"
    assert AccountDirectory(lambda: None).choose("tgtrack", None) == "main"


def test_a_file_keeps_redis_out(tmp_path):
    """With an accounts file Redis is not asked, and other providers stay unknown."""
    file = tmp_path / "accounts.toml"
    file.write_text('[tgtrack.shop]\napi_key = "secret"\n')
    redis = Redis()
    directory = AccountDirectory(redis, path=str(file))
    assert directory.choose("tgtrack", None) == "shop"
    assert directory.choose("tonai", "x") == "x"
    with pytest.raises(UnknownAccount) as caught:
        directory.choose("tgtrack", "main")
    assert redis.reads == 0
    assert "secret" not in repr(vars(directory)) + str(caught.value)


def test_the_cap_comes_with_the_name():
    """An announced `max_queued` is known without a further read."""
    redis = Redis(main=b'{"at": 1, "max_queued": 500}')
    directory = AccountDirectory(redis)
    directory.choose("tgtrack", "main")
    assert directory.cap("tgtrack", "main") == 500
    assert redis.reads == 1


@pytest.mark.parametrize(
    "announcement",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"{}",
        *(b'{"max_queued": %s}' % cap for cap in (b"0", b"-5", b'"9"', b"true", b"[]")),
    ],
)
def test_what_is_no_cap_is_none(announcement):
    """Anybody may write the hash: a cap that is none is no cap, and the account is known all the
    same.
    """
    directory = AccountDirectory(Redis(main=announcement))
    assert directory.choose("tgtrack", "main") == "main"
    assert directory.cap("tgtrack", "main") == 0


def test_an_unknown_account_has_no_cap():
    """Where nothing is known, nothing is capped."""
    assert AccountDirectory(lambda: None).cap("tgtrack", "main") == 0


def test_the_file_has_the_cap(tmp_path):
    """A producer with an accounts file takes the cap from it."""
    file = tmp_path / "accounts.toml"
    file.write_text('[tgtrack.main]\napi_key = "secret"\nmax_queued = 70\n[tgtrack.shop]\napi_key = "x"\n')
    directory = AccountDirectory(Redis(), path=str(file))
    directory.choose("tgtrack", "main")
    assert (directory.cap("tgtrack", "main"), directory.cap("tgtrack", "shop")) == (70, 0)


@pytest.mark.parametrize("content", [None, b"[tgtrack", b'x = "hunter2', b"\xff"])
def test_a_bad_file(tmp_path, content):
    """A file that cannot be read is a sentence that names the variable and quotes nothing."""
    file = tmp_path / "accounts.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="POSTBACK_ACCOUNTS") as caught:
        names_in_file(str(file))
    assert "hunter2" not in str(caught.value).replace(str(tmp_path), "")
