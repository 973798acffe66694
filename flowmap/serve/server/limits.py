"""Limits of every request: sizes and queries at one time. Headers that restrict browsers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowmap.serve.api.problem import SAFE_HEADERS, problem
from flowmap.serve.server.access import Refused

LONGEST_TARGET = 8000
"""Bytes of path and query: clients and proxies support at least 8000 (RFC 9110, section 4.1)."""
LONGEST_HEAD = 16 * 1024
"""Bytes of the head of a request. h11 checks only incomplete heads, so complete ones are checked here."""
LARGEST_BODY = 16 * 1024
"""Bytes of a body that no path reads. It is ignored."""
MAX_QUERIES = 16
"""Queries answered at one time. Scrapes and health checks do not count, so queries never block them."""


class SafeHeaders:
    """ASGI middleware: adds the safe headers to every answer; configured headers replace them."""

    def __init__(self, app: ASGIApp, *, chosen: Callable[[], Mapping[str, str]]) -> None:
        self._app = app
        self._chosen = chosen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
                headers.update(self._chosen())
            await send(message)

        await self._app(scope, receive, send_safe)


class Sizes:
    """ASGI middleware: 505 for HTTP other than 1.x, 414 for a long target, 431 for a long head, 413 for a body.

    A connection that sent a body is closed after the answer: request smuggling lies about where a body ends.
    """

    def __init__(self, app: ASGIApp, *, refused: Refused, bodies: Mapping[str, int]) -> None:
        """``bodies``: the largest body in bytes of each path that reads one."""
        self._app = app
        self._refused = refused
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        largest = self._bodies.get(scope["path"], LARGEST_BODY)
        headers = Headers(scope=scope)
        chunked = "transfer-encoding" in headers
        length = headers.get("content-length", "0").lstrip("0")  # digits only: h11 checks it
        app = self._app
        if scope["http_version"] not in ("1.0", "1.1"):
            app = self._no(505, "This version of HTTP is not supported; use HTTP/1.1.", "malformed")
        elif len(scope.get("raw_path", b"")) + len(scope["query_string"]) > LONGEST_TARGET:
            app = self._no(414, f"The target is longer than {LONGEST_TARGET} bytes.")
        elif sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > LONGEST_HEAD:  # ": ", CR, LF
            app = self._no(431, "The head of the request is too long.")
        elif chunked or len(length) > 9 or int(length or "0") > largest:
            app = self._no(413, f"The body is longer than {largest} bytes, or its length is not given.")

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await app(scope, receive, send_last if chunked or length else send)

    def _no(self, status: int, detail: str, reason: str = "too_large") -> Response:
        self._refused(reason)
        return problem(status, detail, headers={"connection": "close"})


class TargetLimit:
    """ASGI middleware: 503 for a query while :data:`MAX_QUERIES` are being answered."""

    def __init__(
        self, app: ASGIApp, *, areas: Mapping[str, str], refused: Refused, except_for: Collection[str] = ()
    ) -> None:
        """``areas``: as for the guard. ``except_for``: paths that have a limit of their own."""
        self._app = app
        self._areas = areas
        self._except_for = except_for
        self._refused = refused
        self._answering = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limited = scope["type"] == "http" and self._areas.get(scope["path"], "query") == "query"
        if not limited or scope["path"] in self._except_for:
            await self._app(scope, receive, send)
        elif self._answering >= MAX_QUERIES:
            self._refused("queries")
            refusal = problem(503, "Too many queries at once; try again.", headers={"retry-after": "1"})
            await refusal(scope, receive, send)
        else:
            self._answering += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._answering -= 1
