"""The HTTP server in the event loop of the daemon: listens, accepts connections and closes them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine, Generator

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
"""Seconds a connection may be idle between two requests: longer than the usual scrape interval."""
LOOKUP_SECONDS = 10.0
"""Longest wait for the address of a host name in ``http.listen``."""
STOP_SECONDS = 3
"""Seconds for running requests when the server stops."""
REJECTED = 32
"""Rejected connections that receive a 503 at one time; more are closed without an answer."""
_NO_DESCRIPTOR = 0.2  # seconds until the next accept when the process can open no more files


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
        beside: Callable[[], Coroutine[None, None, None]] | None = None,
    ) -> None:
        """``port`` 0 takes a free one, which ``address`` has after :meth:`start`. ``web`` has the TLS settings;
        ``refused`` counts connections that were rejected or closed, by reason. ``beside`` runs while the server does;
        it is cancelled before the server waits for running requests."""
        self._app = app
        self._host = host
        self._port = port
        self._web = web or Web(HttpConfig())
        self._refused = refused
        self._beside = beside
        self._listener: socket.socket | None = None
        self._server: BareServer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._connections: set[HttpConnection] = set()
        """Admitted connections, also those that are being opened."""
        self._rejected: set[HttpConnection] = set()
        self.address = ""
        """``host:port`` of the listening socket; empty before the start."""

    @property
    def connections(self) -> int:
        """Number of connections: being opened, open, being closed, or rejected."""
        return len(self._connections) + len(self._rejected)

    @property
    def url(self) -> str:
        return f"{'http' if self._web.context is None else 'https'}://{self.address}"

    @property
    def serves(self) -> bool:
        """Whether it was started and has not ended."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def bind(self, listener: socket.socket | None = None) -> None:
        """Listen, or use a listening socket. Nothing is answered yet. SourceError if the address cannot be used."""
        self._listener = listener or listen(self._host, self._port)
        host, port = self._listener.getsockname()[:2]
        self.address = format_endpoint(host, port)

    async def start(self) -> None:
        """Serve in a task of the running loop. SourceError if the address cannot be used."""
        if self._listener is None:
            self.bind()
        assert self._listener is not None, "bind sets it"
        self._server = BareServer(uvicorn_config(self._app))
        if self._web.passwords is not None and self._web.context is None and not self._web.http.listen.is_loopback:
            log.warning("http.users without http.tls: passwords cross the network unencrypted; set http.tls")
        self._tasks = [
            asyncio.create_task(self._server.serve(), name="http"),
            asyncio.create_task(self._accept(self._listener), name="http accept"),
            asyncio.create_task(self._web.watch(), name="http settings"),
        ]
        if self._beside is not None:
            self._tasks.append(asyncio.create_task(self._beside(), name="http streams"))
        while not self._server.started and not self._tasks[0].done():
            await asyncio.sleep(0.005)
        if self._tasks[0].done():
            await self._tasks[0]

    async def wait(self) -> None:
        """Wait until the server has stopped. Raises the error that ended it, if any."""
        if self._tasks:
            await asyncio.shield(self._tasks[0])

    async def stop(self) -> None:
        """Stop listening, wait at most ``STOP_SECONDS`` for running requests, close. Safe to call twice."""
        if self._server is None:
            return
        serving, *others = self._tasks
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self._server.should_exit = True
        _, late = await asyncio.wait([serving], timeout=STOP_SECONDS)
        # Close the connections first: uvicorn logs no error about a request whose client is gone.
        for connection in (*self._connections, *self._rejected):
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
                except OSError:  # no descriptor left, or the client has closed
                    self._refused("accept")
                    await asyncio.sleep(_NO_DESCRIPTOR)
                    continue
                self._admit(accepted, client_network(address[0]))

    def _admit(self, accepted: socket.socket, network: str) -> None:
        """Admit a connection, close an idle one for it, or reject it."""
        assert self._server is not None
        reason = over_limit(self._connections, network)
        if reason:
            among = network if reason == "client" else None
            idle = evict_idle(self._connections, among, asyncio.get_running_loop().time())
            if isinstance(idle, HttpConnection):
                self._refused("idle")
                self._connections.discard(idle)
                idle.evict()
                reason = ""
        if reason:
            self._refused(reason)
            if len(self._rejected) >= REJECTED:
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
        (self._rejected if reason else self._connections).add(connection)
        connection.open(accepted, self._web.context)

    def _ended(self, connection: HttpConnection) -> None:
        self._connections.discard(connection)
        self._rejected.discard(connection)


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


def uvicorn_config(app: ASGIApp) -> uvicorn.Config:
    async def until_cancelled(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # only ``stop`` cancels; uvicorn would log a traceback
            await app(scope, receive, send)

    return uvicorn.Config(
        until_cancelled,
        http=HttpConnection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",  # errors of clients are counted, not logged
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        h11_max_incomplete_event_size=LONGEST_HEAD,
    )


class BareServer(uvicorn.Server):
    """uvicorn's server without sockets and signal handlers: :class:`HttpServer` and the daemon have their own."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        self.servers: list[asyncio.base_events.Server] = []
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
