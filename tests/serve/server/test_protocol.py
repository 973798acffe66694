"""Clients that mean no good, by raw sockets, over plain HTTP and TLS: slow ones, many of them, forged requests.

No deadline of the server is waited for as it is: all are made short, and what is asserted is that the server ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from flowmap.config import HttpConfig
from flowmap.export.exposition import Exposition
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.model.views import FlowFilter, FlowPage
from flowmap.serve.api.app import build_app
from flowmap.serve.server import connection_limits, limits, protocol
from flowmap.serve.server import server as server_module
from flowmap.serve.server.server import HttpServer
from flowmap.serve.server.web import Web
from tests.support.certificates import Authority
from tests.support.fake_backend import FakeBackend

READY = b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a client does, it is no error of ours."""
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("pki"))
    made.issue("server", "127.0.0.1")
    return made


class Target:
    """A server under attack."""

    def __init__(self, server: HttpServer, metrics: SelfMetrics, trust: ssl.SSLContext | None) -> None:
        self.server = server
        self._metrics = metrics
        self._trust = trust
        self._writers: list[asyncio.StreamWriter] = []

    async def hang_up(self) -> None:
        """End every connection of the attackers."""
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self._writers.clear()

    def refused(self) -> dict[str, int]:
        """What was refused so far, by reason."""
        start = "flowmap_http_refused_total{reason="
        lines = [line for line in self._metrics.text().splitlines() if line.startswith(start)]
        counts = {line.split('"')[1]: int(float(line.split()[-1])) for line in lines}
        return {reason: count for reason, count in counts.items() if count}

    @property
    def port(self) -> int:
        return int(self.server.address.rpartition(":")[2])

    async def connect(
        self, begin: bytes = b"", *, source: str = "127.0.0.1", trust: bool = True, receive_buffer: int = 0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection from ``source``, with what it says first; ``trust`` False leaves out the TLS handshake."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        sock.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        tls: dict[str, Any] = {"ssl": self._trust, "server_hostname": "127.0.0.1"} if self._trust and trust else {}
        reader, writer = await asyncio.open_connection(sock=sock, **tls)
        self._writers.append(writer)
        writer.write(begin)
        return reader, writer

    async def exchange(self, request: bytes, **options: Any) -> bytes:
        """What comes back until the server closes."""
        reader, _ = await self.connect(request, **options)
        answer = b""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while piece := await reader.read(1 << 16):
                    answer += piece
        return answer

    async def alone(self) -> None:
        """Wait until the server holds no connection."""
        async with asyncio.timeout(20):
            while self.server.connections:
                await asyncio.sleep(0.01)


@pytest.fixture(params=["plain", "tls"])
def attack(request: pytest.FixtureRequest, authority: Authority) -> Callable[..., Any]:
    """Opens a :class:`Target` of the backend given."""
    with_tls = request.param == "tls"

    @contextlib.asynccontextmanager
    async def target(backend: FakeBackend | None = None, **http: object) -> AsyncIterator[Target]:
        files = {
            "cert_file": str(authority.directory / "server.pem"),
            "key_file": str(authority.directory / "server.key"),
        }
        metrics = SelfMetrics("test")
        web = Web(HttpConfig.model_validate(http | ({"tls": files} if with_tls else {})))
        app = build_app(backend or FakeBackend(), Exposition(metrics), web)
        server = HttpServer(app, "127.0.0.1", 0, web=web, refused=metrics.http_refused)
        await server.start()
        made = Target(server, metrics, authority.trusting() if with_tls else None)
        try:
            yield made
        finally:
            await made.hang_up()
            await server.stop()

    return target


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """All deadlines a fraction of a second."""
    for name in ("HEAD_DEADLINE", "ANSWER_DEADLINE", "CLOSE_DEADLINE", "REFUSAL_DEADLINE"):
        monkeypatch.setattr(protocol, name, 0.2)
    monkeypatch.setattr(server_module, "KEEP_ALIVE", 0.2)


BODY = b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"

SLOW = [
    b"",
    b"G",
    b"GET /-/ready HTTP/1.1\r\nHost: loc",
    READY + b"GET /metr",
    READY,
    BODY + b"abc",
    BODY.replace(b"Content-Length: 10", b"Transfer-Encoding: chunked") + b"5\r\nab",
    b"POST /-/ready HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
]


@pytest.mark.usefixtures("short")
def test_who_never_finishes_is_cut(attack: Callable[..., Any]) -> None:
    async def run() -> None:
        async with attack() as target:
            for begin in SLOW:
                await target.connect(begin)
            assert target.server.connections
            await target.alone()

    asyncio.run(run())


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("begin", [b"GET / HTTP/1.1\r\nX: ", READY + b"GET / HTTP/1.1\r\nX: ", BODY])
def test_who_drips_is_cut(attack: Callable[..., Any], begin: bytes) -> None:
    """Each byte comes long before any deadline."""

    async def run() -> None:
        async with attack() as target:
            _, writer = await target.connect(begin)
            async with asyncio.timeout(20):
                while not writer.transport.is_closing():
                    writer.write(b"x")
                    await asyncio.sleep(0.02)
            await target.alone()

    asyncio.run(run())


LARGE = FakeBackend(20_000)
"""Its page is larger than all buffers between the server and a client that does not read."""

KEPT = SCRAPE.replace(b"Connection: close\r\n", b"")


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("begin", [SCRAPE, KEPT, READY * 300 + KEPT], ids=["last", "kept", "many"])
@pytest.mark.parametrize("reads", [False, True])
def test_who_never_reads_or_hardly_is_cut(attack: Callable[..., Any], begin: bytes, reads: bool) -> None:
    async def run() -> None:
        async with attack(LARGE) as target:
            _, writer = await target.connect(begin, receive_buffer=4096)
            transport: Any = writer.transport
            transport.pause_reading()
            async with asyncio.timeout(20):
                while not target.refused():
                    if reads:
                        transport.resume_reading()
                        await asyncio.sleep(0)
                        transport.pause_reading()
                    await asyncio.sleep(0.02)
            await target.alone()
            assert target.refused() == {"deadline": 1}

    asyncio.run(run())


HELLOS = [
    b"",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"\x16\x03\x01\xff\xff",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x80\x2e\x01\x00\x02",
]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("hello", HELLOS)
def test_a_handshake_that_never_ends_is_cut(authority: Authority, hello: bytes) -> None:
    async def run() -> None:
        files = {
            "cert_file": str(authority.directory / "server.pem"),
            "key_file": str(authority.directory / "server.key"),
        }
        metrics = SelfMetrics("test")
        web = Web(HttpConfig.model_validate({"tls": files}))
        server = HttpServer(
            build_app(FakeBackend(), Exposition(metrics), web), "127.0.0.1", 0, web=web, refused=metrics.http_refused
        )
        await server.start()
        target = Target(server, metrics, None)
        await target.connect(hello)
        while not server.connections and not target.refused():
            await asyncio.sleep(0.01)
        await target.alone()
        assert target.refused() == {"handshake": 1}
        await target.hang_up()
        await server.stop()

    asyncio.run(run())


FORGED = [
    b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    b"Content-Length: 0\r\nContent-Length: 30\r\n\r\n",
    b"Content-Length: 0, 30\r\n\r\n",
    b"Content-Length: +0\r\n\r\n",
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length: 0x1\r\n\r\n",
    b"Content-Length: 99999999999999999999999999\r\n\r\n",
    b"Content-Length : 0\r\n\r\n",
    b"Transfer-Encoding: xchunked\r\n\r\n",
    b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
    b"Content-Length: 3\r\n\r\nabc",
    b"X: a\r\n b\r\nContent-Length: 1\r\n\r\na",
    b"X\x00: a\r\n\r\n",
    b"X: a\rContent-Length: 5\r\n\r\n",
    b"\nContent-Length: 3\n\nabc",
]


def test_nothing_is_smuggled_behind_a_body(attack: Callable[..., Any]) -> None:
    """Whatever a proxy in front would take for one request is answered once at most."""

    async def run() -> None:
        async with attack() as target:
            head = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n"
            for rest in FORGED:
                answer = await target.exchange(head + rest + LAST)
                assert answer.count(b"HTTP/1.1 2") <= 1, rest
                assert b"\nready" not in answer, rest

    asyncio.run(run())


UNDERSTOOD = [
    LAST + b"more",
    LAST.replace(b"GET", b"HEAD") + b"\0" * 100,
    READY.replace(b"HTTP/1.1", b"HTTP/1.0") + READY,
    BODY.replace(b"Content-Length: 10", b"Content-Length: 0") + b"\0garbage\r\n\r\n",
]


def test_nonsense_behind_a_request_does_not_cost_its_answer(attack: Callable[..., Any]) -> None:
    async def run() -> None:
        async with attack() as target:
            for request in UNDERSTOOD:
                assert (await target.exchange(request)).startswith(b"HTTP/1.1 200"), request

    asyncio.run(run())


def test_requests_in_a_row_are_answered_in_order(attack: Callable[..., Any]) -> None:
    async def run() -> None:
        async with attack() as target:
            answer = await target.exchange(READY * 50 + LAST)
            assert answer.count(b"HTTP/1.1 200 OK") == 51

    asyncio.run(run())


LIMITS = [
    (b"GET /?" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 414),
    (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 414),
    (b"GET /" + b"x" * 90_000, 431),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 10_000, 431),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 17_000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n", 413),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
    (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
    (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 505),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
    (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
    (b"GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 403),
    (b"\x16\x03\x01\x02\x00\x01", 400),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
]


def test_sizes_and_kinds(attack: Callable[..., Any]) -> None:
    async def run() -> None:
        async with attack() as target:
            for request, status in LIMITS:
                reader, _ = await target.connect(request)
                async with asyncio.timeout(10):
                    head = (await reader.readuntil(b"\r\n\r\n")).lower()
                assert int(head.split(b" ")[1]) == status, request[:80]
                for part in (b"application/problem+json", b"x-content-type-options: nosniff", b"connection: close"):
                    assert part in head, request[:80]

    asyncio.run(run())


def test_one_client_has_its_share_and_no_more(attack: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "MAX_PER_CLIENT", 3)
    monkeypatch.setattr(connection_limits, "IDLE_GRACE", 60.0)

    async def run() -> None:
        async with attack() as target:
            for _ in range(3):
                await target.connect()
            assert b" 503 " in await target.exchange(LAST)
            assert b" 200 " in await target.exchange(LAST, source="127.0.0.2")
            assert target.refused() == {"client": 1}
            monkeypatch.setattr(connection_limits, "IDLE_GRACE", 0.0)
            assert b" 200 " in await target.exchange(LAST)
            assert target.refused() == {"client": 1, "idle": 1}

    asyncio.run(run())


def test_a_house_full_of_idlers_still_lets_prometheus_in(
    attack: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limits, "IDLE_GRACE", 0.0)

    async def run() -> None:
        async with attack() as target:
            served, kept = await target.connect(READY, source="127.0.0.100")
            await served.readuntil(b"ready\n")
            for n in range(connection_limits.MAX_CONNECTIONS + 5):
                await target.connect(b"GET / HTTP/1.1\r\nX: ", source=f"127.0.0.{n % 20 + 2}")
            assert target.server.connections == connection_limits.MAX_CONNECTIONS
            assert b" 200 " in await target.exchange(SCRAPE, source="127.0.0.101")
            kept.write(LAST)  # who had asked something kept its place
            assert b" 200 " in await served.read()

    asyncio.run(run())


@pytest.mark.usefixtures("short")
def test_one_too_many_is_told_or_dropped_but_never_kept(
    attack: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limits, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(connection_limits, "IDLE_GRACE", 60.0)
    monkeypatch.setattr(protocol, "HEAD_DEADLINE", 60.0)
    monkeypatch.setattr(server_module, "REJECTED", 2)

    async def run() -> None:
        async with attack() as target:
            for _ in range(2):
                await target.connect()
            for _ in range(4):
                with contextlib.suppress(ConnectionError):
                    await target.connect(trust=False)
            async with asyncio.timeout(10):
                while target.server.connections > 2 or target.refused().get("connections") != 4:
                    await asyncio.sleep(0.01)

    asyncio.run(run())


class SlowBackend(FakeBackend):
    """Answers flows when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.waiting = 0

    async def flows(self, filter: FlowFilter, limit: int, cursor: str | None) -> FlowPage:
        self.waiting += 1
        await self.go.wait()
        return await super().flows(filter, limit, cursor)


def test_queries_leave_room_for_scrapes(attack: Callable[..., Any]) -> None:
    query = b"GET /api/v1/flows HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    async def run() -> None:
        backend = SlowBackend()
        async with attack(backend) as target:
            asked = [asyncio.create_task(target.exchange(query)) for _ in range(limits.MAX_QUERIES)]
            while backend.waiting < limits.MAX_QUERIES:
                await asyncio.sleep(0.01)
            assert b" 503 " in await target.exchange(query)
            assert b" 200 " in await target.exchange(SCRAPE)
            assert b" 200 " in await target.exchange(LAST)
            assert target.refused() == {"queries": 1}
            backend.go.set()
            assert all(b" 200 " in answer for answer in await asyncio.gather(*asked))
            assert b" 200 " in await target.exchange(query)

    asyncio.run(run())


def test_half_a_connection_gets_its_answer() -> None:
    async def run() -> None:
        server = HttpServer(build_app(FakeBackend(2000), Exposition(SelfMetrics("test"))), "127.0.0.1", 0)
        await server.start()
        with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2]))) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, SCRAPE.replace(b"Connection: close\r\n", b""))
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := await asyncio.wait_for(loop.sock_recv(client, 1 << 16), 10):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"# EOF" in answer or answer.endswith(b"\n")
        await server.stop()

    asyncio.run(run())


@pytest.mark.parametrize("begin", [b"", SCRAPE[:20], b"GET /api/v1/flows HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_the_stop_waits_for_nobody(attack: Callable[..., Any], begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "STOP_SECONDS", 0.2)

    async def run() -> None:
        backend = SlowBackend()
        async with attack(backend) as target:
            await target.connect(begin)
            async with asyncio.timeout(10):
                while not target.server.connections or (b"flows" in begin and not backend.waiting):
                    await asyncio.sleep(0.01)
                await target.server.stop()
            assert target.server.connections == 0

    asyncio.run(run())
