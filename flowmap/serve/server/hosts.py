"""The allowed names in the Host header, against DNS rebinding.

A page in a browser can make its own name resolve to 127.0.0.1, and then read this API as its own origin. It cannot
choose the Host header, so only configured names are served. An address in Host is safe: no name was resolved.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from flowmap.serve.api.problem import problem

LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback")


class AllowedHosts:
    """ASGI middleware: 403 for any other host."""

    def __init__(
        self, app: ASGIApp, *, allowed: Sequence[str] = (), refused: Callable[[str], None] = lambda _: None
    ) -> None:
        """``allowed``: names; ``*.example.com`` allows every name below example.com, ``*`` allows every name."""
        self._app = app
        self._refused = refused
        self._names = frozenset(name.lower().rstrip(".") for name in (*LOOPBACK_NAMES, *allowed))
        self._suffixes = tuple(name[1:] for name in self._names if name.startswith("*."))
        self._any = "*" in self._names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.allows(Headers(scope=scope).get("host")):
            self._refused("host")
            refusal = problem(403, "This host name is not served; add it to http.allowed_hosts.")
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def allows(self, host: str | None) -> bool:
        """Whether ``host`` (a Host header) is served. Only HTTP/1.0 clients send none; browsers always send it."""
        if self._any or host is None:
            return True
        name = _host_name(host)
        return name in self._names or bool(self._suffixes and name.endswith(self._suffixes)) or _is_address(name)


def _host_name(host: str) -> str:
    """The name in lower case without port, trailing dot, and brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
