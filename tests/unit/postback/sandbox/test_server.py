from __future__ import annotations

import gzip
import json
import random
import socket
import zlib

import pytest

from postback.sandbox.server import Latency

SALE = {"user_id": "1", "event_type": "sale"}


def raw(port, request):
    """Send bytes, return all that comes until the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_keep_alive(client, sandbox):
    """One connection serves many requests."""
    client.tgtrack("add_event", SALE)
    kept = client.connection.sock
    client.tgtrack("add_event", SALE)
    assert client.connection.sock is kept is not None


def test_pipelined(sandbox):
    """Requests sent without waiting are answered in order."""
    request = b"GET /v1/K/add_event HTTP/1.1\r\nHost: x\r\n\r\n"
    assert raw(sandbox.port, request * 3).count(b"HTTP/1.1 405 ") == 3


def test_connection_close(client):
    """A client that wants the connection closed gets it closed."""
    answer = client.post("/v1/KEY/add_event", SALE, {"Content-Type": "application/json", "Connection": "close"})
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_chunked(client, sandbox):
    """A chunked body is put together."""
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    assert client.send("POST", "/v1/KEY/add_event", SALE, headers, chunked=True).status == 200
    assert sandbox.events() == [SALE]


def test_compressed(client, sandbox):
    """Every provider reads a compressed body; a fault and the ledger see what is in it."""
    sandbox.fault(503, contains="sale", count=1)
    headers = {"Content-Type": "application/json", "Content-Encoding": "GZIP"}
    body = gzip.compress(json.dumps(SALE).encode())
    assert [client.tgtrack("add_event", body, headers=headers).status for _ in range(2)] == [503, 200]
    assert sandbox.events() == [SALE]


def test_other_encoding(client, sandbox):
    """A body in any other encoding is not read."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "deflate"}
    assert client.tgtrack("add_event", zlib.compress(json.dumps(SALE).encode()), headers=headers).status == 400
    assert sandbox.events() == []


@pytest.mark.parametrize("path", ["/v1/KEY/add_event", "/_sandbox/ledger", "/nowhere"])
def test_page_reads_nothing_else(client, path):
    """A page in a browser may not read the providers of servers, nor the sandbox's own pages."""
    headers = {"Origin": "http://localhost:5173", "Access-Control-Request-Method": "POST"}
    for method in ("OPTIONS", "GET"):
        assert "access-control-allow-origin" not in client.send(method, path, headers=headers).headers


def test_expect(sandbox):
    """A client that asks first is told to go on."""
    head = b"POST /v1/K/add_event HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"
    assert raw(sandbox.port, head).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 415 ")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / SMTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n{}", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", 413),
    ],
)
def test_not_http(sandbox, request_bytes, status):
    """What is not HTTP is answered once and not recorded."""
    assert raw(sandbox.port, request_bytes).startswith(f"HTTP/1.1 {status} ".encode())
    assert sandbox.ledger() == []


def test_head(sandbox):
    """An answer to HEAD has no body."""
    answer = raw(sandbox.port, b"HEAD /_sandbox/stats HTTP/1.1\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")


def test_no_address(client, sandbox):
    """An address of no provider is 404, and its path stays out of the ledger."""
    assert client.post("/v9/secret", SALE).status == 404
    assert (sandbox.ledger()[0].provider, sandbox.ledger()[0].path) == ("none", "/…")


def test_connection_refused(client, sandbox):
    """A paused sandbox refuses connections, also to a client that had one, and comes back on the
    same port.
    """
    client.tgtrack("add_event", SALE)
    port = sandbox.port
    sandbox.pause_listening()
    client.connection.close()
    with pytest.raises(ConnectionRefusedError):
        client.tgtrack("add_event", SALE)
    sandbox.resume_listening()
    assert (client.tgtrack("add_event", SALE).status, sandbox.port) == (200, port)


def test_pause_drops_kept_connections(client, sandbox):
    """A kept connection does not outlive the pause."""
    client.tgtrack("add_event", SALE)
    sandbox.pause_listening()
    client.connection.sock.settimeout(10)
    assert client.connection.sock.recv(1) == b""


def test_pause_twice(sandbox, client):
    """Pausing or resuming twice changes nothing."""
    sandbox.resume_listening()
    sandbox.pause_listening()
    sandbox.pause_listening()
    sandbox.resume_listening()
    assert client.tgtrack("add_event", SALE).status == 200


def test_close_while_paused(sandbox):
    """A paused sandbox closes cleanly."""
    sandbox.pause_listening()
    sandbox.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sandbox.port), timeout=10)


def test_close_twice(sandbox):
    """Closing twice does no harm."""
    sandbox.close()
    sandbox.close()


def test_latency_parts():
    """A latency lies in its range and is split before and after the decision."""
    latency, rng = Latency((100, 300)), random.Random(1)
    draws = [latency.draw(rng) for _ in range(100)]
    assert all(0.1 <= before + after <= 0.3 and before >= 0 and after >= 0 for before, after in draws)
    assert len({before for before, _ in draws}) > 90


def test_slow_tail():
    """A share of requests takes longer."""
    latency, rng = Latency(slow_probability=0.2, slow_ms=2000), random.Random(1)
    slow = sum(sum(latency.draw(rng)) > 1 for _ in range(1000))
    assert 150 < slow < 250


def test_no_latency():
    """Without latency nothing is waited for."""
    assert Latency().draw(random.Random(1)) == (0, 0)


def test_latency_changed(client, sandbox):
    """Latency can be changed while serving; answers stay the same."""
    sandbox.set_latency((0, 2), slow=(1, 1))
    assert client.tgtrack("add_event", SALE).status == 200
