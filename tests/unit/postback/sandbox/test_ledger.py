from __future__ import annotations

import base64
import json
import threading
from hashlib import sha256

import pytest

from postback.sandbox import fingerprint

SALE = {"user_id": "1", "event_type": "sale"}
SECRET = "s3cr3t-k3y-0f-the-b0t"


def test_fingerprint():
    """A key's fingerprint is the start of its SHA-256."""
    assert fingerprint("KEY") == sha256(b"KEY").hexdigest()[:8]


def everything(client, sandbox):
    texts = [
        client.get(path).body.decode()
        for path in ("/_sandbox/", "/_sandbox/ledger", "/_sandbox/stats", "/_sandbox/faults")
    ]
    return "\n".join(
        [*texts, repr(sandbox.ledger()), str(sandbox.stats()), json.dumps([r.to_json() for r in sandbox.ledger()])]
    )


def test_no_key(client, sandbox):
    """No key or token of any provider is in the ledger, the stats, the page or the list of
    faults.
    """
    sandbox.fault("500", key=SECRET, provider="tonai")
    client.tgtrack("add_event", SALE, key=SECRET)
    client.tgtrack("no_such_method", SALE, key=SECRET)
    client.tgtrack(f"{SECRET}/add_event", SALE, key=SECRET)
    client.post(f"/v3/{SECRET}/add_event", SALE)
    client.get(f"/v1/{SECRET}/add_event?key={SECRET}")
    client.mytracker("login", {"customUserId": "1"}, SECRET)
    client.mytracker("login", {"customUserId": "1"}, SECRET, f"?idApp={SECRET}")
    client.tganalytics([], SECRET)
    client.tonai({}, SECRET)
    client.get("/v2/events/1", Authorization=f"Bearer {SECRET}")
    sandbox.revoke("tgtrack", SECRET)
    client.tgtrack("add_event", SALE, key=SECRET)
    shown = everything(client, sandbox)
    assert len(sandbox.ledger()) == 11
    assert SECRET not in shown
    assert fingerprint(SECRET) in shown


def test_record(client, sandbox):
    """A record holds what a test asks for."""
    client.tgtrack("add_event", SALE, headers={"Content-Type": "application/json", "User-Agent": "bot", "Cookie": "x"})
    record = sandbox.ledger()[0]
    assert (record.seq, record.provider, record.method, record.http_method) == (1, "tgtrack", "add_event", "POST")
    assert (record.status, record.code, record.reason, record.recorded) == (200, 200, "recorded", True)
    assert (record.key, record.path, record.events) == (fingerprint("KEY"), "/v1/<key>/add_event", [SALE])
    assert record.headers == {
        "content-type": "application/json",
        "user-agent": "bot",
        "content-length": record.headers["content-length"],
    } | {"accept-encoding": "identity"}


def test_filters(client, sandbox):
    """Records are chosen by provider, method, key, outcome, number and age."""
    client.tgtrack("add_event", SALE, key="A")
    client.tgtrack("add_event", {}, key="B")
    client.tonai({})
    assert [record.seq for record in sandbox.ledger("tgtrack")] == [1, 2]
    assert [record.seq for record in sandbox.ledger(recorded=False)] == [2, 3]
    assert [record.seq for record in sandbox.ledger(since=2)] == [3]
    assert [record.seq for record in sandbox.ledger(key="B")] == [2]
    assert [record.seq for record in sandbox.ledger(method="conversion")] == [3]
    assert [record.seq for record in sandbox.ledger(last=1)] == [3]
    assert sandbox.ledger(last=0) == []


def test_stats(client, sandbox):
    """Counts are kept per provider and per key fingerprint."""
    client.tgtrack("add_event", SALE, key="A")
    sandbox.fault("429", count=1)
    client.tgtrack("add_event", SALE, key="B")
    client.mytracker("loginBatch", [{"customUserId": "1"}] * 3)
    stats = sandbox.stats()
    assert {name: stats[name] for name in ("requests", "accepted", "recorded", "events", "429")} == {
        "requests": 3,
        "accepted": 2,
        "recorded": 2,
        "events": 4,
        "429": 1,
    }
    assert stats["providers"]["tgtrack"]["requests"] == 2
    assert stats["providers"]["tgtrack"]["keys"][fingerprint("B")]["429"] == 1


def test_bodies_bounded(make, connect):
    """With bounded bodies the oldest are dropped; counts stay exact."""
    sandbox = make(keep_bodies=2)
    client = connect(sandbox)
    for _ in range(5):
        client.tgtrack("add_event", SALE)
    assert [record.body is not None for record in sandbox.ledger()] == [False, False, False, True, True]
    assert (len(sandbox.events()), sandbox.stats()["events"]) == (2, 5)


def test_records_bounded(make, connect):
    """With bounded records the oldest are dropped; numbers and counts go on."""
    sandbox = make(keep_records=2)
    client = connect(sandbox)
    for _ in range(5):
        client.tgtrack("add_event", SALE)
    assert [record.seq for record in sandbox.ledger()] == [4, 5]
    assert sandbox.stats()["requests"] == 5


def test_file(make, connect, tmp_path):
    """The ledger file has a line per request, is appended to, and holds no key."""
    path = tmp_path / "ledger.jsonl"
    for _ in range(2):
        sandbox = make(ledger_file=path)
        connect(sandbox).tgtrack("add_event", SALE, key=SECRET)
        sandbox.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["events"] for line in lines] == [[SALE], [SALE]]
    assert json.loads(base64.b64decode(lines[0]["body"])) == SALE
    assert SECRET not in path.read_text()


def test_readable_after_close(make, connect):
    """A closed sandbox can still be asked what happened."""
    sandbox = make()
    connect(sandbox).tgtrack("add_event", SALE)
    sandbox.close()
    assert sandbox.events() == [SALE]


def test_wait_for(client, sandbox):
    """Waiting ends as soon as a request makes the predicate true."""
    thread = threading.Thread(target=lambda: [client.tgtrack("add_event", SALE) for _ in range(3)])
    thread.start()
    sandbox.wait_for(lambda s: s.stats()["events"] == 3, timeout_s=10)
    thread.join(10)
    assert len(sandbox.events()) == 3


def test_wait_for_truth(sandbox):
    """What is already true is not waited for."""
    sandbox.wait_for(lambda s: True, timeout_s=0)


def test_wait_for_in_vain(client, sandbox):
    """Waiting in vain ends with an error that tells what came instead."""
    client.tgtrack("add_event", {})
    with pytest.raises(TimeoutError, match=r"1 requests, the latest: tgtrack\.add_event user_id is missing"):
        sandbox.wait_for(lambda s: s.events(), timeout_s=0.01)


def test_listener(make, connect):
    """A listener sees every record."""
    seen = []
    sandbox = make(listener=seen.append)
    connect(sandbox).tgtrack("add_event", SALE)
    assert [record.method for record in seen] == ["add_event"]


def test_reset(client, sandbox):
    """A reset forgets requests, faults, rules, revoked keys and counters, and goes on counting
    seq.
    """
    sandbox.set_limits("tgtrack", "1/day")
    client.tgtrack("add_event", SALE)
    sandbox.fault("500")
    sandbox.refuse("tgtrack", "user_id", "1")
    sandbox.revoke("tgtrack", "KEY")
    sandbox.reset()
    assert (sandbox.ledger(), sandbox.stats()["requests"]) == ([], 0)
    assert client.tgtrack("add_event", SALE).status == 200
    assert sandbox.ledger()[0].seq == 2
