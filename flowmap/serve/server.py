"""uvicorn inside the daemon's own event loop, with the deadlines it lacks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from flowmap.errors import SourceError
from flowmap.flows.address import format_endpoint

MAX_CONNECTIONS = 64
"""Connections served at once; one more is answered with 503."""
HEAD_DEADLINE = 10.0
"""Seconds from a connection's begin, or from a request's first byte, until its head must be there."""
ANSWER_DEADLINE = 60.0
"""Seconds a client may take to receive its answer."""
KEEP_ALIVE = 75
"""Seconds a connection may wait between two requests: longer than the usual scrape interval."""
STOP_SECONDS = 3
"""Seconds that requests in work get when the server stops."""
_LONGEST_HEAD = 16 * 1024


class HttpServer:
    """Serves one application on one listening address."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        """``port`` 0 takes a free one; ``address`` tells which after :meth:`start`."""
        self._app = app
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self.address = ""
        """``host:port`` that is really listened on; empty before the start."""

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    async def start(self) -> None:
        """Listen, and serve from then on in a task of the running loop. SourceError if the address can't be had."""
        listener = listen(self._host, self._port)
        host, port = listener.getsockname()[:2]
        self.address = format_endpoint(host, port)
        self._server = _Server(_config(self._app))
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name="http")
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.005)
        if self._task.done():
            await self._task

    async def wait(self) -> None:
        """Until the server has stopped; raises what ended it, if it ended by itself."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Stop listening, let requests in work end (at most ``STOP_SECONDS``), close. Safe to call twice."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        await self._task


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; SourceError with what the operator can do."""
    where = format_endpoint(host, port)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise SourceError(f"http.listen {where}: {error}", remedy="give an address of this host") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise SourceError(
            f"cannot listen on {where}: {error.strerror}", remedy="choose another http.listen, or stop what uses it"
        ) from error
    listener.setblocking(False)
    return listener


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=DeadlineProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=_LONGEST_HEAD,
    )


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: signals are the daemon's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class DeadlineProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which by itself lets a client take forever over a request's head or an answer.

    One timer a connection: for the head while a request is awaited, for the answer while one is given. Between two
    requests uvicorn's own keep-alive timer holds.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._arm(HEAD_DEADLINE)

    def data_received(self, data: bytes) -> None:
        answering = self._answering()
        super().data_received(data)
        if self._answering():
            if not answering:
                self._arm(ANSWER_DEADLINE)
        elif self._deadline is None:
            self._arm(HEAD_DEADLINE)

    def on_response_complete(self) -> None:
        self._disarm()
        super().on_response_complete()
        if self._answering():
            self._arm(ANSWER_DEADLINE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _answering(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._expired)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expired(self) -> None:
        self._deadline = None
        self.transport.abort()
