"""One HTTP connection: uvicorn's protocol with deadlines, and with errors as problems.

``tests/serve/server/test_uvicorn.py`` has what this relies on.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from flowmap.serve.api.problem import SAFE_HEADERS, problem
from flowmap.serve.server.progress import PROGRESS
from flowmap.serve.server.tls import names

HEAD_DEADLINE = 10.0
"""Seconds from the start of a connection, or from the first byte of a request, until its head is complete."""
ANSWER_DEADLINE = 60.0
"""Seconds in which a client must receive its answer."""
CLOSE_DEADLINE = 5.0
"""Seconds in which a client must receive the rest when the connection is closed."""
REFUSAL_DEADLINE = 2.0
"""Seconds in which a rejected connection must receive its 503."""

_DETAILS = {
    431: "The head of the request is too long.",
    501: "This transfer encoding is not supported.",
}


class HttpConnection(H11Protocol):
    """uvicorn's HTTP protocol with deadlines; without them a client can hold a connection for ever.

    A connection has one timer: for the head of a request, for receiving an answer, or for closing. Between two
    requests uvicorn's keep-alive timer runs.
    """

    def __init__(
        self,
        config: Config,
        state: ServerState,
        *,
        network: str,
        refused: Callable[[str], None],
        ended: Callable[[HttpConnection], None] = lambda _: None,
        client_names: frozenset[str] = frozenset(),
        rejected: bool = False,
    ) -> None:
        """``network``: the client, for the limits. ``refused`` counts a failure by its reason; ``ended`` is called at
        the end. ``client_names``: the client's certificate must have one; empty: any. ``rejected``: the only answer
        is 503."""
        super().__init__(config, state, {})
        self.network = network
        self.answering = False
        self.answered = 0
        self.since = self.loop.time()
        self.rejected = rejected
        self._opening: asyncio.Task[None] | None = None
        self._refused = refused
        self._ended = ended
        self._client_names = client_names
        self._deadline: asyncio.TimerHandle | None = None
        self.app: ASGIApp = _full if rejected else self._with_progress(self.app)

    def open(self, accepted: socket.socket, context: ssl.SSLContext | None) -> None:
        """Serve an accepted socket, after a TLS handshake if there is a ``context``."""
        self._opening = self.loop.create_task(self._open(accepted, context))

    async def _open(self, accepted: socket.socket, context: ssl.SSLContext | None) -> None:
        times = {}
        if context is not None:
            handshake = REFUSAL_DEADLINE if self.rejected else HEAD_DEADLINE
            times = {"ssl_handshake_timeout": handshake, "ssl_shutdown_timeout": CLOSE_DEADLINE}
        try:
            await self.loop.connect_accepted_socket(lambda: self, accepted, ssl=context, **times)
        except OSError:  # the handshake failed or took too long, or the client closed
            self._refused("handshake")
            self._ended(self)
        except asyncio.CancelledError:
            accepted.close()
            self._ended(self)
            raise

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if self._client_names and not self._client_names & names(transport.get_extra_info("peercert")):
            self._refused("certificate")
            transport.abort()
            return
        self._arm(REFUSAL_DEADLINE if self.rejected else HEAD_DEADLINE)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        self.answered += 1
        self._disarm()
        self.answering = False
        super().on_response_complete()
        self._look()
        if not self.answering:
            self.since = self.loop.time()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._look()

    def shutdown(self) -> None:
        super().shutdown()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        self._ended(self)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's meaning: whether it stays open
        """The client sends no more. Without TLS it may still read the rest of an answer."""
        if self.answering and self.scheme == "http":
            self.cycle.keep_alive = False
            return True
        self._arm(CLOSE_DEADLINE)
        return False

    def evict(self) -> None:
        """Close at once, in any state."""
        if self.transport is not None:
            self.transport.abort()
        elif self._opening is not None:
            self._opening.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer invalid data with a problem, and close. uvicorn calls it after an error of h11, which has a status."""
        self._refused("malformed")
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            # The request before was valid: its answer is the last one.
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if self.conn.our_state is not h11.IDLE:  # an answer was sent, and no other can follow it
            self.transport.abort()
            return
        status = getattr(sys.exc_info()[1], "error_status_hint", 400)
        answer = problem(status if status in _DETAILS else 400, _DETAILS.get(status, "This is not an HTTP request."))
        headers = [*answer.raw_headers, (b"connection", b"close")]
        headers += [(name.encode(), value.encode()) for name, value in SAFE_HEADERS.items()]
        for event in (
            h11.Response(status_code=answer.status_code, headers=headers),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _with_progress(self, app: ASGIApp) -> ASGIApp:
        """``app``, which can grant the client another ``ANSWER_DEADLINE`` for each piece of a stream."""

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), PROGRESS: self._progressed}
            await app(scope, receive, send)

        return run

    def _progressed(self) -> None:
        if self.answering and not self.transport.is_closing():
            self._arm(ANSWER_DEADLINE)

    def _look(self) -> None:
        """Arm the deadline that fits the state."""
        cycle: Any = self.cycle
        if self.transport.is_closing():
            self._arm(CLOSE_DEADLINE)
        elif cycle is not None and not cycle.response_complete:
            if not self.answering:
                self.answering = True
                self._arm(ANSWER_DEADLINE)
        elif self._deadline is None and self.timeout_keep_alive_task is None:
            self._arm(HEAD_DEADLINE)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._expired)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expired(self) -> None:
        self._deadline = None
        if not self.rejected:
            self._refused("deadline")
        self.transport.abort()


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"retry-after": "1", "connection": "close", **SAFE_HEADERS}
    await problem(503, "Too many connections; try again.", headers=headers)(scope, receive, send)
