"""The HTTP transport against a raw socket that misbehaves, and against certificates that are wrong."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import struct
import tracemalloc
from pathlib import Path

import pytest

from flowmap.control.http.route import Route
from flowmap.control.http.transport import HttpTransport
from flowmap.control.http.transport_api import HttpReply
from flowmap.errors import ControlError, ProtocolError, Transient
from tests.support.control_clients import everything_of
from tests.support.http_server import OK, Behaviour, body, sends, server

TLS = Path(__file__).parents[2] / "data/tls"


def send(url: str, *, timeout: float = 5.0, tls: ssl.SSLContext | None = None, limit: int = 1 << 20) -> HttpReply:
    async def run() -> HttpReply:
        transport = HttpTransport(Route(tls=tls), wire_limit=limit, body_limit=limit)
        try:
            return await transport.send("GET", f"{url}/x?token=canary", {"authorization": "canary"}, timeout=timeout)
        finally:
            await transport.aclose()

    return asyncio.run(run())


def resets(connection: socket.socket) -> None:
    connection.sendall(OK + b"content-length: 100\r\n\r\nhalf")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def never_ends(connection: socket.socket) -> None:
    connection.sendall(OK + b"transfer-encoding: chunked\r\n\r\n")
    for _ in range(10_000):
        connection.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")


def stays_silent(connection: socket.socket) -> None:
    connection.recv(1)


def never_ends_its_headers(connection: socket.socket) -> None:
    connection.sendall(OK)
    for number in range(100_000):
        connection.sendall(b"x-%d: y\r\n" % number)


def pieces(sent: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in sent]


PACKED = gzip.compress(b"{}" * 100)
MEMBERS = gzip.compress(b"{}" * 50) + gzip.compress(b"") + gzip.compress(b"[]")
EMPTY = gzip.compress(b"")

ANSWERS: list[tuple[str, Behaviour, bytes]] = [
    ("plain", sends(body(b"{}")), b"{}"),
    ("in pieces", sends(*pieces(body(b"{}"))), b"{}"),
    ("until close", sends(OK + b"\r\n", b"{", b"}"), b"{}"),
    ("chunked", sends(OK + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"), b"{}"),
    ("gzip", sends(body(PACKED, b"Content-Encoding: GZip")), b"{}" * 100),
    ("gzip members", sends(body(MEMBERS, b"content-encoding: gzip")), b"{}" * 50 + b"[]"),
    ("gzip members in pieces", sends(*pieces(body(MEMBERS, b"content-encoding: gzip"))), b"{}" * 50 + b"[]"),
    ("identity", sends(body(b"{}", b"content-encoding: identity")), b"{}"),
    ("no body", sends(body(b"")), b""),
]


@pytest.mark.parametrize(("name", "behave", "content"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_answers(name: str, behave: Behaviour, content: bytes) -> None:
    with server(behave) as url:
        reply = send(url)
    assert (reply.status, reply.body) == (200, content)
    assert all(header == header.lower() for header in reply.headers)


FAILURES: list[tuple[str, Behaviour, type[ControlError], str]] = [
    ("closes", sends(), Transient, "transient"),
    ("closes in the headers", sends(OK), Transient, "transient"),
    ("closes in the body", sends(OK + b"content-length: 9\r\n\r\nhalf"), Transient, "transient"),
    ("closes in a chunk", sends(OK + b"transfer-encoding: chunked\r\n\r\n9\r\nhal"), Transient, "transient"),
    ("resets", resets, Transient, "transient"),
    ("garbage", sends(b"SSH-2.0-OpenSSH_9.2\r\n"), Transient, "transient"),
    ("binary", sends(bytes(range(256)) * 8), Transient, "transient"),
    ("bad length", sends(OK + b"content-length: many\r\n\r\n"), Transient, "transient"),
    ("two lengths", sends(OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nx"), Transient, "transient"),
    ("headers without end", never_ends_its_headers, Transient, "transient"),
    ("silence", stays_silent, Transient, "timeout"),
    ("body without end", never_ends, ProtocolError, "protocol"),
    ("large body", sends(body(b" " * (2 << 20))), ProtocolError, "protocol"),
    ("bomb", sends(body(gzip.compress(b" " * (32 << 20)), b"content-encoding: gzip")), ProtocolError, "protocol"),
    ("not gzip", sends(body(b"{}", b"content-encoding: gzip")), ProtocolError, "malformed"),
    ("cut gzip", sends(body(PACKED[:-9], b"content-encoding: gzip")), ProtocolError, "malformed"),
    ("empty gzip", sends(body(b"", b"content-encoding: gzip")), ProtocolError, "malformed"),
    ("cut gzip member", sends(body(MEMBERS[:-9], b"content-encoding: gzip")), ProtocolError, "malformed"),
    ("gzip and more", sends(body(PACKED + b"more", b"content-encoding: gzip")), ProtocolError, "malformed"),
    ("too many gzip members", sends(body(EMPTY * 1001, b"content-encoding: gzip")), ProtocolError, "protocol"),
    ("brotli", sends(body(b"{}", b"content-encoding: br")), ProtocolError, "protocol"),
    ("gzip twice", sends(body(b"{}", b"content-encoding: gzip, gzip")), ProtocolError, "protocol"),
]


@pytest.mark.parametrize(("name", "behave", "error", "reason"), FAILURES, ids=[row[0] for row in FAILURES])
def test_failures(name: str, behave: Behaviour, error: type[ControlError], reason: str) -> None:
    with server(behave) as url, pytest.raises(ControlError) as caught:
        send(url, timeout=0.5 if name == "silence" else 10.0)
    assert (type(caught.value), caught.value.reason) == (error, reason)
    assert not [text for text in everything_of(caught.value) if "canary" in text]


def test_a_body_of_exactly_the_limit_passes() -> None:
    content = b" " * 1000
    for sent in (body(content), body(gzip.compress(content), b"content-encoding: gzip")):
        with server(sends(sent)) as url:
            assert send(url, limit=1000).body == content
    over = sends(body(gzip.compress(content + b" "), b"content-encoding: gzip"))
    with server(over) as url, pytest.raises(ProtocolError, match="after gzip"):
        send(url, limit=1000)


def test_a_bomb_takes_no_memory() -> None:
    bomb = body(gzip.compress(bytes(64 << 20), compresslevel=1), b"content-encoding: gzip")
    with server(sends(bomb)) as url:
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError, match="after gzip"):
                send(url, limit=1 << 20)
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()


def context(certificate: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(TLS / f"{certificate}.pem")
    return made


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(TLS / "ca.pem"))


def test_a_good_certificate() -> None:
    with server(sends(body(b"{}")), context("good")) as url:
        assert send(url, tls=trusting()).body == b"{}"


@pytest.mark.parametrize(
    ("certificate", "trust", "said"),
    [("good", False, "certificate verify"), ("other-host", True, "127.0.0.1"), ("expired", True, "expired")],
)
def test_wrong_certificates_are_refused(certificate: str, trust: bool, said: str) -> None:
    with server(sends(body(b"{}")), context(certificate)) as url, pytest.raises(Transient, match=said) as caught:
        send(url, tls=trusting() if trust else None)
    assert caught.value.reason == "tls"


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 70 + ".invalid"])
def test_names_that_do_not_resolve(host: str) -> None:
    with pytest.raises(Transient, match=f"^cannot resolve {host}: ") as caught:
        send(f"http://{host}:1")
    assert caught.value.reason == "dns"


def test_redirects_are_given_back_and_not_followed() -> None:
    with server(sends(b"HTTP/1.1 302 Found\r\nlocation: /y\r\ncontent-length: 0\r\n\r\n")) as url:
        assert send(url).status == 302


def test_cookies_are_not_kept() -> None:
    seen: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        for _ in range(2):
            connection.sendall(OK + b"set-cookie: a=b\r\ncontent-length: 0\r\n\r\n")
            seen.append(connection.recv(65536))

    async def twice(url: str) -> None:
        transport = HttpTransport()
        for _ in range(2):
            await transport.send("GET", url, {}, timeout=5.0)
        await transport.aclose()

    with server(behave) as url:
        asyncio.run(twice(url))
    assert seen and b"cookie" not in b"".join(seen).lower()
