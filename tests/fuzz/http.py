"""HTTP: a connection's bytes through the whole stack in memory, and the readers of headers and parameters."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starlette.datastructures import QueryParams

from flowmap.config import HttpConfig
from flowmap.export.exposition import Exposition
from flowmap.export.negotiation import accepts_gzip, choose_format
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.serve.api.app import build_app
from flowmap.serve.api.endpoints import ENDPOINTS
from flowmap.serve.api.parameters import read_parameters
from flowmap.serve.api.problem import BadParameters
from flowmap.serve.server.access import client_network, read_login
from flowmap.serve.server.hosts import AllowedHosts
from flowmap.serve.server.protocol import HttpConnection
from flowmap.serve.server.server import BareServer, uvicorn_config
from flowmap.serve.server.web import Web
from tests.fuzz.target import Target
from tests.support.certificates import HASH
from tests.support.fake_backend import FakeBackend


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self, connection: HttpConnection, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self._connection, self._loop, self._closing = connection, loop, False
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._connection.connection_lost, None)

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Faults(logging.Handler):
    """Errors that the server logged instead of raising them."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


class Stack:
    """The application and what a server needs of its configuration, with or without users."""

    def __init__(self, **http: object) -> None:
        self._loop = asyncio.new_event_loop()
        web = Web(HttpConfig.model_validate(http))
        app = build_app(FakeBackend(), Exposition(SelfMetrics("fuzz")), web)
        self._server = BareServer(uvicorn_config(app))
        self._faults = Faults()
        logging.getLogger().addHandler(self._faults)
        self._loop.set_exception_handler(lambda _, context: self._faults.found.append(str(context)))

    def run(self, data: bytes) -> None:
        """One connection that sends ``data`` in two parts, and is read until it closes or waits."""
        self._loop.run_until_complete(self._talk(data))
        if self._faults.found:
            raise AssertionError(self._faults.found.pop())

    async def _talk(self, data: bytes) -> None:
        connection = HttpConnection(
            self._server.config, self._server.server_state, network="127.0.0.1", refused=lambda _: None
        )
        wire = Wire(connection, self._loop)
        connection.connection_made(wire)
        half = len(data) // 2
        for part in (data[:half], data[half:]):
            if part and not wire.is_closing():  # a transport never hands over nothing
                connection.data_received(part)
            await asyncio.sleep(0)
        while self._server.server_state.tasks:
            await asyncio.sleep(0)
        wire.close()
        await asyncio.sleep(0)
        assert not wire.written or wire.written.startswith(b"HTTP/1.1 ")
        assert b"HTTP/1.1 500" not in wire.written


_stacks: list[Stack] = []


def connection(data: bytes) -> None:
    """A connection to a server without users and to one with."""
    if not _stacks:
        access = {"query": ["ann"], "scrape": ["anonymous"]}
        _stacks.extend((Stack(), Stack(users={"ann": HASH}, access=access)))
    _stacks[data[:1] > b"\x7f"].run(data)


_hosts = AllowedHosts(build_app(FakeBackend(), Exposition(SelfMetrics("fuzz"))), allowed=("*.example",))


def texts(data: bytes) -> None:
    """Each reader of a header or parameter: a value, None, or an error that says why."""
    text = data.decode("utf-8", "surrogateescape")
    choose_format(text)
    accepts_gzip(text)
    read_login([text])
    client_network(text)
    _hosts.allows(data.decode("latin-1"))
    for endpoint in ENDPOINTS:
        for name in endpoint.names():
            try:
                read_parameters(endpoint.parameters, QueryParams([(name, text)]), {})
            except BadParameters as error:
                assert error.problems and all(problem.reason for problem in error.problems)


_SEEDS = (
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n",
    b"GET /api/v1/attribution?srcIp=10.0.0.1&srcPort=1&dstIp=::1&at=0 HTTP/1.1\r\nHost: [::1]:1\r\n\r\n",
    b"GET http://localhost/api/v1/flows?limit=5 HTTP/1.1\r\nHost: a.b\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/v1/flows?limit=5&state=shared&client=1.2.3.4:5 HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /",
    b"\xffGET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic YW5uOng=\r\n\r\n",
    b"HEAD /-/ready HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
)
_TEXTS = (
    b"text/plain;q=0.5, application/openmetrics-text",
    b"gzip;q=0",
    b"Basic YTpi",
    b"[2001:db8::1]:9092",
    b"1.5",
    b"2026-01-31T12:00:00+01:00",
    b"localhost:10817",
    b"tcp",
    b"127.0.0.1",
)

TARGETS = {
    "http": Target("a connection to the HTTP server, in memory", connection, lambda: _SEEDS),
    "texts": Target("headers and parameters, as each is read", texts, lambda: _TEXTS),
}
