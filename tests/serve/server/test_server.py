"""A real uvicorn on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import httpx
import pytest

from flowmap.errors import SourceError
from flowmap.export.exposition import Exposition
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.serve.api.app import build_app
from flowmap.serve.server import connection_limits, protocol
from flowmap.serve.server import server as server_module
from flowmap.serve.server.server import HttpServer, listen
from tests.support.fake_backend import FakeBackend
from tests.support.scripted_source import refuse_sockets
from tests.support.waiting import until_async


def make(rows: int = 3, host: str = "127.0.0.1", port: int = 0) -> HttpServer:
    return HttpServer(build_app(FakeBackend(rows), Exposition(SelfMetrics("test"))), host, port)


async def raw(server: HttpServer, request: bytes) -> bytes:
    """What comes back until the server closes."""
    host, port = server.address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def test_serves_and_stops() -> None:
    async def run() -> None:
        server = make()
        await server.start()
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            got = await client.get("/metrics")
            head = await client.head("/metrics", headers={"accept-encoding": "identity"})
            assert got.status_code == head.status_code == 200
            assert "flowmap_series 3" in got.text
            assert head.content == b""
            assert int(head.headers["content-length"]) > 1000
            assert (await client.head("/api/v1/status")).content == b""
            assert (await client.head("/-/ready")).status_code == 200
            assert "server" not in got.headers
        await server.stop()
        await server.stop()
        with pytest.raises(OSError):
            await raw(server, b"")

    asyncio.run(run())


def test_ipv6() -> None:
    async def run() -> None:
        server = make(host="::1")
        try:
            await server.start()
        except SourceError as error:
            pytest.skip(f"no IPv6 loopback here: {error}")
        assert server.address.startswith("[::1]:")
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            assert (await client.get("/-/healthy")).text == "healthy\n"
        await server.stop()

    asyncio.run(run())


def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(SourceError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use") as caught:
            asyncio.run(make(port=port).start())
    assert "http.listen" in caught.value.remedy


@pytest.mark.parametrize(("host", "refused"), [("::", socket.AF_INET6), ("0.0.0.0", socket.AF_INET)])
def test_a_family_that_the_kernel_lacks(host: str, refused: int, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_sockets(monkeypatch, refused)
    with pytest.raises(SourceError, match="cannot listen on .*: Address family not supported by protocol") as caught:
        listen(host, 0)
    assert "http.listen" in caught.value.remedy


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "x" * 80])
def test_address_of_nobody(host: str) -> None:
    with pytest.raises(SourceError, match="listen"):
        listen(host, 0)


def test_large_page_in_pieces() -> None:
    async def run() -> None:
        server = make(rows=20_000)
        await server.start()
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            plain = await client.get("/metrics", headers={"accept-encoding": "identity"})
            packed = await client.get("/metrics", headers={"accept-encoding": "gzip"})
        assert len(plain.content) == int(plain.headers["content-length"]) > 4_000_000
        assert len(packed.text.splitlines()) == len(plain.text.splitlines())
        await server.stop()

    asyncio.run(run())


BAD_REQUESTS = [
    (b"GARBAGE\r\n\r\n", b"400"),
    (b"GET / HTTP/1.1\r\n\r\n", b"400"),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", b"400"),
    (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000, b"431"),
    (b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", b"403"),
    (b"GET /-/ready HTTP/1.0\r\n\r\n", b"200"),
    (b"BREW /-/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"405"),
    (b"GET /%ff%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"404"),
    (b"GET /api/v1/flows?limit=%ff%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"400"),
    (b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade, close\r\n\r\n", b"200"),
]


@pytest.mark.parametrize(("request_bytes", "status"), BAD_REQUESTS)
def test_odd_requests(request_bytes: bytes, status: bytes) -> None:
    async def run() -> None:
        server = make()
        await server.start()
        answer = await raw(server, request_bytes)
        await server.stop()
        assert answer.split(b" ", 2)[1] == status
        assert b"Traceback" not in answer

    asyncio.run(run())


SLOW_ROWS = [
    b"",
    b"GET / HTTP/1.1\r\nHost: loc",
    b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\n\r\nGET /metrics HT",
    b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc",
]


@pytest.mark.parametrize("begin", SLOW_ROWS)
def test_clients_that_never_finish_are_cut(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_DEADLINE", 0.2)
    monkeypatch.setattr(server_module, "KEEP_ALIVE", 1)

    async def run() -> None:
        server = make()
        await server.start()
        with contextlib.suppress(ConnectionResetError):
            await raw(server, begin)
        await server.stop()

    asyncio.run(run())


def test_a_client_that_never_reads_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "ANSWER_DEADLINE", 1.0)

    async def run() -> None:
        server = make(rows=40_000)
        await server.start()
        host, port = server.address.rsplit(":", 1)
        loop = asyncio.get_running_loop()
        with socket.create_connection((host, int(port))) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = await loop.sock_recv(client, 1 << 12)
            await until_async(lambda: server.connections == 0, "the connection is cut")
            received = len(answer)
            with contextlib.suppress(ConnectionResetError):
                while piece := await loop.sock_recv(client, 1 << 20):
                    received += len(piece)
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert received < length
        await server.stop()

    asyncio.run(run())


def test_a_request_in_work_is_answered_before_the_stop() -> None:
    async def run() -> None:
        server = make(rows=20_000)
        await server.start()
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            task = asyncio.create_task(client.get("/metrics"))
            await until_async(lambda: server.connections == 1, "the request has arrived")
            await server.stop()
            assert (await task).status_code == 200

    asyncio.run(run())


def test_too_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(protocol, "REFUSAL_DEADLINE", 0.3)
    monkeypatch.setattr(protocol, "HEAD_DEADLINE", 0.3)

    async def run() -> None:
        server = make()
        await server.start()
        host, port = server.address.rsplit(":", 1)
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
        request = b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert b" 503 " in await raw(server, request)
        for reader, writer in idle:
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
        assert b" 200 " in await raw(server, request)
        await server.stop()

    asyncio.run(run())
