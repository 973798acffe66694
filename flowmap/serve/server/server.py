"""The HTTP server inside the daemon's own event loop: listens, lets connections in, and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Generator

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from flowmap.config import HttpConfig
from flowmap.errors import SourceError
from flowmap.model.address import format_endpoint
from flowmap.serve.server.access import client_network
from flowmap.serve.server.connection_limits import evict_idle, over_limit
from flowmap.serve.server.limits import LONGEST_HEAD
from flowmap.serve.server.protocol import HttpConnection
from flowmap.serve.server.web import Web
from flowmap.system.names import look_up, lookup_problem

log = logging.getLogger(__name__)

KEEP_ALIVE = 75
"""Seconds a connection may wait between two requests: longer than the usual scrape interval."""
LOOKUP_SECONDS = 10.0
"""Longest wait for the address of a host name in ``http.listen``."""
STOP_SECONDS = 3
"""Seconds that requests in work get when the server stops."""
TURNED_AWAY = 32
"""Connections that are one too many and are told so, at one time; more are closed without a word."""
_NO_DESCRIPTOR = 0.2  # seconds until the next try to accept, when the process can open no more files


class HttpServer:
    """Serves one application on one listening address."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        web: Web | None = None,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``port`` 0 takes a free one; ``address`` tells which after :meth:`start`. ``web`` has the TLS settings;
        ``refused`` counts connections that were not let in or ended, by reason."""
        self._app = app
        self._host = host
        self._port = port
        self._web = web or Web(HttpConfig())
        self._refused = refused
        self._listener: socket.socket | None = None
        self._server: _Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._connections: set[HttpConnection] = set()
        """Those that were let in; with the ones that are being opened."""
        self._turned_away: set[HttpConnection] = set()
        self.address = ""
        """``host:port`` that is really listened on; empty before the start."""

    @property
    def connections(self) -> int:
        """Connections there are: being opened, open, being closed, or about to hear that they are too many."""
        return len(self._connections) + len(self._turned_away)

    @property
    def url(self) -> str:
        return f"{'http' if self._web.context is None else 'https'}://{self.address}"

    @property
    def serves(self) -> bool:
        """Whether it was started and did not end since."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def bind(self, listener: socket.socket | None = None) -> None:
        """Listen, or take a socket that listens already; nothing is answered yet. SourceError if it can't be had."""
        self._listener = listener or listen(self._host, self._port)
        host, port = self._listener.getsockname()[:2]
        self.address = format_endpoint(host, port)

    async def start(self) -> None:
        """Serve from now on in a task of the running loop; SourceError if the address can't be had."""
        if self._listener is None:
            self.bind()
        assert self._listener is not None, "bind leaves one"
        self._server = _Server(_config(self._app))
        if self._web.passwords is not None and self._web.context is None and not self._web.http.listen.is_loopback:
            log.warning("users without TLS: their passwords cross the network in the clear")
        self._tasks = [
            asyncio.create_task(self._server.serve(), name="http"),
            asyncio.create_task(self._accept(self._listener), name="http accept"),
            asyncio.create_task(self._web.watch(), name="http settings"),
        ]
        while not self._server.started and not self._tasks[0].done():
            await asyncio.sleep(0.005)
        if self._tasks[0].done():
            await self._tasks[0]

    async def wait(self) -> None:
        """Until the server has stopped; raises what ended it, if it ended by itself."""
        if self._tasks:
            await asyncio.shield(self._tasks[0])

    async def stop(self) -> None:
        """Stop listening, let requests in work end (at most ``STOP_SECONDS``), close. Safe to call twice."""
        if self._server is None:
            return
        serving, *others = self._tasks
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self._server.should_exit = True
        _, late = await asyncio.wait([serving], timeout=STOP_SECONDS)
        # First the connections: the server does not complain about a request whose client is gone.
        for connection in (*self._connections, *self._turned_away):
            connection.evict()
        if late:
            for task in self._server.server_state.tasks:
                task.cancel()
        await serving

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    accepted, address = await loop.sock_accept(listener)
                except OSError:  # no descriptor left, or the client is gone again
                    self._refused("accept")
                    await asyncio.sleep(_NO_DESCRIPTOR)
                    continue
                self._admit(accepted, client_network(address[0]))

    def _admit(self, accepted: socket.socket, network: str) -> None:
        """Let a connection in, if need be for another that goes, or to hear that it is one too many."""
        assert self._server is not None
        reason = over_limit(self._connections, network)
        if reason:
            goes = evict_idle(
                self._connections, network if reason == "client" else None, asyncio.get_running_loop().time()
            )
            if isinstance(goes, HttpConnection):
                self._refused("idle")
                self._connections.discard(goes)
                goes.evict()
                reason = ""
        if reason:
            self._refused(reason)
            if len(self._turned_away) >= TURNED_AWAY:
                accepted.close()
                return
        connection = HttpConnection(
            self._server.config,
            self._server.server_state,
            network=network,
            refused=self._refused,
            client_names=self._web.client_names,
            rejected=bool(reason),
            ended=self._ended,
        )
        (self._turned_away if reason else self._connections).add(connection)
        connection.open(accepted, self._web.context)

    def _ended(self, connection: HttpConnection) -> None:
        self._connections.discard(connection)
        self._turned_away.discard(connection)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; SourceError with what the operator can do."""
    where = format_endpoint(host, port)
    try:
        family, kind, protocol, _, address = look_up(host, port, within=LOOKUP_SECONDS, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        reason = lookup_problem(error) or error
        raise SourceError(f"http.listen {where}: {reason}", remedy="give an address of this host") from error
    listener: socket.socket | None = None
    try:
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise SourceError(
            f"cannot listen on {where}: {error.strerror}", remedy="choose another http.listen, or stop what uses it"
        ) from error
    listener.setblocking(False)
    return listener


def _config(app: ASGIApp) -> uvicorn.Config:
    async def until_cancelled(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # only the stop cancels; uvicorn would log a traceback
            await app(scope, receive, send)

    return uvicorn.Config(
        until_cancelled,
        http=HttpConnection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",  # what clients do wrong is counted, not logged line by line
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        h11_max_incomplete_event_size=LONGEST_HEAD,
    )


class _Server(uvicorn.Server):
    """uvicorn's server without its sockets and signal handlers: those are ours and the daemon's."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        self.servers: list[asyncio.base_events.Server] = []
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
