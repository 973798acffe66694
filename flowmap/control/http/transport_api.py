"""The interface of an HTTP transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from flowmap.control.http.route import Route


class HttpReply(NamedTuple):
    """A complete HTTP reply."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """Content with any compression undone."""


class Transport(Protocol):
    """Sends one request and reads the complete answer, over the present route."""

    async def send(self, method: str, url: str, headers: Mapping[str, str], *, timeout: float) -> HttpReply: ...

    def configure(self, route: Route) -> None: ...

    async def aclose(self) -> None: ...
